//! Saving and loading, and what a shared directory may hold instead of our files.

use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

/// A ledger after it was saved and loaded.
pub(crate) fn saved_and_loaded(ledger: &Ledger) -> Ledger {
    let mut bytes = Vec::new();
    format::write(&mut bytes, &Saved { ledger: Cow::Borrowed(ledger), ..saved() }).unwrap();
    unseal(&bytes).unwrap().ledger.into_owned()
}

fn unseal(bytes: &[u8]) -> Result<Saved<'static>, String> {
    format::read(bytes, bytes.len() as u64)
}

fn saved() -> Saved<'static> {
    Saved {
        chain_id: 1,
        contract: H160::repeat_byte(1),
        start_block: Some(5),
        first_block: 5,
        anchor: Some(BlockRef { number: 5, time: 7, ..BlockRef::default() }),
        compared: Some((9, 0)),
        gaps: Cow::Owned(Vec::new()),
        proof: Cow::Owned(Proof::default()),
        ledger: Cow::Owned(Ledger::default()),
    }
}

fn load_ours(path: &Path) -> Result<Option<Saved<'static>>, String> {
    load(path, H160::repeat_byte(1), Some(5))
}

#[test]
fn what_was_saved_is_loaded_and_what_is_not_ours_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "net");
    assert!(load_ours(&path).unwrap().is_none());
    save(&path, &saved()).unwrap();
    let loaded = load_ours(&path).unwrap().unwrap();
    assert_eq!((loaded.chain_id, loaded.compared, loaded.anchor), (1, Some((9, 0)), saved().anchor));
    let refused = load(&path, H160::repeat_byte(2), Some(5)).unwrap_err();
    assert!(refused.starts_with("is of another contract, 0x0101"), "{refused}");
    assert_eq!(load(&path, H160::repeat_byte(1), None).unwrap_err(), "was made with another start_block");
    let whole = fs::read(&path).unwrap();
    let line = |format: u32| format!("{{\"format\":{format}}}\n").into_bytes();
    assert!(whole.starts_with(&line(3)));
    for (format, age) in [(0, "an older"), (2, "an older"), (4, "a newer")] {
        fs::write(&path, [line(format), whole[line(3).len()..].to_vec()].concat()).unwrap();
        let expected = format!("was written by {age} version (format {format}, expected 3)");
        assert_eq!(load_ours(&path).unwrap_err(), expected);
    }
}

#[test]
fn only_the_owner_may_read_what_is_written_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("a/b");
    let _held = lock(&inner).unwrap();
    let path = file(&inner, "net");
    // A run that was killed left this behind.
    fs::write(inner.join("net.tmp"), "torn").unwrap();
    save(&path, &saved()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&inner.join("lock")), mode(&inner)), (0o600, 0o600, 0o700));
    assert!(!inner.join("net.tmp").exists());
}

#[test]
fn links_are_not_followed_and_pipes_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (victim, path) = (directory.path().join("victim"), file(directory.path(), "net"));
    type Plant = fn(&Path, &Path);
    let others: [(&str, Plant); 3] = [
        ("a symbolic link", |victim, at| symlink(victim, at).unwrap()),
        ("not a regular file", |_, at| mkfifoat(CWD, at, Mode::RUSR | Mode::WUSR).unwrap()),
        ("not a regular file", |_, at| fs::create_dir(at).unwrap()),
    ];
    for (what, plant) in others {
        fs::write(&victim, "precious").unwrap();
        let names = ["lock", "net.tmp", "net.state"];
        for name in names {
            plant(&victim, &directory.path().join(name));
        }
        let said = |name: &str| format!("{name} is {what}, expected a regular file");
        let refused = [
            lock(directory.path()).unwrap_err(),
            save(&path, &saved()).unwrap_err().to_string(),
            load_ours(&path).unwrap_err(),
        ];
        for (refused, name) in refused.iter().zip(names) {
            // A directory is refused as such where it would be written to.
            assert!(refused.ends_with(&said(name)) || refused.contains("Is a directory"), "{refused}");
            let planted = directory.path().join(name);
            fs::remove_file(&planted).or_else(|_| fs::remove_dir(&planted)).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "net");
    File::create(&path).unwrap().set_len(format::LARGEST + 1).unwrap();
    let refused = load_ours(&path).unwrap_err();
    assert_eq!(refused, "is too large: 536870913 bytes, expected 536870912 at most");
    File::create(&path).unwrap().set_len(format::LARGEST).unwrap();
    assert_eq!(load_ours(&path).unwrap_err(), "is torn or damaged");
}

#[test]
fn numbers_of_transactions_that_the_file_cannot_hold_take_no_memory() {
    let mut bytes = Vec::new();
    format::write(&mut bytes, &saved()).unwrap();
    let text = String::from_utf8_lossy(&bytes).replacen("\"pending\":0", "\"pending\":999999999999", 1);
    assert_eq!(unseal(text.as_bytes()).unwrap_err(), "is torn or damaged");
}

#[test]
fn a_full_disk_is_an_error() {
    // Every write to this device fails as on a full disk.
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(format::write(&mut full, &saved()).unwrap_err().kind(), io::ErrorKind::StorageFull);
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
    fn a_file_that_was_cut_or_changed_is_refused(cut in 0.0..1.0_f64, flip in 1..=u8::MAX) {
        let mut whole = Vec::new();
        format::write(&mut whole, &saved()).unwrap();
        let place = (whole.len() as f64 * cut) as usize;
        prop_assert!(unseal(&whole[..place]).is_err());
        prop_assert!(unseal(&[&whole[..], b"x"].concat()).is_err());
        whole[place] ^= flip;
        prop_assert!(unseal(&whole).is_err());
    }

    #[test]
    fn any_bytes_are_taken(bytes: Vec<u8>) {
        prop_assert!(unseal(&bytes).is_err());
    }
}
