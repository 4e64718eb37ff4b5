//! Runs Prometheus' test scripts against the engine: `conformance DIR` evaluates every `.test` file
//! of a directory, prints each command that fails with what was expected and what came, and last
//! `passed N of M`.

#[path = "../tests/it/memory.rs"]
mod memory;
#[path = "../tests/it/script/language.rs"]
#[expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a tool that reads scripts from where they lie, and stops at one that it cannot read"
)]
mod script;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        let _ = writeln!(out, "usage: conformance DIR");
        return ExitCode::from(2);
    };
    let files = match script::files(&dir) {
        Ok(files) => files,
        Err(error) => {
            let _ = writeln!(out, "{}: {error}", dir.display());
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, text) in files {
        let outcome = script::run::run(&script::parse::script(&text));
        passed += outcome.passed;
        failed += outcome.failures.len();
        for failure in outcome.failures {
            // Whoever reads the output may have gone.
            let _ = writeln!(out, "{name}:{failure}");
        }
    }
    let _ = writeln!(out, "passed {passed} of {}", passed + failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
