//! The memory map: with `writeback`, all of this crate that needs `unsafe`.

use apr_tensor::{Bytes, Storage};
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

const PAGE: usize = 4096;

struct Map {
    map: Mmap,
    file: File,
    /// What the system said of the file before it was mapped.
    before: Metadata,
    /// For errors.
    path: PathBuf,
}

impl Storage for Map {
    fn as_bytes(&self) -> &[u8] {
        &self.map
    }

    #[cfg(target_os = "linux")]
    fn prefetch(&self, range: Range<usize>) {
        let start = range.start / PAGE * PAGE;
        // A system before Linux 5.14 does not know this hint, and brings in page after page when they are read.
        drop(self.map.advise_range(memmap2::Advice::PopulateRead, start, range.end - start));
    }

    fn release(&self, range: Range<usize>) {
        // Only whole pages inside the range: a neighbour may be in use.
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        if start < end {
            // SAFETY: the map is private, read-only and backed by a file, so a dropped page is read back from the
            // file with the same content; no reference into it becomes invalid.
            let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
            // A hint that the system declines costs memory, never correctness.
            drop(advised);
        }
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let now = self.file.metadata()?;
        let path = self.path.display();
        if now.len() != self.before.len() {
            let (before, now) = (self.before.len(), now.len());
            return Err(io::Error::other(format!(
                "{path} had {before} bytes and has {now} now: it was changed meanwhile"
            )));
        }
        if now.modified()? != self.before.modified()? {
            return Err(io::Error::other(format!("{path} was written to meanwhile")));
        }
        Ok(())
    }
}

/// Maps a file. An empty file gives empty bytes.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let before = file.metadata()?;
    if before.len() == 0 {
        return Ok(Bytes::from(Vec::new()));
    }
    // SAFETY: the file is opened read-only and mapped privately. Another process that truncates it while it is mapped
    // can make a read fail with SIGBUS; the alternative, copying, would cost memory of the file's size. Writers of this
    // project never write in place: they rename a finished file over the name, which leaves existing maps valid. Bytes
    // that others change are noticed by `check_unchanged` before anything made from them gets its name.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::new(Map { map, file, before, path: path.to_owned() }))
}

static STATUS: AtomicI32 = AtomicI32::new(0);

/// Ends the process with `status` and a message, instead of by SIGBUS, where bytes of a mapped file are gone when they
/// are read: somebody made it shorter, or the disk fails.
///
/// For programs, which call it once. What is being written then has no name yet, and stays as `.NAME.….partial`.
pub fn exit_where_mapped_bytes_are_gone(status: u8) {
    extern "C" fn gone(_signal: libc::c_int) {
        const MESSAGE: &[u8] =
            b"error: a file that is being read became shorter meanwhile, or can't be read; nothing was replaced\n";
        // SAFETY: write and _exit may be called in a signal's handler; the message is static.
        unsafe {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(STATUS.load(Ordering::Relaxed));
        }
    }
    STATUS.store(status.into(), Ordering::Relaxed);
    // SAFETY: the handler only makes calls that are allowed there, and never returns to the read that failed.
    unsafe { libc::signal(libc::SIGBUS, gone as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}
