//! `apr list`.

use crate::args::List;
use crate::error::CommandError;
use crate::interrupt;
use crate::output::{self, Progress};
use apr_hub::{Cache, Process, RepoId, Snapshot};
use apr_report::{CachedModel, ExitCode, ListReport, Report, UnfinishedDownload};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

pub(super) fn run(args: &List, json: bool) -> Result<ExitCode, CommandError> {
    let cache = Cache::new(&Process)?;
    let mut repos = cache.repos()?;
    repos.retain(|repo| args.filter.as_deref().is_none_or(|text| repo.as_str().contains(text)));
    let mut snapshots = Vec::new();
    let mut unfinished = Vec::new();
    for repo in &repos {
        let incomplete = cache.repo(repo).incomplete()?;
        if !incomplete.is_empty() {
            unfinished.push(UnfinishedDownload {
                repo: repo.to_string(),
                n_files: incomplete.len() as u64,
                bytes: incomplete.iter().map(|(_, bytes)| bytes).sum(),
            });
        }
        let refs = cache.repo(repo).refs()?;
        for snapshot in cache.repo(repo).snapshots()? {
            let of_this = refs.iter().filter(|(_, commit)| *commit == snapshot.commit);
            let names = of_this.map(|(name, _)| name.clone()).collect();
            snapshots.push((repo, names, snapshot));
        }
    }
    let total = snapshots.iter().map(|(.., snapshot)| snapshot.len_bytes()).sum();
    let (mut done, mut progress) = (0, Progress::new("checking"));
    let mut models = Vec::with_capacity(snapshots.len());
    let mut blobs = BTreeMap::new();
    for (repo, refs, snapshot) in snapshots {
        let damaged = match args.verify {
            false => Vec::new(),
            true => snapshot.damaged(&mut |n| {
                done = (done + n).min(total);
                progress.update(done, total);
                interrupt::asked()
            })?,
        };
        for file in &snapshot.files {
            let blob = file.blob.clone().unwrap_or_else(|| format!("{}/{}", snapshot.commit, file.name));
            blobs.insert((repo.clone(), blob), file.bytes.unwrap_or(0));
        }
        models.push(model(repo, refs, &snapshot, damaged));
    }
    drop(progress);
    let report = ListReport {
        schema: ListReport::SCHEMA.to_owned(),
        cache: cache.root().display().to_string(),
        verified: args.verify,
        models,
        unfinished,
        bytes: blobs.values().sum(),
    };
    output::print(json, &report, text);
    let is_sound = report.models.iter().all(|model| model.damaged.is_empty());
    Ok(if is_sound { ExitCode::Ok } else { ExitCode::Mismatch })
}

fn model(repo: &RepoId, refs: Vec<String>, snapshot: &Snapshot, damaged: Vec<String>) -> CachedModel {
    CachedModel {
        repo: repo.to_string(),
        commit: snapshot.commit.clone(),
        refs,
        format: snapshot.format().map(str::to_owned),
        n_files: snapshot.files.len() as u64,
        bytes: snapshot.len_bytes(),
        missing: snapshot.missing(),
        damaged,
        last_used: snapshot.accessed().and_then(timestamp),
        path: snapshot.dir.display().to_string(),
    }
}

/// A time to the second; a file system may have one that no calendar has.
fn timestamp(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(jiff::Timestamp::from_second(time.as_second()).ok()?.to_string())
}

fn text(report: &ListReport) -> String {
    if report.models.is_empty() && report.unfinished.is_empty() {
        return format!("no models in {}\n", report.cache);
    }
    let rows = report.models.iter().map(|model| {
        let short = model.commit.get(..8).unwrap_or(&model.commit).to_owned();
        let state = match (model.damaged.as_slice(), model.missing.as_slice()) {
            ([], []) if report.verified => "sound".to_owned(),
            ([], []) => "complete".to_owned(),
            ([], [one]) => format!("without {one}"),
            ([], [first, rest @ ..]) => format!("without {first} and {} more", rest.len()),
            (damaged, _) => format!("DAMAGED: {}", damaged.join(", ")),
        };
        let used = model.last_used.as_deref().and_then(|time| time.get(..10)).unwrap_or("-").to_owned();
        let format = model.format.clone().unwrap_or_else(|| "-".to_owned());
        let revision = if model.refs.is_empty() { short } else { format!("{} ({short})", model.refs.join(", ")) };
        vec![model.repo.clone(), revision, format, output::bytes(model.bytes), used, state]
    });
    let mut out = output::table(&["model", "revision", "format", "size", "last used", "files"], rows);
    for download in &report.unfinished {
        let (repo, n, bytes) = (&download.repo, download.n_files, output::bytes(download.bytes));
        let how = "pull goes on with it, rm removes it";
        writeln!(out, "{repo}: {n} unfinished, {bytes} of it there; {how}").expect("writing to a string");
    }
    writeln!(out, "{} in {}", output::bytes(report.bytes), report.cache).expect("writing to a string");
    out
}
