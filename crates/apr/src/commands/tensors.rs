//! `apr tensors`: the tensors of a model in a list.

use super::validate::statistics_of;
use crate::args::Tensors;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_formats::{Limits, Source, open_to_run, summarize};
use apr_model::TensorStats;
use apr_report::{ExitCode, ListedTensor, Report, TensorEntry, TensorStatistics, TensorsReport};
use std::fmt::Write;

pub(super) fn run(args: &Tensors, json: bool) -> Result<ExitCode, CommandError> {
    let source = model::locate(&args.model)?;
    let summary = summarize(&source, &Limits::default())?;
    let entries = model::filtered_tensors(&summary, args.filter.as_deref())?;
    let statistics = match args.stats {
        true => statistics(&source, &entries)?,
        false => vec![None; entries.len()],
    };
    let report = TensorsReport {
        schema: TensorsReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        format: source.format.name().to_owned(),
        n_tensors: summary.tensors.len() as u64,
        filter: args.filter.clone(),
        n_values: entries.iter().map(TensorEntry::n_values).sum(),
        bytes: entries.iter().map(|entry| entry.bytes).sum(),
        tensors: entries
            .into_iter()
            .zip(statistics)
            .map(|(entry, statistics)| ListedTensor { entry, statistics })
            .collect(),
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

/// Reads the values of tensors. One that is no part of the model, because it follows from the hyper-parameters, has none.
fn statistics(source: &Source, entries: &[TensorEntry]) -> Result<Vec<Option<TensorStatistics>>, CommandError> {
    let checkpoint = open_to_run(source, &Limits::default())?;
    let total = entries.iter().map(|entry| entry.bytes).sum();
    let mut progress = Progress::new("reading values");
    let mut done = 0;
    let of = |entry: &TensorEntry| {
        if interrupt::asked().is_break() {
            return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
        }
        let of_tensor = |tensor| statistics_of(tensor, &TensorStats::of(tensor));
        let statistics = checkpoint.tensors.get(&entry.name).map(of_tensor);
        done += entry.bytes;
        progress.update(done, total);
        Ok(statistics)
    };
    entries.iter().map(of).collect()
}

fn text(report: &TensorsReport) -> String {
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
    let with_statistics = report.tensors.iter().any(|listed| listed.statistics.is_some());
    let rows = report.tensors.iter().map(|listed| {
        let entry = &listed.entry;
        let mut row =
            vec![entry.name.clone(), entry.dtype.clone(), format!("{:?}", entry.shape), entry.bytes.to_string()];
        match &listed.statistics {
            Some(s) => {
                row.extend([s.min, s.max, s.mean, s.std].map(number));
                row.extend([format!("{:.3}", s.zero_fraction), (s.nan + s.inf).to_string()]);
            }
            None if with_statistics => row.extend(["-"; 6].map(str::to_owned)),
            None => row.extend([entry.offset.to_string(), entry.stored_name.clone()]),
        }
        row
    });
    let header: &[&str] = match with_statistics {
        true => &["tensor", "dtype", "shape", "bytes", "min", "max", "mean", "std", "zeros", "nan+inf"],
        false => &["tensor", "dtype", "shape", "bytes", "offset", "stored as"],
    };
    let mut out = output::table(header, rows);
    let (n, of, bytes) = (report.tensors.len(), report.n_tensors, output::bytes(report.bytes));
    writeln!(out, "{n} of {of} tensors, {} values, {bytes}", report.n_values).expect("writing to a string");
    out
}
