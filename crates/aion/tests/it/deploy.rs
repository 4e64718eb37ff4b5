//! The files that start daemons elsewhere say what the daemons understand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Lets the binary check a command line, with the bucket's file where it lies in the project.
fn check(command: &str, arguments: &[String]) {
    let bucket = root().join("docker/bucket.yaml").display().to_string();
    let arguments = arguments.iter().map(|it| it.replace("/etc/aion/bucket.yaml", &bucket));
    let output = Command::new(env!("CARGO_BIN_EXE_aion"))
        .args(["check", "config", command])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
}

#[test]
fn the_compose_file_gives_daemons_flags_that_they_know() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    for name in ["receive", "store", "compact", "query"] {
        let words = services[name]["command"].as_array().unwrap();
        let words: Vec<String> = words.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        check(name, &words);
    }
    for (name, service) in services {
        let has_own_check = service.get("healthcheck").is_some();
        let is_ours = service.get("build").is_some();
        assert!(has_own_check || is_ours, "{name} has no health check");
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(other), "{name} waits for {other}");
            assert_eq!(condition["condition"], "service_healthy", "{name} on {other}");
        }
    }
    let text = fs::read_to_string(root().join("compose.yaml")).unwrap();
    assert!(!text.contains("sleep"), "nothing waits for a guessed time");
}

#[test]
fn the_virtual_machines_give_daemons_flags_that_they_know() {
    let script = fs::read_to_string(root().join("vagrant/provision.sh")).unwrap();
    let script = script.replace("\\\n", " ");
    let mut seen = Vec::new();
    for line in script.lines().map(str::trim) {
        let Some(command) = ["receive", "store", "compact", "query"].into_iter().find(|it| {
            line.contains(&format!("\"$image\"   {it} ")) || line.contains(&format!(" {it} --"))
        }) else {
            continue;
        };
        let arguments = line.split(&format!(" {command} --")).nth(1).unwrap();
        // The shell takes the quotes away, as it would in the machine.
        let shell = format!("storage=10.0.0.1; printf '%s\\n' --{arguments}");
        let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        check(command, &words.lines().map(str::to_owned).collect::<Vec<_>>());
        seen.push(command);
    }
    assert_eq!(seen, ["receive", "store", "compact", "query"]);
}

#[test]
fn dashboards_and_data_sources_are_well_formed() {
    let source = yaml("docker/grafana/provisioning/datasources/aion.yaml");
    assert_eq!(source["datasources"][0]["url"], "http://query:10902");
    let uid = &source["datasources"][0]["uid"];
    let text = fs::read_to_string(root().join("docker/grafana/dashboards/aion.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        assert_eq!(&panel["datasource"]["uid"], uid);
    }
    for path in ["docker/prometheus.yml", "docker/grafana/provisioning/dashboards/aion.yaml"] {
        assert!(yaml(path).is_object());
    }
}
