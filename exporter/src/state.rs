//! Saved progress: one file a network, written whole or not at all, believed only if it is ours.
//!
//! The first line says format, checksum and length of the rest. Never reads the network.

use std::borrow::Cow;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use web3::signing::keccak256;
use web3::types::{H160, H256};

use crate::chain::BlockRef;
use crate::ledger::Ledger;

/// Changes whenever an older program would misread the file.
const FORMAT: u32 = 1;

/// What a restart needs to go on where it stopped.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved<'a> {
    /// Of which chain it is.
    pub chain_id: u64,
    /// Of which contract it is.
    pub contract: H160,
    /// The configured start block: another one means other numbers.
    pub start_block: Option<u64>,
    /// The block at which the history begins.
    pub first_block: u64,
    /// The first block that was read: on another chain it has another hash.
    #[serde(default)]
    pub anchor: Option<BlockRef>,
    /// `transaction_count()` minus buffered events, and the block at which this was last compared.
    pub compared: Option<(u64, i64)>,
    /// What the ledger was carried past without.
    #[serde(default)]
    pub gaps: Cow<'a, [Gap]>,
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
    /// So many logs of the contract came.
    pub logs: usize,
    /// `transaction_count()` minus buffered events before it, where they could be compared.
    pub missing_before: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    format: u32,
    keccak256: H256,
    length: usize,
}

/// Takes the directory for this process alone, until the returned file is dropped.
///
/// # Errors
/// One line: it cannot be created or written, or another exporter uses it.
pub fn lock(directory: &Path) -> Result<File, String> {
    let told = |what: &str, error: io::Error| format!("state_dir {}: {what}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(|error| told("cannot be created", error))?;
    let file = File::create(directory.join("lock")).map_err(|error| told("cannot be written", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "state_dir {}: in use by another exporter; give each exporter a directory of its own",
            directory.display()
        )),
        Err(TryLockError::Error(error)) => Err(told("cannot be locked", error)),
    }
}

/// Writes the file whole or not at all, and waits until it is on the disk.
///
/// # Errors
/// Whatever the file system says; the file is then as it was.
pub fn save(path: &Path, saved: &Saved<'_>) -> io::Result<()> {
    let body = serde_json::to_vec(saved)?;
    let seal = Seal { format: FORMAT, keccak256: H256(keccak256(&body)), length: body.len() };
    let temporary = path.with_extension("tmp");
    let written = write(&temporary, &seal, &body).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: on a full disk the torn file must not keep the room it takes.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The new name is durable only once its directory is.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// What was saved; `None` where there is no file.
///
/// # Errors
/// One line that says why the file is not believed.
pub fn load(path: &Path, contract: H160, start_block: Option<u64>) -> Result<Option<Saved<'static>>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let saved = unseal(&bytes)?;
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
    directory.join(format!("{network}.json"))
}

fn write(path: &Path, seal: &Seal, body: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    serde_json::to_writer(&mut file, seal)?;
    file.write_all(b"\n")?;
    file.write_all(body)?;
    file.sync_all()
}

fn unseal(bytes: &[u8]) -> Result<Saved<'static>, String> {
    let torn = || "is torn or damaged".to_owned();
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(torn)?;
    let (first, body) = (&bytes[..end], &bytes[end + 1..]);
    let seal: Seal = serde_json::from_slice(first).map_err(|_| torn())?;
    if seal.format != FORMAT {
        let age = if seal.format > FORMAT { "a newer" } else { "an older" };
        return Err(format!("was written by {age} version (format {}, expected {FORMAT})", seal.format));
    }
    if seal.length != body.len() || seal.keccak256.0 != keccak256(body) {
        return Err(torn());
    }
    serde_json::from_slice(body).map_err(|_| torn())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved() -> Saved<'static> {
        Saved {
            chain_id: 1,
            contract: H160::repeat_byte(1),
            start_block: Some(5),
            first_block: 5,
            anchor: None,
            compared: Some((9, 0)),
            gaps: Cow::Owned(Vec::new()),
            ledger: Cow::Owned(Ledger::default()),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_is_not_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), "net");
        assert!(load(&path, H160::repeat_byte(1), Some(5)).unwrap().is_none());
        save(&path, &saved()).unwrap();
        let loaded = load(&path, H160::repeat_byte(1), Some(5)).unwrap().unwrap();
        assert_eq!((loaded.chain_id, loaded.compared), (1, Some((9, 0))));
        let refused = load(&path, H160::repeat_byte(2), Some(5)).unwrap_err();
        assert!(refused.starts_with("is of another contract, 0x0101"), "{refused}");
        assert_eq!(load(&path, H160::repeat_byte(1), None).unwrap_err(), "was made with another start_block");
        let text = fs::read_to_string(&path).unwrap();
        for (format, age) in [(0, "an older"), (2, "a newer")] {
            fs::write(&path, text.replace("\"format\":1", &format!("\"format\":{format}"))).unwrap();
            let refused = load(&path, H160::repeat_byte(1), Some(5)).unwrap_err();
            assert_eq!(refused, format!("was written by {age} version (format {format}, expected 1)"));
        }
    }

    #[test]
    fn a_directory_serves_one_exporter_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        let refused = lock(directory.path()).unwrap_err();
        assert!(refused.contains("in use by another exporter"), "{refused}");
        drop(held);
        lock(directory.path()).unwrap();
    }

    proptest! {
        #[test]
        fn a_file_that_was_cut_or_changed_is_refused(cut in 0.0..1.0_f64, flip: u8) {
            let directory = tempfile::tempdir().unwrap();
            let path = file(directory.path(), "net");
            save(&path, &saved()).unwrap();
            let whole = fs::read(&path).unwrap();
            let place = (whole.len() as f64 * cut) as usize;
            prop_assert!(unseal(&whole[..place]).is_err());
            let mut changed = whole.clone();
            changed[place] ^= flip;
            prop_assert!(flip == 0 || unseal(&changed).is_err() || changed[..=place].ends_with(b"\n"));
        }

        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            prop_assert!(unseal(&bytes).is_err());
        }
    }
}
