//! Flags, files and variables, as a person at a terminal meets them.

use crate::child::{check, command, end, run, start};

/// The one line that a wrong command line gets.
fn refused(arguments: &[&str], expected: &str) {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
    assert_eq!(ended.stderr, format!("probe: {expected}\n"), "{arguments:?}");
}

/// What the probe shows of its configuration.
fn shown(arguments: &[&str], variables: &[(&str, &str)], expected: &str) {
    let mut command =
        command(&[arguments, &["--mode=show", "--http-address=nowhere.invalid:1"]].concat());
    command.envs(variables.iter().copied());
    let ended = end(command);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(expected), "{expected} is not in {}", ended.stderr);
}

#[test]
fn mistakes_are_told_in_one_line() {
    refused(&["--http-adress=x"], "unknown flag --http-adress, did you mean --http-address?");
    refused(&["--zzz"], "unknown flag --zzz; probe --help lists the flags");
    refused(&["serve"], "unexpected argument serve; probe --help lists the flags");
    refused(&["--mode"], "--mode: needs a value");
    refused(
        &["--http-address=nowhere:x"],
        "--http-address=nowhere:x: an address is host:port, such as 0.0.0.0:10902",
    );
    refused(&["--mode=a", "--mode=b"], "--mode: give it only once");
    refused(
        &["--tsdb.retention=soon"],
        "--tsdb.retention=soon: \"soon\" is not a duration such as 15d, 2h30m, 90s or 500ms",
    );
    refused(&["--log.level=loud"], "--log.level=loud: must be one of error, warn, info, debug");
    refused(
        &["--objstore.config=a", "--objstore.config-file=b"],
        "--objstore.config and --objstore.config-file: give only one of the two",
    );
    refused(
        &["--objstore.config=key: $(NOT_SET_ANYWHERE)"],
        "--objstore.config: the environment variable NOT_SET_ANYWHERE that \
         $(NOT_SET_ANYWHERE) asks for is not set",
    );
    refused(
        &["--objstore.config-file=/nowhere/x.yaml"],
        "--objstore.config-file: read /nowhere/x.yaml: No such file or directory (os error 2)",
    );
    refused(
        &["--receive.replication-factor=3"],
        "--receive.replication-factor is refused: there is one copy",
    );
    refused(
        &["--tracing.config=type: JAEGER"],
        "--tracing.config: type JAEGER: traces are sent over OTLP only, which its collectors take \
         too: use type OTLP",
    );
    refused(
        &["@/nowhere/arguments"],
        "@/nowhere/arguments: read the file of arguments: No such file or directory (os error 2)",
    );
}

#[test]
fn thanos_spellings_are_read() {
    shown(
        &["--label", "a=\"b\"", "--label=c=d", "--no-tsdb.wal-compression"],
        &[],
        "shown [\\\"a=\\\\\\\"b\\\\\\\"\\\", \\\"c=d\\\"] false",
    );
    shown(&["--no-tsdb.wal-compression", "--tsdb.wal-compression"], &[], "shown [] true");
    shown(&["--receive.replication-factor=1"], &[], "shown [] true");
    shown(&["--receive.old=x"], &[], "--receive.old is accepted without effect: it was always");
    shown(
        &["--objstore.config=key: $(PROBE_KEY)/$(not a name)"],
        &[("PROBE_KEY", "secret")],
        "\\\"key: secret/$(not a name)\\\"",
    );
}

#[test]
fn the_layers_are_file_environment_and_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aion.yaml");
    std::fs::write(&file, "label: [from=file]\ntsdb.wal-compression: false\n").unwrap();
    let of_file = format!("--config.file={}", file.display());
    shown(&[&of_file], &[], "shown [\\\"from=file\\\"] false");
    shown(&[&of_file], &[("AION_LABEL", "from=env")], "shown [\\\"from=env\\\"] false");
    let path = file.display().to_string();
    shown(&[], &[("AION_CONFIG_FILE", &path)], "shown [\\\"from=file\\\"] false");
    shown(
        &[&of_file, "--label=from=flag", "--tsdb.wal-compression"],
        &[("AION_LABEL", "from=env")],
        "shown [\\\"from=flag\\\"] true",
    );
    std::fs::write(&file, "labels: [from=file]\n").unwrap();
    let at = file.display();
    refused(&[&of_file], &format!("--config.file: {at}: unknown key labels, did you mean label?"));
    std::fs::write(&file, "tsdb.retention: soon\n").unwrap();
    refused(
        &[&of_file],
        &format!(
            "--tsdb.retention=soon: \"soon\" is not a duration such as 15d, 2h30m, 90s or 500ms \
             (from {at})"
        ),
    );
    std::fs::write(&file, "receive.replication-factor: 3\n").unwrap();
    refused(&[&of_file], "--receive.replication-factor is refused: there is one copy");
}

#[test]
fn arguments_come_from_files_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("arguments");
    std::fs::write(&file, "# ours\n--label\na=b\n\n--no-tsdb.wal-compression\n").unwrap();
    shown(&[&format!("@{}", file.display())], &[], "shown [\\\"a=b\\\"] false");
}

#[test]
fn help_and_version_go_to_stdout() {
    let ended = run(&["--version"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains(concat!("probe ", env!("CARGO_PKG_VERSION"))));
    let ended = run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    for expected in ["--http-address", "--grpc-server-max-connection-age", "--tracing.config-file"]
    {
        assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    }
}

#[test]
fn a_configuration_is_checked_without_a_start() {
    let ended = check(&["--receive.old=x"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("note: --receive.old is accepted without effect"));
    assert!(ended.stdout.contains("probe: the configuration is right"));
    let ended = check(&["--objstore.config-file=/nowhere"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("/nowhere"));
}

#[test]
fn a_variable_of_somebody_else_is_only_noted() {
    shown(&[], &[("AION_SERVICE_HOST", "10.0.0.1")], "AION_SERVICE_HOST names no flag");
    let mut daemon = start(&[]);
    daemon.wait_for("msg=started");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0, Some(0));
}
