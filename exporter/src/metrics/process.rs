//! The exporter itself: its build, its configuration, and its process as the kernel sees it.
//!
//! Names of the process family are those that every Prometheus client library uses.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo};

use super::writer::Writer;
use super::{Exporter, unix_seconds};
use crate::{log, memory_limit};

/// The exporter's own process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStats {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The most that may be open; `u64::MAX` without a limit.
    pub max_fds: u64,
    /// Size of the address space, bytes.
    pub virtual_memory: u64,
    /// The most that the address space may grow to, bytes; `u64::MAX` without a limit.
    pub virtual_memory_max: u64,
    /// Memory in use, bytes.
    pub resident_memory: u64,
    /// When the process started, seconds since the Unix epoch.
    pub start_time: f64,
    /// Threads of the operating system.
    pub threads: u64,
}

impl ProcessStats {
    /// Reads `/proc/self`, and has the memory looked at. An error means that there is no such file system, as outside Linux.
    pub fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let limits = process.limits()?;
        let resident_memory = stat.rss_bytes().get();
        memory_limit::watch(resident_memory);
        let ticks = procfs::ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            open_fds: process.fd_count()?.try_into().unwrap_or(u64::MAX),
            max_fds: or_unlimited(limits.max_open_files.soft_limit),
            virtual_memory: stat.vsize,
            virtual_memory_max: or_unlimited(limits.max_address_space.soft_limit),
            resident_memory,
            start_time: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            threads: stat.num_threads.try_into().unwrap_or_default(),
        })
    }
}

pub(super) fn encode(writer: &mut Writer<'_>, exporter: &Exporter) -> fmt::Result {
    let Exporter { build, reload, process } = exporter;
    writer.info(
        "tesseract_exporter_build_info",
        "Version, revision and compiler that the exporter was built from; always 1.",
        [[("version", build.version), ("revision", build.revision), ("rustc", build.rustc)]],
    )?;
    writer.counter(
        "tesseract_exporter_log_lines_dropped_total",
        "Log lines that were not written because standard error was blocked.",
        [(NO_LABELS, log::dropped_lines())],
    )?;
    writer.gauge(
        "tesseract_exporter_config_last_reload_successful",
        "1 when the last reading of the configuration and of the web configuration was taken over, else 0.",
        [(NO_LABELS, u64::from(reload.successful))],
    )?;
    writer.gauge(
        "tesseract_exporter_config_last_reload_success_timestamp_seconds",
        "When the configuration was last taken over, at the start or by SIGHUP, in seconds since the Unix epoch.",
        [(NO_LABELS, unix_seconds(reload.last_success))],
    )?;
    process.as_ref().map_or(Ok(()), |stats| own_process(writer, stats))
}

fn own_process(writer: &mut Writer<'_>, stats: &ProcessStats) -> fmt::Result {
    writer.counter(
        "process_cpu_seconds_total",
        "User and system CPU time spent, in seconds.",
        [(NO_LABELS, stats.cpu_seconds)],
    )?;
    writer.gauge("process_open_fds", "Open file descriptors.", [(NO_LABELS, stats.open_fds)])?;
    writer.gauge(
        "process_max_fds",
        "The most file descriptors that may be open.",
        [(NO_LABELS, stats.max_fds)],
    )?;
    writer.gauge(
        "process_virtual_memory_bytes",
        "Size of the address space, in bytes.",
        [(NO_LABELS, stats.virtual_memory)],
    )?;
    writer.gauge(
        "process_virtual_memory_max_bytes",
        "The most that the address space may grow to, in bytes.",
        [(NO_LABELS, stats.virtual_memory_max)],
    )?;
    writer.gauge(
        "process_resident_memory_bytes",
        "Resident memory, in bytes.",
        [(NO_LABELS, stats.resident_memory)],
    )?;
    writer.gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since the Unix epoch.",
        [(NO_LABELS, stats.start_time)],
    )?;
    writer.gauge("process_threads", "Threads of the operating system.", [(NO_LABELS, stats.threads)])
}

const NO_LABELS: [(&str, &str); 0] = [];

fn or_unlimited(limit: LimitValue) -> u64 {
    match limit {
        LimitValue::Value(value) => value,
        LimitValue::Unlimited => u64::MAX,
    }
}
