//! What a process used, as the kernel tells it.
//!
//! Linux only, as the exporter's own process figures are.

use std::time::Duration;

use procfs::process::Process;
use serde::{Deserialize, Serialize};

/// What a process used since it began.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Time on processors, user and system together.
    pub cpu: Duration,
    /// The most memory that was resident, bytes.
    pub peak: u64,
    /// What is resident now, bytes.
    pub resident: u64,
}

/// What the process with this id used. Panics when it is gone.
pub(crate) fn usage(pid: u32) -> Usage {
    let process = Process::new(i32::try_from(pid).expect("a process id")).expect("the process runs");
    let stat = process.stat().expect("what the kernel says of a process");
    let status = process.status().expect("what the kernel says of a process");
    let bytes = |kibibytes: Option<u64>| kibibytes.unwrap_or_default() * 1024;
    let ticks = (stat.utime + stat.stime) as f64;
    Usage {
        cpu: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
        peak: bytes(status.vmhwm),
        resident: bytes(status.vmrss),
    }
}

/// What this process used.
pub(crate) fn own_usage() -> Usage {
    usage(std::process::id())
}
