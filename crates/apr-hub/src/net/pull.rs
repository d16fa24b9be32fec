//! A pull: what is wanted and what of it is there, then the rest.

use super::api::{Hub, RemoteFile};
use super::blob::{Blob, fetch_blob};
use crate::cache::RepoCache;
use crate::disk::{Lock, check_space};
use crate::name::is_commit;
use crate::select::{Available, Skipped, Wanted, select};
use crate::{Cache, Digest, Event, HubError, Observer, Reference};
use std::fs;
use std::path::PathBuf;

/// What is done with files that are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Fetch them again.
    pub force: bool,
    /// Read them, and fetch those again that are damaged.
    pub verify: bool,
}

/// What a pull would do.
#[derive(Clone, Debug)]
pub struct PullPlan {
    /// What was asked for.
    pub reference: Reference,
    /// The commit that its revision stands for.
    pub commit: String,
    /// The files wanted, those with few bytes first: what is wrong with a model is then known early.
    pub files: Vec<PlannedFile>,
    /// The file to open; absent where that is the directory.
    pub main: Option<String>,
    /// Weights that are not wanted.
    pub skipped: Vec<Skipped>,
}

/// A file that is wanted.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// Name in the repository.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Digest of its content, and name of its blob.
    pub digest: Digest,
    /// What is there of it.
    pub state: FileState,
}

/// What is there of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// All of it.
    Cached,
    /// So many bytes, from an attempt that was ended.
    Partial(u64),
    /// Nothing.
    Absent,
    /// Something else under its name.
    Damaged,
}

impl PullPlan {
    /// Bytes that are still to be fetched.
    pub fn missing_bytes(&self) -> u64 {
        self.files.iter().map(PlannedFile::missing_bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of the files wanted.
    pub fn len_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// The directory of the snapshot.
    pub fn snapshot_dir(&self, cache: &Cache) -> PathBuf {
        cache.repo(&self.reference.repo).snapshot_dir(&self.commit)
    }
}

impl PlannedFile {
    fn missing_bytes(&self) -> u64 {
        match self.state {
            FileState::Cached => 0,
            FileState::Partial(there) => self.bytes.saturating_sub(there),
            FileState::Absent | FileState::Damaged => self.bytes,
        }
    }
}

/// Asks the hub what a reference stands for, and the cache what of it is there. Writes nothing.
pub fn plan_pull(
    hub: &Hub,
    cache: &Cache,
    reference: &Reference,
    wanted: &Wanted<'_>,
    mode: Mode,
    observer: Observer<'_>,
) -> Result<PullPlan, HubError> {
    let info = hub.info(&reference.repo, reference.revision(), observer)?;
    if is_commit(reference.revision()) && info.commit != reference.revision() {
        let detail = format!("the hub answers for {} with the commit {}: refused", reference.revision(), info.commit);
        return Err(HubError::Refused(detail));
    }
    let there: Vec<_> = info.files.iter().map(|file| Available { name: &file.name, bytes: file.bytes }).collect();
    let selection = select(&there, wanted)?;
    let repo = cache.repo(&reference.repo);
    let mut files = Vec::with_capacity(selection.files.len());
    for name in &selection.files {
        let listed = info.files.iter().find(|file| file.name == *name).expect("what is selected was listed");
        let known = match (listed.bytes, &listed.digest) {
            (Some(_), Some(_)) => listed.clone(),
            _ => hub.file(&reference.repo, &info.commit, name, observer)?,
        };
        let RemoteFile { bytes: Some(bytes), digest: Some(digest), .. } = known else {
            return Err(HubError::Refused(format!("{name}: the hub does not say its length and digest: refused")));
        };
        files.push(PlannedFile { name: name.clone(), bytes, digest, state: FileState::Absent });
    }
    if files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.bytes)).is_none() {
        return Err(HubError::Refused("the hub announces more bytes than can be counted: refused".to_owned()));
    }
    files.sort_by(|a, b| (a.bytes, &a.name).cmp(&(b.bytes, &b.name)));
    let total = files.iter().map(|file| file.bytes).sum();
    let mut done = 0;
    for file in &mut files {
        file.state = state(&repo, file, mode, &mut |n| {
            done = (done + n).min(total);
            observer(Event::Bytes { done, total })
        })?;
    }
    let (main, skipped) = (selection.main, selection.skipped);
    Ok(PullPlan { reference: reference.clone(), commit: info.commit, files, main, skipped })
}

fn state(
    repo: &RepoCache,
    file: &PlannedFile,
    mode: Mode,
    seen: &mut dyn FnMut(u64) -> std::ops::ControlFlow<()>,
) -> Result<FileState, HubError> {
    let path = repo.blobs().join(file.digest.hex());
    if mode.force {
        return Ok(FileState::Absent);
    }
    match fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() == file.bytes => {
            let is_sound = !mode.verify || file.digest.of_file(&path, seen)? == file.digest;
            Ok(if is_sound { FileState::Cached } else { FileState::Damaged })
        }
        Ok(_) => Ok(FileState::Damaged),
        Err(_) => {
            let there = fs::metadata(incomplete(repo, file)).map_or(0, |meta| meta.len());
            Ok(if (1..=file.bytes).contains(&there) { FileState::Partial(there) } else { FileState::Absent })
        }
    }
}

fn incomplete(repo: &RepoCache, file: &PlannedFile) -> PathBuf {
    repo.blobs().join(format!("{}.incomplete", file.digest.hex()))
}

/// Fetches what a plan says is missing, and makes the snapshot and the ref. Returns the bytes that came over the network.
///
/// Each file is linked as soon as it is there. The ref is written at the end: until then, the revision stands for what it
/// stood for before.
pub fn fetch(hub: &Hub, cache: &Cache, plan: &PullPlan, mode: Mode, observer: Observer<'_>) -> Result<u64, HubError> {
    let repo = cache.repo(&plan.reference.repo);
    for dir in [repo.blobs(), repo.dir().join("snapshots")] {
        fs::create_dir_all(&dir).map_err(|error| HubError::io(&dir, error))?;
    }
    check_space(repo.dir(), plan.missing_bytes())?;
    // Counted is what comes over the network: what is there already would make it look fast.
    let total = plan.missing_bytes();
    let (mut before, mut fetched) = (0, 0);
    for file in &plan.files {
        if file.state != FileState::Cached {
            fetched += fetch_file(hub, &repo, plan, file, mode, &mut |event| match event {
                Event::Bytes { done, .. } => {
                    let came = done.saturating_sub(file.bytes - file.missing_bytes());
                    observer(Event::Bytes { done: before + came, total })
                }
                other => observer(other),
            })?;
            before += file.missing_bytes();
        }
        repo.link(&plan.commit, &file.name, file.digest.hex())?;
    }
    if !is_commit(plan.reference.revision()) {
        repo.set_ref(plan.reference.revision(), &plan.commit)?;
    }
    Ok(fetched)
}

fn fetch_file(
    hub: &Hub,
    repo: &RepoCache,
    plan: &PullPlan,
    file: &PlannedFile,
    mode: Mode,
    observer: Observer<'_>,
) -> Result<u64, HubError> {
    let path = repo.blobs().join(file.digest.hex());
    let _lock = Lock::take(&repo.lock_path(file.digest.hex()), &file.name, observer)?;
    // Who had the lock before may have fetched it.
    let is_there = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes);
    if is_there && !mode.force && file.state != FileState::Damaged {
        return Ok(0);
    }
    let blob = Blob {
        url: hub.file_url(&plan.reference.repo, &plan.commit, &file.name)?,
        name: &file.name,
        commit: &plan.commit,
        bytes: file.bytes,
        digest: &file.digest,
        path,
        incomplete: incomplete(repo, file),
    };
    fetch_blob(hub, &blob, mode.force, observer)
}
