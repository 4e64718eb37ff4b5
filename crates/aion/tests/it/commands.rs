//! The commands of the binary besides the daemons.

use std::process::{Command, Output};

use testkit::peer::free_address;

fn aion(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aion")).args(arguments).output().unwrap()
}

fn check(arguments: &[&str], code: i32, expected: &str) {
    let output = aion(arguments);
    let text = if code == 2 { &output.stderr } else { &output.stdout };
    let text = String::from_utf8_lossy(text);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(expected), "{arguments:?}: {text}");
    if code == 2 {
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    }
}

#[test]
fn commands_have_thanos_names_and_slips_are_understood() {
    for name in
        ["receive", "store", "compact", "query", "standalone", "check", "healthcheck", "tools"]
    {
        check(&["--help"], 0, &format!("\n  {name} "));
    }
    check(&["--version"], 0, concat!("aion ", env!("CARGO_PKG_VERSION")));
    check(&["recieve"], 2, "aion: unknown command recieve, did you mean receive?");
    check(&["frobnicate"], 2, "aion --help lists the commands");
    check(&["receive", "--help"], 0, "--tsdb.path");
    check(
        &["query", "--endpiont=x"],
        2,
        "aion query: unknown flag --endpiont, did you mean --endpoint?",
    );
}

#[test]
fn configurations_are_checked_without_a_start() {
    check(&["check", "config", "standalone"], 0, "aion standalone: the configuration is right");
    check(&["check", "standalone"], 0, "aion standalone: the configuration is right");
    check(&["check", "config", "compact"], 2, "--objstore.config");
    check(&["check", "config"], 2, "name a command");
    check(&["check", "config", "sore"], 2, "did you mean store?");
    check(&["check", "config", "query", "--query.timeout=x"], 2, "is not a duration");
    check(
        &["check", "config", "standalone", "--tsdb.min-block-duration=1h"],
        2,
        "--tsdb.min-block-duration and --tsdb.max-block-duration: must be equal",
    );
}

#[test]
fn a_healthcheck_of_nothing_fails() {
    let address = free_address().to_string();
    check(&["healthcheck", "--http-address", &address], 1, "connect to 127.0.0.1");
    check(&["healthcheck", "--http-addres=x"], 2, "unexpected argument");
    check(&["healthcheck", "--help"], 0, "--http-address");
}
