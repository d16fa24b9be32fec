//! The directories of the hub's cache: where a repository keeps its blobs, snapshots and refs.
//!
//! Source: "Understand caching" of the huggingface_hub documentation, and its version 2.4.

use crate::disk::Lock;
use crate::environment::Environment;
use crate::name::is_commit;
use crate::snapshot::Snapshot;
use crate::{HubError, RepoId};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A cache of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// The part of a cache that belongs to one repository, there or not.
#[derive(Clone, Debug)]
pub struct RepoCache {
    dir: PathBuf,
    locks: PathBuf,
}

impl Cache {
    /// The cache that `huggingface_hub` would use: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`,
    /// `XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`.
    pub fn new(environment: &impl Environment) -> Result<Self, HubError> {
        let named = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().find_map(|name| environment.path(name));
        let root = named.or_else(|| environment.hf_home().map(|home| home.join("hub")));
        let root =
            root.ok_or_else(|| HubError::Unavailable("no home directory, so no cache; set HF_HUB_CACHE".into()))?;
        Ok(Self { root })
    }

    /// The cache in this directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The part of one repository.
    pub fn repo(&self, repo: &RepoId) -> RepoCache {
        let name = repo.dir_name();
        RepoCache { dir: self.root.join(&name), locks: self.root.join(".locks").join(name) }
    }

    /// Every repository of models that is there, by name. A cache that is not there has none.
    pub fn repos(&self) -> Result<Vec<RepoId>, HubError> {
        let mut repos: Vec<_> = names(&self.root)?.iter().filter_map(|name| RepoId::from_dir_name(name)).collect();
        repos.retain(|repo| self.repo(repo).dir.is_dir());
        repos.sort();
        Ok(repos)
    }
}

impl RepoCache {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of its locks.
    pub(crate) fn locks(&self) -> &Path {
        &self.locks
    }

    /// The directory of its blobs.
    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// The directory of a snapshot.
    pub fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// The snapshot of a commit, if it is there.
    pub fn snapshot(&self, commit: &str) -> Result<Option<Snapshot>, HubError> {
        let dir = self.snapshot_dir(commit);
        if dir.is_dir() { Snapshot::read(commit, &dir, &self.blobs()).map(Some) } else { Ok(None) }
    }

    /// Every snapshot, by commit.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, HubError> {
        let mut commits = names(&self.dir.join("snapshots"))?;
        commits.retain(|name| is_commit(name));
        commits.sort();
        commits.iter().filter_map(|commit| self.snapshot(commit).transpose()).collect()
    }

    /// The commit that a revision stands for: a commit is one itself, a branch or tag as it was when it was pulled.
    pub fn commit(&self, revision: &str) -> Result<Option<String>, HubError> {
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let path = self.ref_path(revision);
        match fs::read_to_string(&path) {
            Ok(text) if is_commit(text.trim()) => Ok(Some(text.trim().to_owned())),
            Ok(_) => Err(HubError::Blocked(format!("{}: not the id of a commit", path.display()))),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(HubError::io(&path, error)),
        }
    }

    /// Every branch and tag with its commit, by name.
    pub fn refs(&self) -> Result<Vec<(String, String)>, HubError> {
        let mut refs = Vec::new();
        let root = self.dir.join("refs");
        let mut open = vec![String::new()];
        while let Some(below) = open.pop() {
            for name in names(&root.join(&below))? {
                let name = if below.is_empty() { name } else { format!("{below}/{name}") };
                if root.join(&name).is_dir() {
                    open.push(name);
                } else if let Some(commit) = self.commit(&name)? {
                    refs.push((name, commit));
                }
            }
        }
        refs.sort();
        Ok(refs)
    }

    /// Files whose download is not finished, with the bytes that are there.
    pub fn incomplete(&self) -> Result<Vec<(String, u64)>, HubError> {
        let mut incomplete = Vec::new();
        for name in names(&self.blobs())?.into_iter().filter(|name| name.ends_with(".incomplete")) {
            // One that is finished meanwhile is gone.
            if let Ok(meta) = fs::metadata(self.blobs().join(&name)) {
                incomplete.push((name, meta.len()));
            }
        }
        Ok(incomplete)
    }

    /// Where a branch or tag is written down.
    pub(crate) fn ref_path(&self, revision: &str) -> PathBuf {
        self.dir.join("refs").join(revision)
    }

    /// Writes down which commit a branch or tag stands for.
    #[cfg(feature = "net")]
    pub(crate) fn set_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        use std::io::Write as _;
        let path = self.ref_path(revision);
        let dir = path.parent().expect("a ref lies in a directory");
        let io = |error| HubError::io(&path, error);
        fs::create_dir_all(dir).map_err(io)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(io)?;
        file.write_all(commit.as_bytes()).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        // Others who share the cache read it too; a temporary file is its owner's alone.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// Lets the snapshot of `commit` have the blob under `name`: a relative link, there at once or not at all.
    #[cfg(feature = "net")]
    pub(crate) fn link(&self, commit: &str, name: &str, blob: &str) -> Result<(), HubError> {
        let path = self.snapshot_dir(commit).join(name);
        let dir = path.parent().expect("a file lies in a directory");
        let up = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{blob}"));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let io = |error| HubError::io(&path, error);
        fs::create_dir_all(dir).map_err(io)?;
        // In a directory beside, where nobody takes it for a file of the model.
        let aside = tempfile::tempdir_in(&self.dir).map_err(io)?;
        let new = aside.path().join("link");
        std::os::unix::fs::symlink(&target, &new).map_err(io)?;
        fs::rename(&new, &path).map_err(io)
    }

    /// The lock that `huggingface_hub` takes, too, while it writes this blob.
    #[cfg(feature = "net")]
    pub(crate) fn lock_path(&self, blob: &str) -> PathBuf {
        self.locks.join(format!("{blob}.lock"))
    }

    /// Whether somebody writes a blob of this repository now.
    pub(crate) fn busy(&self) -> Result<bool, HubError> {
        for name in names(&self.locks)? {
            if Lock::try_take(&self.locks.join(name))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The names in a directory; one that is not there has none.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, HubError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HubError::io(dir, error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<std::io::Result<_>>().map_err(|error| HubError::io(dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            assert_eq!(Cache::new(&variables).unwrap().root(), Path::new(expected), "{variables:?}");
        };
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (first, expected) in expected.into_iter().enumerate() {
            check(&all[first..], expected);
        }
        check(&[("HF_HUB_CACHE", ""), ("HF_HOME", "~/x"), ("HOME", "/e")], "/e/x/hub");
        assert!(Cache::new(&(&[] as &[(&str, &str)])).is_err());
    }
}
