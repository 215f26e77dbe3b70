//! The files of one reading, each as it was before it was read, so that no change between the two is missed.
//!
//! Looks at what the file system says of a file; never reads one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files, each with its state; `None` where there was none.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<(PathBuf, Option<Stamp>)>);

/// A file may be replaced by one of the same length, and given the time of the old one. The time at which the file system
/// noted a change is nobody's to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    modified: (i64, i64),
    length: u64,
}

impl Seen {
    /// Notes the state of a file that is about to be read.
    pub(super) fn add(&mut self, file: &Path) {
        self.0.push((file.to_owned(), stamp(file)));
    }

    /// A file is not what it was.
    pub(super) fn has_changed(&self) -> bool {
        self.0.iter().any(|(file, before)| stamp(file) != *before)
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(file).ok()?;
    Some(Stamp {
        device: of.dev(),
        inode: of.ino(),
        changed: (of.ctime(), of.ctime_nsec()),
        modified: (of.mtime(), of.mtime_nsec()),
        length: of.len(),
    })
}
