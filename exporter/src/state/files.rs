//! Files in a directory to which others may write as well.
//!
//! Never follows a link in place of a file, never waits for the other end of a pipe, never shortens a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Nobody else may read or write what is created here.
const MODE: u32 = 0o600;

/// Opens a regular file to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    regular(path, OpenOptions::new().read(true))
}

/// Opens a regular file to lock it; what it holds stays.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    regular(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Creates a file. One that an earlier run left behind gives way; anything but a regular file is refused.
pub(super) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => fs::remove_file(path)?,
        Ok(found) => return Err(refused(path, if found.is_symlink() { LINK } else { OTHER })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

const LINK: &str = "a symbolic link";
const OTHER: &str = "not a regular file";

fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.mode(MODE).custom_flags(flags).open(path).map_err(|error| {
        // Where a link stands, opening without following it fails so.
        let is_link = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        if is_link { refused(path, LINK) } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused(path, OTHER)) }
}

fn refused(path: &Path, what: &str) -> io::Error {
    let name = path.file_name().unwrap_or_default().display();
    io::Error::other(format!("{name} is {what}, expected a regular file"))
}
