//! Saved progress: one file a network, written whole or not at all, believed only if it is ours.
//!
//! The directory may be shared: no link is followed, only regular files are opened, and nothing is written
//! to before it is known to be ours. Never reads the network.

mod files;
mod format;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use web3::types::H160;

use crate::chain::BlockRef;
use crate::ledger::Ledger;
use crate::proof::Proof;

/// What a restart needs to go on where it stopped.
#[derive(Debug)]
pub struct Saved<'a> {
    /// Of which chain it is.
    pub chain_id: u64,
    /// Of which contract it is.
    pub contract: H160,
    /// The configured start block: another one means other numbers.
    pub start_block: Option<u64>,
    /// The block at which the history begins.
    pub first_block: u64,
    /// That block as it was read, where it was: another history has another one.
    pub anchor: Option<BlockRef>,
    /// `transaction_count()` minus buffered events, and the block at which this was last compared.
    pub compared: Option<(u64, i64)>,
    /// What the ledger was carried past without.
    pub gaps: Cow<'a, [Gap]>,
    /// Whose word it is that nothing else is missing.
    pub proof: Cow<'a, Proof>,
    /// Everything known up to its block.
    pub ledger: Cow<'a, Ledger>,
}

/// A range that was counted although logs of it were missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its first block.
    pub first: u64,
    /// Its last block.
    pub last: u64,
    /// How many logs of the contract came.
    pub logs: usize,
    /// `transaction_count()` minus buffered events before it, where they could be compared.
    pub missing_before: Option<i64>,
}

/// A file that is written, but may not be on the disk yet, nor under its name.
#[derive(Debug)]
#[must_use = "without `commit` the file that was there before stays"]
pub struct Written {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

/// Takes the directory for this process alone, until the returned file is dropped.
///
/// # Errors
/// One line: it cannot be created or written, or another exporter uses it.
pub fn lock(directory: &Path) -> Result<File, String> {
    let because =
        |what: &str, error: io::Error| format!("state_dir {}: {what}: {error}", directory.display());
    let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(|error| because("cannot be created", error))?;
    let file = files::open_or_create(&directory.join("lock"));
    let file = file.map_err(|error| because("cannot be written", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "state_dir {}: in use by another exporter; give each exporter a directory of its own",
            directory.display()
        )),
        Err(TryLockError::Error(error)) => Err(because("cannot be locked", error)),
    }
}

/// Writes the file whole or not at all, and waits until it is on the disk.
///
/// # Errors
/// Whatever the file system says; the file is then as it was.
pub fn save(path: &Path, saved: &Saved<'_>) -> io::Result<()> {
    write(path, saved)?.commit()
}

/// Writes beside the file, without waiting for the disk.
///
/// # Errors
/// Whatever the file system says.
pub fn write(path: &Path, saved: &Saved<'_>) -> io::Result<Written> {
    let temporary = path.with_extension("tmp");
    let mut file = files::create_anew(&temporary)?;
    let written = format::write(&mut file, saved).and_then(|()| file.flush());
    clean_up(written, &temporary)?;
    Ok(Written { file, temporary, path: path.to_owned() })
}

impl Written {
    /// Waits until it is on the disk, and puts it in the place of the file that was there before.
    ///
    /// # Errors
    /// Whatever the file system says; the file is then as it was.
    pub fn commit(self) -> io::Result<()> {
        let Self { file, temporary, path } = self;
        clean_up(file.sync_all().and_then(|()| fs::rename(&temporary, &path)), &temporary)?;
        // The new name is durable only once its directory is.
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

/// What was saved; `None` where there is no file.
///
/// # Errors
/// One line that says why the file is not believed.
pub fn load(path: &Path, contract: H160, start_block: Option<u64>) -> Result<Option<Saved<'static>>, String> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let length = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    let saved = format::read(&file, length)?;
    if saved.contract != contract {
        return Err(format!("is of another contract, {:#x}", saved.contract));
    }
    if saved.start_block != start_block {
        return Err("was made with another start_block".to_owned());
    }
    Ok(Some(saved))
}

/// The file of a network.
pub fn file(directory: &Path, network: &str) -> PathBuf {
    directory.join(format!("{network}.state"))
}

/// Best effort: on a full disk a torn file must not keep the room it takes.
fn clean_up(result: io::Result<()>, temporary: &Path) -> io::Result<()> {
    if result.is_err() {
        let _ = fs::remove_file(temporary);
    }
    result
}
