//! The memory map: with `writeback`, all of this crate that needs `unsafe`.

use apr_tensor::{Bytes, Storage};
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Range;

const PAGE: usize = 4096;

struct Map(Mmap);

impl Storage for Map {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(target_os = "linux")]
    fn prefetch(&self, range: Range<usize>) {
        let start = range.start / PAGE * PAGE;
        // A system before Linux 5.14 does not know this hint, and brings in page after page when they are read.
        drop(self.0.advise_range(memmap2::Advice::PopulateRead, start, range.end - start));
    }

    fn release(&self, range: Range<usize>) {
        // Only whole pages inside the range: a neighbour may be in use.
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        if start < end {
            // SAFETY: the map is private, read-only and backed by a file, so a dropped page is read back from the
            // file with the same content; no reference into it becomes invalid.
            let advised = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
            // A hint that the system declines costs memory, never correctness.
            drop(advised);
        }
    }
}

/// Maps a file. An empty file gives empty bytes.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::from(Vec::new()));
    }
    // SAFETY: the file is opened read-only and mapped privately. Another process that truncates it while it is mapped
    // can make a read fail with SIGBUS; the alternative, copying, would cost memory of the file's size. Writers of this
    // project never write in place: they rename a finished file over the name, which leaves existing maps valid.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::new(Map(map)))
}
