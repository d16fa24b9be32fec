//! `apr rosetta validate-stats`: do the values of a model look like those of a reference?

use super::fingerprint::{fingerprint, saved};
use crate::args::ValidateStats;
use crate::error::CommandError;
use crate::output;
use apr_report::{ExitCode, FingerprintReport, Report, StatsDeviation, TensorStatistics, ValidateStatsReport};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn run(args: &ValidateStats, json: bool) -> Result<ExitCode, CommandError> {
    let found = fingerprint(&args.model)?;
    let expected = match saved(&args.reference)? {
        Some(saved) => saved,
        None => fingerprint(&args.reference)?,
    };
    let report = compare(args, &found, &expected);
    output::print(json, &report, text);
    Ok(if report.passed { ExitCode::Ok } else { ExitCode::Mismatch })
}

fn by_name(report: &FingerprintReport) -> BTreeMap<&str, &TensorStatistics> {
    report.tensors.iter().map(|tensor| (tensor.statistics.name.as_str(), &tensor.statistics)).collect()
}

fn compare(args: &ValidateStats, found: &FingerprintReport, expected: &FingerprintReport) -> ValidateStatsReport {
    let (of_model, of_reference) = (by_name(found), by_name(expected));
    let only = |a: &BTreeMap<&str, &TensorStatistics>, b: &BTreeMap<&str, &TensorStatistics>| -> Vec<String> {
        a.keys().filter(|name| !b.contains_key(*name)).map(|name| (*name).to_owned()).collect()
    };
    let pairs = of_model.iter().filter_map(|(name, found)| Some((found, of_reference.get(name)?)));
    let mut tensors: Vec<_> =
        pairs.map(|(found, expected)| StatsDeviation::between(found, expected, args.threshold)).collect();
    // What no number measures comes first.
    let rank = |tensor: &StatsDeviation| tensor.deviation.unwrap_or(f64::INFINITY);
    tensors.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let (missing, unexpected) = (only(&of_reference, &of_model), only(&of_model, &of_reference));
    let passed = !tensors.is_empty()
        && missing.is_empty()
        && unexpected.is_empty()
        && tensors.iter().all(|tensor| tensor.passed);
    ValidateStatsReport {
        schema: ValidateStatsReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        reference: args.reference.display().to_string(),
        threshold: args.threshold,
        passed,
        tensors,
        missing,
        unexpected,
    }
}

fn text(report: &ValidateStatsReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let rows = report.tensors.iter().map(|tensor| {
        let deviation = tensor.deviation.map_or("-".to_owned(), |deviation| format!("{deviation:.4}"));
        let by = tensor.by.clone().unwrap_or_default();
        vec![tensor.name.clone(), deviation, by, if tensor.passed { "pass" } else { "FAIL" }.to_owned()]
    });
    line(output::table(&["tensor", "deviation", "by", ""], rows).trim_end().to_owned());
    report.missing.iter().for_each(|name| line(format!("  {name}: only the reference has it")));
    report.unexpected.iter().for_each(|name| line(format!("  {name}: the reference has it not")));
    let (n, failed) = (report.tensors.len(), report.tensors.iter().filter(|tensor| !tensor.passed).count());
    let verdict = if report.passed { "PASS" } else { "FAIL" };
    let threshold = report.threshold;
    line(format!("{verdict}: {failed} of {n} tensors deviate by more than {threshold} standard deviations"));
    out
}
