//! `apr rm`.

use crate::args::Rm;
use crate::error::CommandError;
use crate::output;
use apr_hub::{Cache, Process, Reference, Removal, plan_removal};
use apr_report::{ExitCode, Report, RmReport};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

pub(super) fn run(args: &Rm, json: bool) -> Result<ExitCode, CommandError> {
    let reference = Reference::parse(&args.reference)?.at(args.revision.as_deref())?;
    let cache = Cache::new(&Process)?;
    let removal = plan_removal(&cache, &reference)?;
    let report = RmReport {
        schema: RmReport::SCHEMA.to_owned(),
        dry_run: args.dry_run,
        repo: reference.repo.to_string(),
        commits: removal.commits.clone(),
        refs: removal.refs.clone(),
        n_blobs: removal.blobs.len() as u64,
        n_kept: removal.kept,
        bytes: removal.len_bytes(),
    };
    if !args.dry_run {
        if !args.yes && !is_meant(&reference, &removal)? {
            return Err(CommandError::new(ExitCode::Usage, "nothing was removed"));
        }
        removal.run(&cache, &reference)?;
    }
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

/// Asks whoever sits at the terminal.
fn is_meant(reference: &Reference, removal: &Removal) -> Result<bool, CommandError> {
    let what = format!("{reference}: {} files, {}", removal.blobs.len(), output::bytes(removal.len_bytes()));
    if !std::io::stdin().is_terminal() {
        let message = format!("{what} would be removed, and there is nobody to ask");
        return Err(CommandError::new(ExitCode::Usage, message).hint("-y removes without asking; --dry-run shows it"));
    }
    write!(std::io::stderr(), "remove {what}? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn text(report: &RmReport) -> String {
    let mut out = String::new();
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    for commit in &report.commits {
        writeln!(out, "{} at {commit} {verb}", report.repo).expect("writing to a string");
    }
    let kept = match report.n_kept {
        0 => String::new(),
        n => format!("; {n} stay, because another revision has them"),
    };
    let (n, bytes) = (report.n_blobs, output::bytes(report.bytes));
    writeln!(out, "{n} files, {bytes} {verb}{kept}").expect("writing to a string");
    out
}
