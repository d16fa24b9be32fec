//! A snapshot: the files of one commit, as links to blobs, and which of them are missing.

use crate::select::{is_index, is_weights, shard_set};
use crate::{Digest, HubError};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Deepest directory of a repository that is looked into.
const MAX_DEPTH: usize = 16;
/// Largest index of a sharded model that is read; the largest published ones have 10 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The files of one commit that are in the cache.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Commit.
    pub commit: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its files, by name.
    pub files: Vec<SnapshotFile>,
}

/// One file of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// Name in the repository, with `/`.
    pub name: String,
    /// The blob that it links to, if that is one of this repository.
    pub blob: Option<String>,
    /// Length; absent where it links to nothing.
    pub bytes: Option<u64>,
    /// When it was read last, as the file system has it.
    pub accessed: Option<SystemTime>,
}

impl Snapshot {
    pub(crate) fn read(commit: &str, dir: &Path, blobs: &Path) -> Result<Self, HubError> {
        let mut files = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((below, depth)) = open.pop() {
            for name in crate::cache::names(&dir.join(&below))? {
                let name = if below.is_empty() { name } else { format!("{below}/{name}") };
                let path = dir.join(&name);
                let own = fs::symlink_metadata(&path).map_err(|error| HubError::io(&path, error))?;
                if own.is_dir() {
                    if depth < MAX_DEPTH {
                        open.push((name, depth + 1));
                    }
                    continue;
                }
                let blob = fs::read_link(&path).ok().and_then(|target| blob_of(&path, &target, blobs));
                let target = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
                let accessed = target.as_ref().and_then(|meta| meta.accessed().ok());
                files.push(SnapshotFile { name, blob, bytes: target.map(|meta| meta.len()), accessed });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { commit: commit.to_owned(), dir: dir.to_owned(), files })
    }

    /// Bytes of the files that are there.
    pub fn len_bytes(&self) -> u64 {
        // Two names of one blob take its room once.
        let mut seen = BTreeSet::new();
        let is_new = |file: &&SnapshotFile| file.blob.as_ref().is_none_or(|blob| seen.insert(blob.clone()));
        self.files.iter().filter(is_new).filter_map(|file| file.bytes).sum()
    }

    /// When one of its files was read last.
    pub fn accessed(&self) -> Option<SystemTime> {
        self.files.iter().filter_map(|file| file.accessed).max()
    }

    /// The format of the weights, by their names; absent where there are none.
    pub fn format(&self) -> Option<&'static str> {
        ["safetensors", "gguf", "apr"].into_iter().find(|format| {
            self.files.iter().any(|file| file.name.rsplit_once('.').is_some_and(|(_, ending)| ending == *format))
        })
    }

    /// What a model of these files needs and is not there: blobs that links lead to, shards that an index names, files of
    /// a split GGUF model, or weights at all.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: BTreeSet<String> =
            self.files.iter().filter(|file| file.bytes.is_none()).map(|file| file.name.clone()).collect();
        let is_there = |name: &str| self.files.iter().any(|file| file.name == name);
        for file in &self.files {
            if let Some((_, shards)) = shard_set(&file.name) {
                missing.extend(shards.into_iter().filter(|shard| !is_there(shard)));
            } else if is_index(&file.name) {
                missing.extend(self.named_shards(file).into_iter().filter(|shard| !is_there(shard)));
            }
        }
        if !self.files.iter().any(|file| is_weights(&file.name)) && missing.is_empty() {
            missing.insert("weights".to_owned());
        }
        missing.into_iter().collect()
    }

    /// The files that an index says tensors are in. One that can't be read names none here: who opens the model is told.
    fn named_shards(&self, index: &SnapshotFile) -> BTreeSet<String> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        if index.bytes.is_none_or(|bytes| bytes > MAX_INDEX_BYTES) {
            return BTreeSet::new();
        }
        let text = fs::read(self.dir.join(&index.name)).unwrap_or_default();
        let Ok(parsed) = serde_json::from_slice::<Index>(&text) else { return BTreeSet::new() };
        let below = index.name.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"));
        parsed.weight_map.into_values().map(|shard| format!("{below}{shard}")).collect()
    }

    /// The files whose content is not what its blob is named by. `seen` is told the bytes as they are read.
    pub fn damaged(&self, seen: &mut dyn FnMut(u64) -> std::ops::ControlFlow<()>) -> Result<Vec<String>, HubError> {
        let mut damaged = Vec::new();
        for file in self.files.iter().filter(|file| file.bytes.is_some()) {
            // A name that is no digest says nothing about the content.
            let Some(digest) = file.blob.as_deref().and_then(Digest::from_etag) else { continue };
            if digest.of_file(&self.dir.join(&file.name), seen)? != digest {
                damaged.push(file.name.clone());
            }
        }
        Ok(damaged)
    }
}

/// The name of the blob that a link leads to, without asking the disk: `../../blobs/NAME` and nothing beyond.
fn blob_of(link: &Path, target: &Path, blobs: &Path) -> Option<String> {
    let mut path = link.parent()?.to_owned();
    for part in target.components() {
        match part {
            std::path::Component::ParentDir => _ = path.pop(),
            other => path.push(other),
        }
    }
    let name = path.file_name()?.to_str()?;
    (path.parent() == Some(blobs)).then(|| name.to_owned())
}
