//! Removing a repository or a revision from the cache: what nothing else refers to, and nothing outside of it.

use crate::{Cache, HubError, Part, Reference};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What would be removed.
#[derive(Clone, Debug)]
pub struct Removal {
    /// Commits whose snapshots go.
    pub commits: Vec<String>,
    /// Branches and tags that go with them.
    pub refs: Vec<String>,
    /// Blobs that go, with their lengths.
    pub blobs: Vec<(String, u64)>,
    /// Blobs of these snapshots that stay, because others have them too.
    pub kept: u64,
    /// Everything, in the order in which it goes: whoever looks meanwhile finds a snapshot with its files or none.
    paths: Vec<PathBuf>,
    locks: PathBuf,
}

/// Finds out what removing a reference means.
pub fn plan_removal(cache: &Cache, reference: &Reference) -> Result<Removal, HubError> {
    if reference.part != Part::Model {
        let detail = format!("{reference}: whole repositories and revisions are removed, not single files of them");
        return Err(HubError::Usage(detail));
    }
    let repo = cache.repo(&reference.repo);
    if !repo.dir().is_dir() {
        return Err(HubError::NotCached(format!(
            "{} is not in the cache at {}",
            reference.repo,
            cache.root().display()
        )));
    }
    let (refs, snapshots) = (repo.refs()?, repo.snapshots()?);
    let gone = match &reference.revision {
        None => None,
        Some(_) => Some(crate::cached_snapshot(cache, reference)?.commit),
    };
    let goes = |commit: &str| gone.as_deref().is_none_or(|gone| gone == commit);
    let blobs_of = |gone: bool| {
        let of = snapshots.iter().filter(move |snapshot| goes(&snapshot.commit) == gone);
        of.flat_map(|snapshot| snapshot.files.iter().filter_map(|file| file.blob.clone())).collect::<BTreeSet<String>>()
    };
    let (dropped, kept) = (blobs_of(true), blobs_of(false));
    let blobs: Vec<String> = match gone {
        Some(_) => dropped.difference(&kept).cloned().collect(),
        // With the repository goes what no snapshot refers to, too.
        None => crate::cache::names(&repo.blobs())?,
    };
    let refs: Vec<String> = refs.into_iter().filter(|(_, commit)| goes(commit)).map(|(name, _)| name).collect();
    let commits: Vec<String> = snapshots.iter().map(|s| s.commit.clone()).filter(|commit| goes(commit)).collect();
    let mut paths: Vec<PathBuf> = refs.iter().map(|name| repo.ref_path(name)).collect();
    paths.extend(commits.iter().map(|commit| repo.snapshot_dir(commit)));
    // What huggingface_hub notes of a commit's listing.
    paths.extend(commits.iter().map(|commit| repo.dir().join("trees").join(format!("{commit}.json"))));
    paths.extend(blobs.iter().map(|blob| repo.blobs().join(blob)));
    if gone.is_none() {
        paths.extend([repo.dir().to_owned(), repo.locks().to_owned()]);
    }
    let len = |blob: &String| fs::symlink_metadata(repo.blobs().join(blob)).map_or(0, |meta| meta.len());
    Ok(Removal {
        commits,
        refs,
        blobs: blobs.iter().map(|blob| (blob.clone(), len(blob))).collect(),
        kept: dropped.intersection(&kept).count() as u64 * u64::from(gone.is_some()),
        paths,
        locks: repo.locks().to_owned(),
    })
}

impl Removal {
    /// Bytes that become free.
    pub fn len_bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Does it, unless somebody is fetching into this repository now.
    pub fn run(&self, cache: &Cache, reference: &Reference) -> Result<(), HubError> {
        if cache.repo(&reference.repo).busy()? {
            let detail = format!("another process fetches {} now ({} is held)", reference.repo, self.locks.display());
            return Err(HubError::Blocked(detail));
        }
        self.paths.iter().try_for_each(|path| remove(path))
    }
}

/// Removes a file, a link (never what it leads to) or a directory; what is gone already is well.
fn remove(path: &Path) -> Result<(), HubError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HubError::io(path, error)),
        _ => Ok(()),
    }
}
