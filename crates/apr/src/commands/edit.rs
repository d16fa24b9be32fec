//! `apr edit`.

use crate::args::Edit;
use crate::error::CommandError;
use crate::interrupt;
use crate::output::{self, Progress};
use apr_formats::Limits;
use apr_formats::gguf::{EditError, EditedKey, Edits, plan_edit};
use apr_report::{EditChange, EditReport, ExitCode, Report, TypedValue};
use std::fmt::Write;

pub(super) fn run(args: &Edit, json: bool) -> Result<ExitCode, CommandError> {
    let edits = Edits { rename: args.rename.clone(), remove: args.remove.clone(), set: args.set.clone() };
    let edit = plan_edit(&args.file, &edits, &Limits::default()).map_err(|error| match error {
        EditError::Open(error) => CommandError::from(error),
        EditError::Refused(detail) => CommandError::new(ExitCode::Usage, detail).about(&args.file),
    })?;
    if !args.dry_run {
        let mut progress = Progress::new("metadata of GGUF");
        edit.write(args.output.as_deref(), args.force, &mut |done, total| {
            progress.update(done, total);
            interrupt::asked()
        })?;
    }
    let report = EditReport {
        schema: EditReport::SCHEMA.to_owned(),
        path: args.file.display().to_string(),
        target: args.output.as_ref().unwrap_or(&args.file).display().to_string(),
        dry_run: args.dry_run,
        changes: edit.changes.iter().map(change).collect(),
        data_offset_before: edit.data_offset_before,
        data_offset_after: edit.data_offset_after,
        bytes: edit.len_bytes,
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

fn change(edited: &EditedKey) -> EditChange {
    let typed = |value: &Option<(String, String)>| {
        value.as_ref().map(|(kind, value)| TypedValue { kind: kind.clone(), value: value.clone() })
    };
    EditChange {
        key: edited.key.clone(),
        was: edited.was.clone(),
        before: typed(&edited.before),
        after: typed(&edited.after),
    }
}

fn text(report: &EditReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let shown = |value: &TypedValue| format!("{} ({})", value.value, value.kind);
    for change in &report.changes {
        let key = &change.key;
        line(match (&change.was, &change.before, &change.after) {
            (Some(was), _, _) => format!("{was} is called {key}"),
            (None, Some(before), Some(after)) => format!("{key}: {} → {}", shown(before), shown(after)),
            (None, None, Some(after)) => format!("{key}: new, {}", shown(after)),
            (None, Some(before), None) => format!("{key}: removed, was {}", shown(before)),
            (None, None, None) => format!("{key}: as it was"),
        });
    }
    let (before, after) = (report.data_offset_before, report.data_offset_after);
    line(match before == after {
        true => format!("tensors stay where they are, at byte {after}"),
        false => format!("tensors move from byte {before} to {after}"),
    });
    let verb = if report.dry_run { "would be written; nothing was" } else { "written" };
    line(format!("{} of {} {verb}", report.target, output::bytes(report.bytes)));
    out
}
