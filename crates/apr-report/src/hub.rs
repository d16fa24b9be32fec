//! `apr pull`, `apr list` and `apr rm`: models in the cache of the Hugging Face hub.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `apr pull`: what of a repository is in the cache now, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PullReport {
    /// `apr.pull/1`.
    pub schema: String,
    /// Whether it is what would be fetched, and nothing was.
    pub dry_run: bool,
    /// Whether the network was left alone.
    pub offline: bool,
    /// The repository: `org/name`.
    pub repo: String,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// The commit that it stands for.
    pub commit: String,
    /// What to give to other commands: a file, or a directory.
    pub path: String,
    /// Every file wanted.
    pub files: Vec<PulledFile>,
    /// Weights of the repository that are not wanted.
    pub skipped: Vec<SkippedFile>,
    /// Sum of `files[].bytes`.
    pub bytes: u64,
    /// Bytes that came over the network, or would; retried ones are counted each time.
    pub bytes_fetched: u64,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
}

/// A file of a model that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PulledFile {
    /// Name in the repository.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// `sha256:…` or `git-sha1:…`, by which the hub names the content; absent where the cache does not have it.
    pub digest: Option<String>,
    /// `cached`, `fetched`, `would_fetch`.
    pub state: String,
    /// Bytes of it that an earlier attempt had left.
    pub resumed_bytes: u64,
}

/// A file that is not wanted although it holds weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedFile {
    /// Name in the repository.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// `apr list`: the models in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListReport {
    /// `apr.list/1`.
    pub schema: String,
    /// The directory of the cache.
    pub cache: String,
    /// Whether the contents of files were held against the digests that they are named by.
    pub verified: bool,
    /// The models, by name and commit.
    pub models: Vec<CachedModel>,
    /// Files whose download was ended, or goes on now.
    pub unfinished: Vec<UnfinishedDownload>,
    /// Bytes of all files that are there; what several revisions have in common is counted once.
    pub bytes: u64,
}

/// Downloads of a repository that are not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnfinishedDownload {
    /// The repository: `org/name`.
    pub repo: String,
    /// Number of files.
    pub n_files: u64,
    /// Bytes that are there.
    pub bytes: u64,
}

/// One revision of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CachedModel {
    /// The repository: `org/name`.
    pub repo: String,
    /// Commit.
    pub commit: String,
    /// The branches and tags that stand for it here.
    pub refs: Vec<String>,
    /// `gguf`, `safetensors` or `apr`, by the names of its files; absent where none is a model's.
    pub format: Option<String>,
    /// Number of files.
    pub n_files: u64,
    /// Bytes of those that are there.
    pub bytes: u64,
    /// What a model needs and is not there.
    pub missing: Vec<String>,
    /// Files whose content is not what they are named by; only looked for with `--verify`.
    pub damaged: Vec<String>,
    /// When a file of it was read last, as the file system has it (RFC 3339).
    pub last_used: Option<String>,
    /// Its directory.
    pub path: String,
}

/// `apr rm`: what was removed from the cache, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RmReport {
    /// `apr.rm/1`.
    pub schema: String,
    /// Whether it is what would be removed, and nothing was.
    pub dry_run: bool,
    /// The repository: `org/name`.
    pub repo: String,
    /// Commits whose snapshots are gone.
    pub commits: Vec<String>,
    /// Branches and tags that are gone.
    pub refs: Vec<String>,
    /// Number of blobs that are gone.
    pub n_blobs: u64,
    /// Blobs that stay because another revision has them too.
    pub n_kept: u64,
    /// Bytes that are free now.
    pub bytes: u64,
}
