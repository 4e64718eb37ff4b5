//! Metrics about the process itself, read when they are scraped.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::{Clock, Memory, Readiness};

/// Ticks a second in `/proc/<pid>/stat`; a constant of every Linux that is in use.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

#[derive(Debug)]
struct Process {
    /// Milliseconds since the Unix epoch.
    started_ms: i64,
    clock: Arc<dyn Clock>,
    started: Duration,
    memory: Memory,
    readiness: Readiness,
}

/// Registers what every process tells about itself.
pub(crate) fn register(
    registry: &mut Registry,
    clock: &Arc<dyn Clock>,
    memory: Memory,
    readiness: &Readiness,
) {
    registry.register_collector(Box::new(Process {
        started_ms: clock.now_ms(),
        started: clock.monotonic(),
        clock: Arc::clone(clock),
        memory,
        readiness: readiness.clone(),
    }));
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        let stat = Stat::read().unwrap_or_default();
        counter(encoder, "process_cpu_seconds", "CPU time used", stat.cpu_seconds)?;
        gauge(encoder, "process_resident_memory_bytes", "Resident memory", stat.resident_bytes)?;
        gauge(encoder, "process_virtual_memory_bytes", "Virtual memory", stat.virtual_bytes)?;
        gauge(encoder, "process_threads", "Threads", stat.threads)?;
        gauge(encoder, "process_open_fds", "Open file descriptors", open_files())?;
        gauge(encoder, "process_max_fds", "File descriptors allowed", open_files_max())?;
        let started = precise(self.started_ms.unsigned_abs()) / 1000.0;
        gauge(encoder, "process_start_time_seconds", "Start, since the Unix epoch", started)?;
        let up = self.clock.monotonic().saturating_sub(self.started).as_secs_f64();
        gauge(encoder, "aion_process_up_seconds", "Time since the start", up)?;
        let allocated = bytes((self.memory.allocated_bytes)());
        gauge(encoder, "aion_memory_allocated_bytes", "Handed out by the allocator", allocated)?;
        let limit = bytes(self.memory.limit_bytes);
        gauge(encoder, "aion_memory_limit_bytes", "Memory the process may use", limit)?;
        self.encode_status(encoder)?;
        encode_build(encoder)
    }
}

impl Process {
    fn encode_status(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let value = ConstGauge::new(1_i64);
        let help = "Whether a component is ready and healthy.";
        let mut family =
            encoder.encode_descriptor("thanos_status", help, None, value.metric_type())?;
        for (component, is_ready) in self.readiness.parts() {
            for (check, is_so) in [("ready", is_ready), ("healthy", true)] {
                let labels = [("component", component), ("check", check)];
                ConstGauge::new(i64::from(is_so)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode_build(encoder: &mut DescriptorEncoder) -> fmt::Result {
    let value = ConstGauge::new(1_i64);
    let help = "What this binary was built from.";
    let mut family =
        encoder.encode_descriptor("aion_build_info", help, None, value.metric_type())?;
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    value.encode(family.encode_family(&labels)?)
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    let value = ConstGauge::new(value);
    value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    let value = ConstCounter::new(value);
    value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
}

/// What `/proc/self/stat` says.
#[derive(Debug, Default, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        Stat::parse(&read("/proc/self/stat")?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field is the name in parentheses, and may hold spaces and parentheses.
        let (_, text) = text.rsplit_once(')')?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
        Some(Stat {
            cpu_seconds: precise(field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: precise(field(20)?),
            virtual_bytes: precise(field(23)?),
            resident_bytes: precise(field(24)?.saturating_mul(PAGE_BYTES)),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel's files about this process")]
fn open_files() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0.0, |it| bytes(it.count()))
}

fn open_files_max() -> f64 {
    let limits = read("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|it| it.strip_prefix("Max open files"));
    let limit = line.and_then(|it| it.split_whitespace().next());
    limit.and_then(|it| it.parse().ok()).map_or(0.0, precise)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's files about this process")]
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn bytes(count: usize) -> f64 {
    u64::try_from(count).map_or(f64::INFINITY, precise)
}

/// The nearest float; counts above 2^53 lose their last bits, as every metric does.
fn precise(count: u64) -> f64 {
    let [high, low] = [count >> 32, count & 0xffff_ffff];
    let part = |it| u32::try_from(it).map_or(0.0, f64::from);
    part(high) * 4_294_967_296.0 + part(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 9 0 100 8192 3 184 1";
        let expected =
            Stat { cpu_seconds: 2.0, threads: 9.0, virtual_bytes: 8192.0, resident_bytes: 12288.0 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (x) S"), None);
        assert!(Stat::read().unwrap().resident_bytes > 0.0);
        assert!(open_files() > 0.0 && open_files_max() > 0.0);
    }
}
