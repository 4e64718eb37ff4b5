//! Start, drain and end of a process.

use std::net::{TcpListener, TcpStream};

use crate::child::{get, run, start};

fn position(lines: &[String], text: &str) -> usize {
    let found = lines.iter().position(|it| it.contains(text));
    found.unwrap_or_else(|| panic!("no line with {text:?} in {lines:#?}"))
}

#[test]
fn a_signal_drains_servers_then_tasks_then_closes() {
    for signal in ["TERM", "INT"] {
        let mut daemon = start(&[]);
        let address = daemon.http_address();
        daemon.wait_for("msg=started");
        let of_request = address.clone();
        let request =
            std::thread::Builder::new().spawn(move || get(&of_request, "/slow", "")).unwrap();
        daemon.wait_for("msg=asked");
        daemon.signal(signal);
        daemon.wait_for("msg=stopping");
        let answer = request.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("slow but sure"));
        let (code, lines) = daemon.ended();
        assert_eq!(code, Some(0), "{lines:#?}");
        assert!(TcpStream::connect(&address).is_err());
        let closing = position(&lines, "closing the probe");
        for before in ["the worker ended", "the engine ended"] {
            assert!(position(&lines, before) < closing, "{lines:#?}");
        }
        assert!(closing < position(&lines, "msg=stopped"));
        for survived in ["one pass failed", "one pass panicked"] {
            position(&lines, survived);
        }
    }
}

#[test]
fn what_does_not_end_in_the_grace_period_is_cut() {
    let mut daemon = start(&["--http-grace-period=300ms"]);
    let address = daemon.http_address();
    daemon.wait_for("msg=started");
    let request = std::thread::Builder::new().spawn(move || get(&address, "/forever", "")).unwrap();
    daemon.wait_for("msg=asked");
    daemon.signal("TERM");
    assert_eq!(request.join().unwrap(), "");
    let (code, lines) = daemon.ended();
    assert_eq!(code, Some(0), "{lines:#?}");
    position(&lines, "cutting what did not end in time");
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut daemon = start(&[]);
    let address = daemon.http_address();
    daemon.wait_for("msg=started");
    let request = std::thread::Builder::new()
        .spawn(move || {
            let mut stream = TcpStream::connect(&address).unwrap();
            std::io::Write::write_all(&mut stream, b"GET /forever HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            std::io::Read::read(&mut stream, &mut [0]).unwrap_or(0)
        })
        .unwrap();
    daemon.wait_for("msg=asked");
    daemon.signal("TERM");
    daemon.wait_for("msg=stopping");
    daemon.signal("INT");
    let (code, lines) = daemon.ended();
    assert_eq!(code, Some(1), "{lines:#?}");
    position(&lines, "a second signal: not waiting");
    assert_eq!(request.join().unwrap(), 0);
}

#[test]
fn the_death_of_a_vital_task_is_the_death_of_the_process() {
    let check = |mode: &str, reason: &str| {
        let daemon = start(&["--mode", mode]);
        let (code, lines) = daemon.ended();
        assert_eq!(code, Some(1), "{mode}: {lines:#?}");
        let last = lines.last().unwrap();
        assert!(last.contains("level=error") && last.contains(reason), "{mode}: {last}");
        position(&lines, "closing the probe");
    };
    check("vital-fails", "the vital task committer is gone: write the log: disk full");
    check("vital-ends", "the vital task committer is gone: ended too early");
    check("vital-panics", "the vital task committer is gone: panicked: an invariant is broken");
    check("thread-panics", "the vital task engine is gone: panicked: an invariant is broken");
    check("part-dies", "the vital task inner loop is gone: lost");
}

#[test]
fn work_that_is_done_ends_the_process_well() {
    let (code, lines) = start(&["--mode=finishes"]).ended();
    assert_eq!(code, Some(0), "{lines:#?}");
    position(&lines, "closing the probe");
}

#[test]
fn a_failed_start_is_one_line() {
    let ended = run(&[
        "--http-address=127.0.0.1:0",
        "--grpc-address=127.0.0.1:0",
        "--mode=fail-at-start",
        "--log.level=error",
    ]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("the data directory is not writable"), "{}", ended.stderr);
}

#[test]
fn a_port_in_use_is_told_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http-address", "--grpc-address"] {
        let other = if flag == "--http-address" { "--grpc-address" } else { "--http-address" };
        let ended = run(&[
            &format!("{flag}={address}"),
            &format!("{other}=127.0.0.1:0"),
            "--log.level=error",
        ]);
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        let expected = format!("{flag}={address}: cannot listen there");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
        assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    }
}

#[test]
fn logs_are_logfmt_or_json() {
    let mut daemon = start(&["--log.format=json", "--log.level=debug"]);
    let line = daemon.wait_for("started");
    assert!(line.starts_with("{\"ts\":\"2") && line.ends_with('}'), "{line}");
    assert!(line.contains("\"level\":\"info\"") && line.contains("\"service\":\"probe\""));
    let seed = daemon.seen.iter().filter(|it| it.contains("\"seed\":")).count();
    assert_eq!(seed, 1, "the seed is told at debug");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0, Some(0));
}
