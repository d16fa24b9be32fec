//! Copying files of the cache into a plain directory.

use crate::{Digest, Event, HubError, Observer};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// One file to copy.
#[derive(Clone, Debug)]
pub struct CopyFile {
    /// Name in the repository, and below the target.
    pub name: String,
    /// Where it is.
    pub from: PathBuf,
    /// Length.
    pub bytes: u64,
    /// What its content is, if its blob's name says so.
    pub digest: Option<Digest>,
}

/// Whether nothing is in the way below `target`.
pub fn check_target<'a>(target: &Path, names: impl Iterator<Item = &'a str>, force: bool) -> Result<(), HubError> {
    for name in names {
        let path = target.join(name);
        if !force && fs::symlink_metadata(&path).is_ok() {
            return Err(HubError::Blocked(format!("{} exists; --force replaces it", path.display())));
        }
    }
    Ok(())
}

/// Copies files below `target`, each complete or not there, and checks what is copied. A copy is no link: whoever changes it
/// must not change the cache.
pub fn copy_files(files: &[CopyFile], target: &Path, force: bool, observer: Observer<'_>) -> Result<(), HubError> {
    check_target(target, files.iter().map(|file| file.name.as_str()), force)?;
    let (mut done, total) = (0, files.iter().map(|file| file.bytes).sum());
    fs::create_dir_all(target).map_err(|error| HubError::io(target, error))?;
    crate::disk::check_space(target, total)?;
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let path = target.join(&file.name);
        let dir = path.parent().unwrap_or(target);
        let (from, to) = (|error| HubError::io(&file.from, error), |error| HubError::io(&path, error));
        fs::create_dir_all(dir).map_err(to)?;
        let mut source = File::open(&file.from).map_err(from)?;
        let mut copy = tempfile::NamedTempFile::new_in(dir).map_err(to)?;
        let mut hasher = file.digest.as_ref().map(|digest| digest.hasher(file.bytes));
        loop {
            let n = source.read(&mut buffer).map_err(from)?;
            if n == 0 {
                break;
            }
            copy.write_all(&buffer[..n]).map_err(to)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..n]);
            }
            done += n as u64;
            if observer(Event::Bytes { done, total }).is_break() {
                return Err(HubError::Interrupted);
            }
        }
        if let (Some(hasher), Some(digest)) = (hasher, &file.digest) {
            let found = hasher.finish();
            if found != *digest {
                let detail = format!("{}: its content is {found}, its name says {digest}", file.from.display());
                return Err(HubError::Blocked(format!("{detail}; `apr pull --verify` fetches it again")));
            }
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        copy.as_file().set_permissions(mode).map_err(to)?;
        copy.as_file().sync_all().map_err(to)?;
        copy.persist(&path).map_err(|error| to(error.error))?;
    }
    Ok(())
}
