//! What a standalone process says once it is ready: where it is, and how to use it.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use daemon::Context;

use crate::http_client::reachable;
use crate::standalone::arguments::Arguments;

impl Arguments {
    /// The text, for the addresses that are really listened on.
    pub(crate) fn greeting(&self, http: SocketAddr, remote_write: SocketAddr) -> String {
        let (http, remote_write) = (reachable(http), reachable(remote_write));
        let data_dir = self.data_dir();
        let mut text = format!(
            "\naion is ready.\n\n  \
             queries, health, metrics   http://{http}\n  \
             remote write               http://{remote_write}/api/v1/receive\n  \
             data                       {data_dir}\n\n\
             Ask for its own metrics:\n  \
             curl 'http://{http}/api/v1/query?query=up'\n\n\
             Point a Prometheus at it, in its prometheus.yml:\n  \
             remote_write:\n    - url: http://{remote_write}/api/v1/receive\n\n\
             Point a Grafana at it: a data source of type Prometheus with the URL http://{http}\n\n\
             The same as four processes:\n"
        );
        for (command, arguments) in self.as_four().into_iter().flatten() {
            text.push_str(&format!("  aion {command}"));
            for argument in arguments {
                text.push(' ');
                text.push_str(&shell_quoted(&argument));
            }
            text.push('\n');
        }
        text
    }
}

/// Says it on stdout once all parts of the process can serve.
pub(crate) fn spawn_when_ready(context: &Context, text: String) {
    let (tasks, readiness) = (context.tasks.clone(), context.readiness.clone());
    context.tasks.spawn("greeting", async move {
        tokio::select! {
            () = tasks.stopping() => return Ok(()),
            () = readiness.until_ready() => {}
        }
        std::io::stdout().write_all(text.as_bytes()).context("write to stdout")
    });
}

/// An argument as a shell must be given it.
fn shell_quoted(argument: &str) -> String {
    let is_plain =
        |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | '/' | ':' | '=');
    match argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_shell() {
        let check = |argument: &str, expected: &str| assert_eq!(shell_quoted(argument), expected);
        check("--http-address=127.0.0.1:0", "--http-address=127.0.0.1:0");
        check("--label=a=\"b\"", "'--label=a=\"b\"'");
        check("it's", "'it'\\''s'");
    }
}
