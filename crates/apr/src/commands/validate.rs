//! `apr validate`: structure, checksums, and every value.

use crate::args::Validate;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_formats::{Limits, check_integrity};
use apr_model::{Checkpoint, Finding, Severity, Tensor, TensorRole, TensorStats, for_each_chunk};
use apr_report::{Check, CheckStatus, ExitCode, Report, TensorStatistics, ValidateReport};
use std::fmt::Write;

/// Largest share of zeros: of an embedding, and of any other matrix. Source: the existing tool's density rule.
const MAX_ZEROS_EMBEDDING: f64 = 0.5;
const MAX_ZEROS: f64 = 0.8;
/// Smallest L2 norm of a tensor that was not lost. Source: the same rules.
const MIN_L2: f64 = 1e-6;
/// Checks that a sound model has passed: that they looked at nothing is not enough.
const REQUIRED: [&str; 2] = ["G0-TENSOR-001", "F-DATA-QUALITY-002"];

pub(super) fn run(args: &Validate, json: bool) -> Result<ExitCode, CommandError> {
    let (source, checkpoint) = model::open(&args.model)?;
    let mut checks = Vec::new();
    let mut findings = Vec::new();

    let integrity = check_integrity(&source, &Limits::default());
    checks.push(match integrity {
        Ok(found) => {
            let n = found.tensors as u64 + u64::from(found.file);
            let detail = match n {
                0 => format!("a {} file carries no checksums", source.format),
                _ => format!("{} tensor checksums and {} file checksum agree", found.tensors, u64::from(found.file)),
            };
            check("G0-INTEGRITY-CHECKSUM", "checksums in the file agree with its bytes", n, None, detail)
        }
        Err(error) => {
            let text = error.to_string();
            findings.push(text.clone());
            check("G0-INTEGRITY-CHECKSUM", "checksums in the file agree with its bytes", 1, Some(text), String::new())
        }
    });

    let structure = checkpoint.structure();
    let errors: Vec<&Finding> = structure.iter().filter(|f| f.severity == Severity::Error).collect();
    let n = checkpoint.spec.known().map_or(0, |spec| TensorRole::all(spec).len() as u64);
    for (id, title, code) in [
        ("G0-TENSOR-001", "every tensor of the architecture is there", "missing-tensor"),
        ("G0-LAYOUT-001", "shapes are the ones the hyper-parameters demand", "shape"),
        ("F-LAYOUT-002", "no tensor is transposed", "transposed"),
    ] {
        let first = errors.iter().find(|f| f.code == code).map(ToString::to_string);
        checks.push(check(id, title, n, first, format!("{n} tensors of the architecture looked for")));
    }
    findings.extend(structure.iter().map(ToString::to_string));
    checks.push(tokenizer(&checkpoint, &mut findings));

    let values = values(&checkpoint)?;
    checks.extend(quality(&checkpoint, &values, &mut findings));

    let score_percent = score_percent(&checks);
    let passed = |id: &str| checks.iter().any(|c| c.id == id && c.status == CheckStatus::Pass);
    let valid = checks.iter().all(|c| c.status != CheckStatus::Fail)
        && REQUIRED.iter().all(|id| passed(id))
        && (!args.strict || findings.is_empty());
    let report = ValidateReport {
        schema: ValidateReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        valid,
        score_percent,
        min_score_percent: args.min_score,
        strict: args.strict,
        n_tensors: values.len() as u64,
        n_values: values.iter().map(|(_, s)| s.n).sum(),
        n_nan: values.iter().map(|(_, s)| s.n_nan).sum(),
        n_inf: values.iter().map(|(_, s)| s.n_inf).sum(),
        checks,
        findings,
        tensors: args.stats.then(|| statistics(&checkpoint, &values)),
    };
    output::print(json, &report, text);
    Ok(if accepted(&report) { ExitCode::Ok } else { ExitCode::Mismatch })
}

fn check(id: &str, title: &str, measured: u64, failure: Option<String>, detail: String) -> Check {
    let status = match (&failure, measured) {
        (Some(_), _) => CheckStatus::Fail,
        (None, 0) => CheckStatus::NotMeasured,
        (None, _) => CheckStatus::Pass,
    };
    Check { id: id.to_owned(), title: title.to_owned(), status, measured, detail: failure.unwrap_or(detail) }
}

/// Whether the model is as sound as was demanded.
fn accepted(report: &ValidateReport) -> bool {
    match report.min_score_percent {
        None => report.valid,
        Some(least) => {
            report.score_percent.is_some_and(|score| score >= f64::from(least))
                && (!report.strict || report.findings.is_empty())
        }
    }
}

/// Share of passes among the checks that looked at something.
fn score_percent(checks: &[Check]) -> Option<f64> {
    let computed = checks.iter().filter(|c| c.status != CheckStatus::NotMeasured).count();
    let passed = checks.iter().filter(|c| c.status == CheckStatus::Pass).count();
    (computed > 0).then(|| 100.0 * passed as f64 / computed as f64)
}

fn tokenizer(checkpoint: &Checkpoint, findings: &mut Vec<String>) -> Check {
    let (id, title) = ("G0-TOKENIZER-001", "there is a tokenizer and its ids fit the embedding");
    let Some(spec) = checkpoint.spec.known() else {
        return check(id, title, 0, None, "the embedding of an unknown architecture is not known".to_owned());
    };
    let Some(tokenizer) = &checkpoint.tokenizer else {
        findings.push("tokenizer: the model has none, so it can't be run on text (no-tokenizer)".to_owned());
        return check(id, title, 1, Some("the model has no tokenizer".to_owned()), String::new());
    };
    let (n, rows) = (tokenizer.vocab.n_tokens(), spec.vocab_size);
    let mut found = Vec::new();
    if n > rows {
        found.push(format!("tokenizer: {n} tokens, the embedding has {rows} rows (token-without-row)"));
    }
    if tokenizer.special.stop.is_empty() {
        found.push("tokenizer: no token ends generation (no-stop-token)".to_owned());
    }
    let first = found.first().cloned();
    findings.extend(found);
    check(id, title, n.into(), first, format!("{n} tokens"))
}

type Values<'a> = Vec<(&'a str, TensorStats)>;

fn values(checkpoint: &Checkpoint) -> Result<Values<'_>, CommandError> {
    let total: u64 = checkpoint.tensors.iter().map(|t| t.data.len() as u64).sum();
    let mut progress = Progress::new("reading values");
    let mut done = 0;
    let mut values = Vec::with_capacity(checkpoint.tensors.len());
    for tensor in &checkpoint.tensors {
        if interrupt::asked().is_break() {
            return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
        }
        values.push((tensor.name.as_str(), TensorStats::of(tensor)));
        done += tensor.data.len() as u64;
        progress.update(done, total);
    }
    Ok(values)
}

/// F-DATA-QUALITY-001 … 004.
fn quality(checkpoint: &Checkpoint, values: &Values<'_>, findings: &mut Vec<String>) -> Vec<Check> {
    let of = |name: &str| checkpoint.tensors.get(name).filter(|tensor| tensor.dtype.holds_weights());
    // A mask of zeros or a list of equal positions is nothing unusual.
    let holds_weights = |name: &str| of(name).is_some();
    let is_matrix = |name: &str| of(name).is_some_and(|tensor| tensor.shape.dims().len() >= 2);
    let embedding = checkpoint.tensors.role(TensorRole::TokenEmbed).map(|tensor| tensor.name.as_str());
    let is_embedding = |name: &str| embedding == Some(name);
    let n_values: u64 = values.iter().map(|(_, s)| s.n).sum();
    let mut rule = |id: &str, title: &str, measured: u64, failures: Vec<String>, detail: String| {
        let first = failures.first().cloned();
        findings.extend(failures);
        check(id, title, measured, first, detail)
    };

    let dense = values.iter().filter(|(name, _)| is_matrix(name)).collect::<Vec<_>>();
    let sparse = dense.iter().filter_map(|(name, s)| {
        let limit = if is_embedding(name) { MAX_ZEROS_EMBEDDING } else { MAX_ZEROS };
        let share = s.zero_fraction();
        (share > limit).then(|| {
            format!("{name}: {:.1} % zeros, at most {:.0} % expected (too-many-zeros)", share * 100.0, limit * 100.0)
        })
    });
    let sparse: Vec<_> = sparse.collect();
    let not_finite = values.iter().filter(|(_, s)| s.n_nan + s.n_inf > 0).map(|(name, s)| {
        let at = s.first_not_finite.unwrap_or_default();
        format!("{name}: {} NaN and {} Inf values, the first at index {at} (not-finite)", s.n_nan, s.n_inf)
    });
    let not_finite: Vec<_> = not_finite.collect();
    let lost = values.iter().filter(|(name, s)| holds_weights(name) && s.n_finite() > 0).filter_map(|(name, s)| {
        let constant = is_matrix(name) && s.n > 1 && s.min == s.max;
        // A bias of zeros is unusual, not wrong.
        let empty = s.l2() < MIN_L2 && !name.ends_with(".bias");
        match (empty, constant) {
            (true, _) => Some(format!("{name}: L2 norm {:.1e}, at least {MIN_L2:.0e} expected (all-zero)", s.l2())),
            (_, true) => Some(format!("{name}: every value is {} (constant)", s.min.unwrap_or_default() as f32)),
            _ => None,
        }
    });
    let lost: Vec<_> = lost.collect();
    let rows = embedding_rows(checkpoint);
    let blank = rows
        .iter()
        .filter(|(_, zero)| *zero)
        .map(|(row, _)| format!("{}: row {row} is all zero (blank-token)", embedding.unwrap_or_default()));
    let blank: Vec<_> = blank.collect();
    vec![
        rule(
            "F-DATA-QUALITY-001",
            "matrices are not mostly zeros",
            dense.len() as u64,
            sparse,
            format!("{} matrices", dense.len()),
        ),
        rule("F-DATA-QUALITY-002", "no value is NaN or infinite", n_values, not_finite, format!("{n_values} values")),
        rule(
            "F-DATA-QUALITY-003",
            "no tensor is empty or constant",
            values.len() as u64,
            lost,
            format!("{} tensors", values.len()),
        ),
        rule(
            "F-DATA-QUALITY-004",
            "embedding rows at 10, 50 and 90 % are not zero",
            rows.len() as u64,
            blank,
            format!("{} rows", rows.len()),
        ),
    ]
}

/// Rows of the embedding at 10, 50 and 90 % of the tokens, and whether they are all zero.
fn embedding_rows(checkpoint: &Checkpoint) -> Vec<(u64, bool)> {
    let tensor = checkpoint.tensors.role(TensorRole::TokenEmbed).filter(|tensor| tensor.dtype.decodes());
    let Some(tensor) = tensor else { return Vec::new() };
    let columns = tensor.shape.row_elements() as u64;
    let n_rows = tensor.shape.n_rows() as u64;
    if columns == 0 || n_rows == 0 {
        return Vec::new();
    }
    let n_tokens = checkpoint.tokenizer.as_ref().map_or(n_rows, |t| u64::from(t.vocab.n_tokens()).min(n_rows));
    let mut rows: Vec<(u64, bool)> = [10, 50, 90].map(|percent| (n_tokens * percent / 100, true)).to_vec();
    let mut start = 0;
    for_each_chunk(tensor, |values| {
        for (i, row) in values.chunks_exact(columns as usize).enumerate() {
            for (wanted, zero) in &mut rows {
                if *wanted == start + i as u64 {
                    *zero = row.iter().all(|&v| v == 0.0);
                }
            }
        }
        start += values.len() as u64 / columns;
    });
    rows
}

fn statistics(checkpoint: &Checkpoint, values: &Values<'_>) -> Vec<TensorStatistics> {
    let of = |(name, stats): &(&str, TensorStats)| {
        statistics_of(checkpoint.tensors.get(name).expect("the statistics are of these tensors"), stats)
    };
    values.iter().map(of).collect()
}

/// What the values of a tensor look like, as reports say it.
pub(super) fn statistics_of(tensor: &Tensor, stats: &TensorStats) -> TensorStatistics {
    TensorStatistics {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name().to_owned(),
        shape: tensor.shape.dims().iter().map(|&d| d as u64).collect(),
        n: stats.n,
        nan: stats.n_nan,
        inf: stats.n_inf,
        zero_fraction: stats.zero_fraction(),
        min: stats.min,
        max: stats.max,
        mean: stats.mean(),
        std: stats.std(),
    }
}

fn text(report: &ValidateReport) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let status = match check.status {
            CheckStatus::Pass => "pass",
            CheckStatus::Fail => "FAIL",
            CheckStatus::NotMeasured => "not measured",
        };
        writeln!(out, "{status:<12} {:<22} {}: {}", check.id, check.title, check.detail).expect("writing to a string");
    }
    if let Some(tensors) = &report.tensors {
        let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
        let rows = tensors.iter().map(|t| {
            let (shape, zeros) = (format!("{:?}", t.shape), format!("{:.3}", t.zero_fraction));
            let not_finite = (t.nan + t.inf).to_string();
            vec![
                t.name.clone(),
                t.dtype.clone(),
                shape,
                number(t.min),
                number(t.max),
                number(t.mean),
                number(t.std),
                zeros,
                not_finite,
            ]
        });
        out.push_str(&output::table(
            &["tensor", "dtype", "shape", "min", "max", "mean", "std", "zeros", "nan+inf"],
            rows,
        ));
    }
    for finding in &report.findings {
        writeln!(out, "  {finding}").expect("writing to a string");
    }
    let failed = report.checks.iter().any(|check| check.status == CheckStatus::Fail);
    let verdict = match (report.valid, failed || report.strict) {
        (true, _) => "VALID",
        (false, true) => "INVALID",
        (false, false) => "NOT CHECKED IN FULL",
    };
    let (n, v) = (report.n_tensors, report.n_values);
    let score = report.score_percent.map(|score| format!(", score {score:.1}")).unwrap_or_default();
    let verdict_on_score = if accepted(report) { "enough" } else { "too low" };
    let least = report.min_score_percent.map(|least| format!(", {least} demanded: {verdict_on_score}"));
    let least = least.unwrap_or_default();
    writeln!(out, "{verdict}: {n} tensors, {v} values, {} NaN, {} Inf{score}{least}", report.n_nan, report.n_inf)
        .expect("writing to a string");
    out
}
