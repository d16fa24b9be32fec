//! `apr pull`.

use crate::args::Pull;
use crate::error::CommandError;
use crate::interrupt;
use crate::output::{self, Progress};
use apr_formats::COMPANIONS;
use apr_hub::{
    Available, Cache, CopyFile, Digest, Environment, Event, FileState, Hub, HubError, Mode, Process, Reference,
    Settings, Skipped, Snapshot, Wanted, cached_snapshot, check_target, copy_files, fetch, plan_pull, resolve, select,
};
use apr_report::{ExitCode, PullReport, PulledFile, Report, SkippedFile};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(args: &Pull, json: bool) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let reference = Reference::parse(&args.reference)?.at(args.revision.as_deref())?;
    let cache = Cache::new(&Process)?;
    let wanted = Wanted { part: &reference.part, include: &args.include, companions: COMPANIONS };
    let mut report = match args.offline || Process.is_offline() {
        true => from_cache(args, &cache, &reference, &wanted)?,
        false => from_hub(args, &cache, &reference, &wanted)?,
    };
    if let Some(target) = args.output.as_deref().filter(|_| !args.dry_run) {
        copy(args, &cache, &reference, target, &mut report)?;
    }
    report.bytes = report.files.iter().map(|file| file.bytes).sum();
    report.elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

/// Shows what long work says.
fn observer(progress: &mut Progress) -> impl FnMut(Event<'_>) -> ControlFlow<()> {
    |event| {
        match event {
            Event::Bytes { done, total } => progress.update(done, total),
            Event::Note(note) => progress.say(note),
            Event::Waiting => {}
        }
        interrupt::asked()
    }
}

fn from_hub(
    args: &Pull,
    cache: &Cache,
    reference: &Reference,
    wanted: &Wanted<'_>,
) -> Result<PullReport, CommandError> {
    let hub = Hub::new(&Settings::new(&Process)?)?;
    let mode = Mode { force: args.force, verify: args.verify };
    let mut progress = Progress::new("checking");
    let plan = plan_pull(&hub, cache, reference, wanted, mode, &mut observer(&mut progress))?;
    drop(progress);
    if let Some(target) = &args.output {
        check_target(target, plan.files.iter().map(|file| file.name.as_str()), args.force)?;
    }
    let bytes_fetched = match args.dry_run {
        true => plan.missing_bytes(),
        false => {
            let mut progress = Progress::new(reference.to_string());
            fetch(&hub, cache, &plan, mode, &mut observer(&mut progress))?
        }
    };
    let files = plan.files.iter().map(|file| PulledFile {
        name: file.name.clone(),
        bytes: file.bytes,
        digest: Some(file.digest.to_string()),
        state: match (file.state, args.dry_run) {
            (FileState::Cached, _) => "cached",
            (_, true) => "would_fetch",
            (_, false) => "fetched",
        }
        .to_owned(),
        resumed_bytes: if let FileState::Partial(there) = file.state { there } else { 0 },
    });
    let dir = plan.snapshot_dir(cache);
    Ok(PullReport {
        files: files.collect(),
        bytes_fetched,
        ..report(args, reference, &plan.commit, &dir, plan.main.as_deref(), &plan.skipped)
    })
}

fn from_cache(
    args: &Pull,
    cache: &Cache,
    reference: &Reference,
    wanted: &Wanted<'_>,
) -> Result<PullReport, CommandError> {
    if args.force {
        let detail = "HF_HUB_OFFLINE is set, so nothing can be fetched again";
        return Err(CommandError::new(ExitCode::Usage, detail).hint("leave --force away"));
    }
    if args.include.is_empty() {
        // All of a model has to be there, and not only something of it.
        resolve(cache, reference)?;
    }
    let snapshot = cached_snapshot(cache, reference)?;
    let there: Vec<_> = snapshot.files.iter().filter(|file| file.bytes.is_some()).collect();
    let there: Vec<_> = there.iter().map(|file| Available { name: &file.name, bytes: file.bytes }).collect();
    let selection = select(&there, wanted).map_err(|error| match error {
        HubError::Remote(detail) => HubError::NotCached(format!("of what is in the cache, {detail}")),
        other => other,
    })?;
    if let Some(target) = &args.output {
        check_target(target, selection.files.iter().map(String::as_str), args.force)?;
    }
    if args.verify {
        verify(&snapshot)?;
    }
    let files = snapshot.files.iter().filter(|file| selection.files.contains(&file.name));
    let files = files.map(|file| PulledFile {
        name: file.name.clone(),
        bytes: file.bytes.unwrap_or(0),
        digest: file.blob.as_deref().and_then(Digest::from_etag).map(|digest| digest.to_string()),
        state: "cached".to_owned(),
        resumed_bytes: 0,
    });
    Ok(PullReport {
        offline: true,
        files: files.collect(),
        ..report(args, reference, &snapshot.commit, &snapshot.dir, selection.main.as_deref(), &selection.skipped)
    })
}

fn verify(snapshot: &Snapshot) -> Result<(), CommandError> {
    let mut progress = Progress::new("checking");
    let (mut done, total) = (0, snapshot.len_bytes());
    let damaged = snapshot.damaged(&mut |n| {
        done = (done + n).min(total);
        progress.update(done, total);
        interrupt::asked()
    })?;
    match damaged.first() {
        None => Ok(()),
        Some(first) => {
            let message = format!("{first} is damaged: its content is not what its blob is named by");
            let error = CommandError::new(ExitCode::Mismatch, message).about(&snapshot.dir.join(first));
            Err(error.hint("without --offline, --verify fetches it again"))
        }
    }
}

/// A report without files.
fn report(
    args: &Pull,
    reference: &Reference,
    commit: &str,
    dir: &Path,
    main: Option<&str>,
    skipped: &[Skipped],
) -> PullReport {
    let dir = args.output.as_deref().unwrap_or(dir);
    PullReport {
        schema: PullReport::SCHEMA.to_owned(),
        dry_run: args.dry_run,
        offline: false,
        repo: reference.repo.to_string(),
        revision: reference.revision().to_owned(),
        commit: commit.to_owned(),
        path: main.map_or(dir.to_owned(), |main| dir.join(main)).display().to_string(),
        files: Vec::new(),
        skipped: skipped
            .iter()
            .map(|file| SkippedFile { name: file.name.clone(), reason: file.reason.to_owned() })
            .collect(),
        bytes: 0,
        bytes_fetched: 0,
        elapsed_ms: 0.0,
    }
}

fn copy(
    args: &Pull,
    cache: &Cache,
    reference: &Reference,
    target: &Path,
    report: &mut PullReport,
) -> Result<(), CommandError> {
    let dir = cache.repo(&reference.repo).snapshot_dir(&report.commit);
    let hex = |digest: &str| digest.rsplit_once(':').and_then(|(_, hex)| Digest::from_etag(hex));
    let files = report.files.iter().map(|file| CopyFile {
        name: file.name.clone(),
        from: dir.join(&file.name),
        bytes: file.bytes,
        digest: file.digest.as_deref().and_then(hex),
    });
    let mut progress = Progress::new("copying");
    copy_files(&files.collect::<Vec<_>>(), target, args.force, &mut observer(&mut progress))?;
    Ok(())
}

fn text(report: &PullReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    line(format!("{} at {} (commit {})", report.repo, report.revision, report.commit));
    let rows = report.files.iter().map(|file| {
        let state = match (file.state.as_str(), file.resumed_bytes) {
            ("would_fetch", 0) => "would be fetched".to_owned(),
            ("would_fetch", there) => format!("would be fetched; {} are there", output::bytes(there)),
            ("fetched", there) if there > 0 => format!("fetched; {} were there", output::bytes(there)),
            (state, _) => state.to_owned(),
        };
        vec![format!("  {}", file.name), output::bytes(file.bytes), state]
    });
    let table = output::table(&["  file", "size", "state"], rows);
    line(table.trim_end().to_owned());
    let mut left = BTreeMap::<&str, Vec<&str>>::new();
    for file in &report.skipped {
        left.entry(&file.reason).or_default().push(&file.name);
    }
    for (reason, names) in left {
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        line(format!("  left there: {}{more}: {reason}", names[..names.len().min(3)].join(", ")));
    }
    let (fetched, total) = (output::bytes(report.bytes_fetched), output::bytes(report.bytes));
    line(match (report.dry_run, report.bytes_fetched) {
        (true, _) => format!("{fetched} of {total} would be fetched; nothing was"),
        (false, 0) => format!("{total}, all of it in the cache"),
        (false, _) => format!("{fetched} of {total} fetched in {:.1} s", report.elapsed_ms / 1e3),
    });
    if !report.dry_run {
        line(report.path.clone());
    }
    out
}
