//! The disk: locks between processes (`flock` on a file, which is what `huggingface_hub` takes on the same file), and room.

use crate::{Event, HubError, Observer};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock if nobody has it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, HubError> {
        let io = |error| HubError::io(path, error);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Takes the lock, and waits for it.
    #[cfg_attr(not(feature = "net"), expect(dead_code, reason = "only downloads wait"))]
    pub(crate) fn take(path: &Path, what: &str, observer: Observer<'_>) -> Result<Self, HubError> {
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            let note = format!("{what}: another process fetches it; waiting");
            let event = if told { Event::Waiting } else { Event::Note(&note) };
            told = true;
            if observer(event).is_break() {
                return Err(HubError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether the disk of `dir` has room for `bytes` more.
pub(crate) fn check_space(dir: &Path, bytes: u64) -> Result<(), HubError> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| HubError::io(dir, error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes {
        let detail = format!("{bytes} bytes are to be written, and the disk of {} has {free} left", dir.display());
        return Err(HubError::Blocked(detail));
    }
    Ok(())
}
