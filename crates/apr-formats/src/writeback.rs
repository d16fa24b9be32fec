//! Asking the system to begin writing a part of a file to disk.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Begins to bring `len` bytes at `start` to disk, and does not wait for them.
///
/// A hint, which says nothing about whether they arrive: `File::sync_all` does that, and is quick then. Unlike it, this
/// makes no commit of the journal, which would wait for everything that others write to the file system, too.
#[cfg(target_os = "linux")]
pub(crate) fn begin(file: &File, start: u64, len: u64) {
    let (Ok(start), Ok(len)) = (i64::try_from(start), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call touches no memory of this process.
    let _hint = unsafe { libc::sync_file_range(file.as_raw_fd(), start, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Other systems have no such hint.
#[cfg(not(target_os = "linux"))]
pub(crate) fn begin(_file: &File, _start: u64, _len: u64) {}
