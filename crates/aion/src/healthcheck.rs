//! `aion healthcheck`: asks a daemon whether it is ready, for containers that have no curl.

use std::ffi::OsString;
use std::net::ToSocketAddrs as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Command;
use clap::error::ErrorKind;
use daemon::flags;

use crate::commands::{tell, usage};
use crate::http_client::{Request, send};

const READY: &str = "/-/ready";

fn command() -> Command {
    Command::new("aion healthcheck")
        .about("Asks a daemon on this machine whether it is ready; exits with 0 when it is.")
        .disable_version_flag(true)
        .arg(
            flags::value("http-address", "host:port that the daemon was told to listen on.")
                .env("AION_HTTP_ADDRESS")
                .default_value("0.0.0.0:10902"),
        )
        .arg(flags::value("path", "Path to ask for.").default_value(READY))
        .arg(flags::duration("timeout", "3s", "Time that the daemon may take."))
}

/// Exits with 0 when the daemon is ready, 1 when it is not or does not answer, 2 when asked badly.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("healthcheck")).chain(arguments);
    let flags = match command().try_get_matches_from(words) {
        Ok(flags) => flags,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return tell(&error.to_string()),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return usage(&format!("healthcheck: {first}"));
        }
    };
    let address = flags::text_of(&flags, "http-address");
    let path = flags::text_of(&flags, "path");
    match ask(&address, &path, flags::duration_of(&flags, "timeout")) {
        Ok(answer) => tell(&format!("{answer}\n")),
        Err(error) => {
            tell(&format!("{error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn ask(address: &str, path: &str, timeout: Duration) -> anyhow::Result<String> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.into() };
    let mut resolved = full.to_socket_addrs().with_context(|| format!("resolve {address}"))?;
    let to = resolved.next().with_context(|| format!("{address} has no address"))?;
    let request = Request { method: "GET", path, headers: "", body: &[], timeout };
    let (status, body) = send(to, &request)?;
    if status != 200 {
        bail!("status {status}: {}", body.trim());
    }
    Ok(body.trim().to_owned())
}
