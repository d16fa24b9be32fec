//! What a blob is named by, and whether its bytes are those.

use crate::HubError;
use crate::name::is_hex;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

/// The digest that the hub names a file's content by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256 of the bytes: files of Git LFS.
    Sha256(String),
    /// SHA-1 as Git counts it, over `blob LENGTH\0` and the bytes: the others.
    GitSha1(String),
}

impl Digest {
    /// The digest that the name of a blob, which is an `ETag` of the hub, stands for.
    pub fn from_etag(etag: &str) -> Option<Self> {
        match etag.len() {
            64 if is_hex(etag) => Some(Digest::Sha256(etag.to_owned())),
            40 if is_hex(etag) => Some(Digest::GitSha1(etag.to_owned())),
            _ => None,
        }
    }

    /// The name of the blob: the digits alone.
    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::GitSha1(hex) => hex,
        }
    }

    /// Begins to compute a digest of this kind over `len_bytes` bytes.
    pub(crate) fn hasher(&self, len_bytes: u64) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::GitSha1(_) => Hasher::GitSha1(Sha1::new_with_prefix(format!("blob {len_bytes}\0"))),
        }
    }

    /// What the content of a file really has for a digest of this kind; `seen` is told the bytes as they are read.
    pub fn of_file(&self, path: &Path, seen: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Digest, HubError> {
        let io = |error| HubError::io(path, error);
        let mut file = File::open(path).map_err(io)?;
        let mut hasher = self.hasher(file.metadata().map_err(io)?.len());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
            if seen(buffer.len() as u64).is_break() {
                return Err(HubError::Interrupted);
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Digest::Sha256(hex) => write!(f, "sha256:{hex}"),
            Digest::GitSha1(hex) => write!(f, "git-sha1:{hex}"),
        }
    }
}

/// A digest on its way.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hex(&hasher.finalize())),
            Hasher::GitSha1(hasher) => Digest::GitSha1(hex(&hasher.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git_hash_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        for digest in [
            // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "ce013625030ba8dba906f756967f9e9ca394464a",
        ] {
            let digest = Digest::from_etag(digest).unwrap();
            assert_eq!(digest.of_file(&path, &mut |_| ControlFlow::Continue(())).unwrap(), digest);
        }
        for etag in ["", "abc", "../../../../../../../../../../../etc/hosts", &"g".repeat(40), &"A".repeat(64)] {
            assert_eq!(Digest::from_etag(etag), None, "{etag}");
        }
    }
}
