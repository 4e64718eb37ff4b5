//! Drives a receiver with remote write and says what it cost: `load ADDRESS PID [options]`.
//!
//! The server's processor time and memory are read from `/proc/PID`, so the figures are the
//! server's alone. Bounded in rounds; stops by itself.
#![expect(clippy::disallowed_methods, reason = "a measuring tool reads the clock and /proc")]
#![expect(clippy::print_stdout, reason = "printing the figures is its job")]

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use testkit::http::Client;
use testkit::remote_write::{HEADERS, compress, push_series};
use testkit::workload::{INTERVAL_MS, Seeded, Workload};

const TICKS_PER_SECOND: f64 = 100.0;

/// What to send.
struct Plan {
    address: SocketAddr,
    pid: u32,
    path: String,
    series: usize,
    rounds: usize,
    per_request: usize,
    connections: usize,
}

fn main() -> anyhow::Result<()> {
    let plan = parse(std::env::args().skip(1).collect())?;
    let workload = Workload::new(7, plan.series);
    let labels: Vec<Vec<u8>> = (0..plan.series).map(|it| workload.encoded_labels(it)).collect();
    let mut order: Vec<usize> = (0..plan.series).collect();
    Seeded::new(11).shuffle(&mut order);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let rounds_ms = INTERVAL_MS * i64::try_from(plan.rounds)?;
    let start_ms = i64::try_from(now.as_millis())? - rounds_ms;
    println!("series {} rounds {} per request {}", plan.series, plan.rounds, plan.per_request);
    for round in 0..plan.rounds {
        let requests: Vec<Vec<u8>> = order
            .chunks(plan.per_request)
            .map(|chunk| {
                let mut body = Vec::with_capacity(chunk.len() * 400);
                for &series in chunk {
                    push_series(
                        &mut body,
                        &labels[series],
                        &[workload.sample(series, round, start_ms)],
                    );
                }
                compress(&body)
            })
            .collect();
        let cpu_before = cpu_seconds(plan.pid)?;
        let began = Instant::now();
        let mut latencies = send_round(&plan, &requests)?;
        let wall = began.elapsed().as_secs_f64();
        let cpu = cpu_seconds(plan.pid)? - cpu_before;
        latencies.sort();
        let at = |part: usize| latencies[(latencies.len() - 1) * part / 100].as_secs_f64() * 1e3;
        let samples = f64::from(u32::try_from(plan.series)?);
        println!(
            "round {round}: {:.3} M samples per server-CPU-s, {:.3} M/s wall, {:.2} µs CPU a \
             sample, p50 {:.1} ms, p99 {:.1} ms, resident {} kB, {:.0} bytes a series",
            samples / cpu.max(0.01) / 1e6,
            samples / wall / 1e6,
            cpu / samples * 1e6,
            at(50),
            at(99),
            resident_kb(plan.pid)?,
            f64::from(u32::try_from(resident_kb(plan.pid)?)?) * 1024.0 / samples,
        );
    }
    Ok(())
}

fn send_round(plan: &Plan, requests: &[Vec<u8>]) -> anyhow::Result<Vec<Duration>> {
    let latencies = Mutex::new(Vec::with_capacity(requests.len()));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|worker| {
                let latencies = &latencies;
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut client = Client::new(plan.address, Duration::from_secs(60));
                    for body in requests.iter().skip(worker).step_by(plan.connections) {
                        let began = Instant::now();
                        let answer = client.post(&plan.path, HEADERS, body)?;
                        if answer.status / 100 != 2 {
                            bail!("{}: {}", answer.status, answer.text());
                        }
                        if let Ok(mut latencies) = latencies.lock() {
                            latencies.push(began.elapsed());
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        anyhow::Ok(())
    })?;
    latencies.into_inner().map_err(|_| anyhow::anyhow!("a sender panicked"))
}

fn parse(arguments: Vec<String>) -> anyhow::Result<Plan> {
    let usage = "usage: load ADDRESS PID [series=N] [rounds=N] [per=N] [connections=N] [path=P]";
    let mut words = arguments.iter();
    let address = words.next().context(usage)?.parse().context("ADDRESS is ip:port")?;
    let pid = words.next().context(usage)?.parse().context("PID is a number")?;
    let path = "/api/v1/receive".to_owned();
    let (series, rounds, per_request, connections) = (200_000, 20, 2_000, 2);
    let mut plan = Plan { address, pid, path, series, rounds, per_request, connections };
    for word in words {
        let (name, value) = word.split_once('=').context(usage)?;
        match name {
            "path" => value.clone_into(&mut plan.path),
            "series" => plan.series = value.parse()?,
            "rounds" => plan.rounds = value.parse()?,
            "per" => plan.per_request = value.parse()?,
            "connections" => plan.connections = value.parse()?,
            _ => bail!(usage),
        }
    }
    Ok(plan)
}

/// User and system time of a process in seconds; the kernel counts hundredths.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("/proc/PID/stat has no name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> anyhow::Result<f64> {
        Ok(fields.get(at).context("/proc/PID/stat is short")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn resident_kb(pid: u32) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).context("no VmRSS")?;
    let word = line.split_whitespace().nth(1).context("VmRSS has no number")?;
    Ok(word.parse()?)
}
