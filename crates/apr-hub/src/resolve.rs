//! From a reference to a path in the cache, without the network.

use crate::name::is_commit;
use crate::select::{Available, Wanted, select};
use crate::{Cache, HubError, Part, Reference, Snapshot};
use std::path::PathBuf;

/// The snapshot of a reference, or why there is none in this cache.
pub fn cached_snapshot(cache: &Cache, reference: &Reference) -> Result<Snapshot, HubError> {
    let repo = cache.repo(&reference.repo);
    let (name, revision, root) = (&reference.repo, reference.revision(), cache.root().display());
    if !repo.dir().is_dir() {
        return Err(HubError::NotCached(format!("{name} is not in the cache at {root}")));
    }
    if let Some(commit) = repo.commit(revision)?
        && let Some(snapshot) = repo.snapshot(&commit)?
    {
        return Ok(snapshot);
    }
    let known: Vec<String> = match (is_commit(revision), repo.refs()?) {
        (false, refs) if !refs.is_empty() => refs.into_iter().map(|(name, _)| name).collect(),
        _ => repo.snapshots()?.into_iter().map(|snapshot| snapshot.commit).collect(),
    };
    let known =
        if known.is_empty() { "no revision of it is".to_owned() } else { format!("there is {}", known.join(", ")) };
    Err(HubError::NotCached(format!("{name} is not in the cache at {root} at revision {revision}; {known}")))
}

/// The file or directory that a reference means, all of it in the cache.
pub fn resolve(cache: &Cache, reference: &Reference) -> Result<PathBuf, HubError> {
    let snapshot = cached_snapshot(cache, reference)?;
    // Links to nothing too: they say what should be there.
    let there: Vec<_> = snapshot.files.iter().map(|file| Available { name: &file.name, bytes: file.bytes }).collect();
    let missing = snapshot.missing();
    let selection = select(&there, &Wanted { part: &reference.part, include: &[], companions: &[] });
    let selection = selection.map_err(|error| match error {
        // What is asked for may be in the repository, and not here.
        HubError::Remote(_) => HubError::NotCached(match &reference.part {
            Part::Model => format!("{reference} is in the cache without a model that can be read"),
            _ => format!("{reference} is not in the cache; only other files of {} are", reference.repo),
        }),
        other => other,
    })?;
    // Of a repository with several models, only the one that is meant must be complete.
    let needed = |name: &&String| match &selection.main {
        Some(main) => {
            let set = crate::select::shard_set(main).map_or_else(Vec::new, |(_, shards)| shards);
            *name == main || set.contains(name)
        }
        None => true,
    };
    if let Some(first) = missing.iter().find(needed) {
        let n = missing.iter().filter(needed).count();
        let more = if n > 1 { format!(" and {} more", n - 1) } else { String::new() };
        return Err(HubError::NotCached(format!("{reference} is in the cache only in part: {first}{more} is missing")));
    }
    Ok(selection.main.map_or(snapshot.dir.clone(), |file| snapshot.dir.join(file)))
}
