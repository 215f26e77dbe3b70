//! Warns, once, when the memory in use comes near what the control group of the process may use.
//!
//! What it looks at is resident memory: all that is remembered, and all that an answer takes for a moment. Never frees
//! anything: what is remembered is needed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use procfs::ProcessCGroup;
use procfs::process::Process;

/// Percent of the limit. An exporter of a few quiet networks takes a tenth of 256 MiB, and one that remembers a million
/// pending transactions the half.
const SHARE: u64 = 60;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// To be called now and then with the resident memory of the process, bytes.
pub(crate) fn watch(resident: u64) {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    static WARNED: AtomicBool = AtomicBool::new(false);
    let limit = *LIMIT.get_or_init(own_limit);
    if let Some(limit) = limit.filter(|limit| is_near(resident, *limit))
        && !WARNED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(resident, limit, "memory in use is over 60 % of its limit");
    }
}

fn is_near(resident: u64, limit: u64) -> bool {
    resident / SHARE > limit / 100
}

/// Bytes; `None` without a limit, or where the system does not tell.
fn own_limit() -> Option<u64> {
    let groups = Process::myself().and_then(|process| process.cgroups()).ok()?;
    limit(&groups.0, |path| fs::read_to_string(path).ok())
}

/// The lowest limit of the group and of those that it is part of. In a container the path of a group may be that
/// outside, where only the mount itself is there to be read.
fn limit(groups: &[ProcessCGroup], read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let files = groups.iter().filter_map(|group| {
        let v1 = group.controllers.iter().any(|it| it == "memory");
        let (mount, file) = match (group.hierarchy, v1) {
            (0, _) => (MOUNT.to_owned(), "memory.max"),
            (_, true) => (format!("{MOUNT}/memory"), "memory.limit_in_bytes"),
            (_, false) => return None,
        };
        let within = Path::new(group.pathname.trim_start_matches('/'));
        Some(within.ancestors().map(|it| Path::new(&mount).join(it).join(file)).collect::<Vec<_>>())
    });
    // `max` is no number.
    files.flatten().filter_map(|file| read(&file)?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_over_sixty_percent() {
        const MIB: u64 = 1 << 20;
        for (resident, limit, near) in [
            (30 * MIB, 256 * MIB, false),
            (153 * MIB, 256 * MIB, false),
            (154 * MIB, 256 * MIB, true),
            (300 * MIB, 256 * MIB, true),
            // As version 1 writes no limit.
            (300 * MIB, 0x7fff_ffff_ffff_f000, false),
            (1, 0, false),
        ] {
            assert_eq!(is_near(resident, limit), near, "{resident} of {limit}");
        }
    }

    #[test]
    fn the_lowest_limit_counts() {
        let group = |hierarchy, controllers: &[&str], path: &str| ProcessCGroup {
            hierarchy,
            controllers: controllers.iter().map(ToString::to_string).collect(),
            pathname: path.to_owned(),
        };
        let unit = [group(0, &[], "/system.slice/exporter.service")];
        let old = [group(9, &["cpu"], "/a"), group(4, &["memory"], "/docker/b"), group(0, &[], "/")];
        type Case<'a> = (&'a str, &'a [ProcessCGroup], &'a [(&'a str, &'a str)], Option<u64>);
        let table: [Case<'_>; 6] = [
            ("its own", &unit, &[("system.slice/exporter.service/memory.max", "268435456\n")], Some(1 << 28)),
            (
                "that of its parent",
                &unit,
                &[
                    ("system.slice/exporter.service/memory.max", "max\n"),
                    ("system.slice/memory.max", "1000\n"),
                ],
                Some(1000),
            ),
            (
                "the lower one",
                &unit,
                &[
                    ("system.slice/exporter.service/memory.max", "900\n"),
                    ("system.slice/memory.max", "1000\n"),
                ],
                Some(900),
            ),
            (
                "in a container of version 1",
                &old,
                &[("memory/memory.limit_in_bytes", "268435456\n")],
                Some(1 << 28),
            ),
            ("none", &unit, &[("system.slice/exporter.service/memory.max", "max\n")], None),
            ("no such file", &unit, &[], None),
        ];
        for (what, groups, files, expected) in table {
            let read = |path: &Path| {
                let file = files.iter().find(|(file, _)| path == Path::new(MOUNT).join(file));
                file.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(limit(groups, read), expected, "{what}");
        }
    }
}
