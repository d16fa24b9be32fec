//! `apr rosetta verify`: every value, the tokenizer, the hyper-parameters.

use crate::args::Pair;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_formats::{Limits, check_integrity};
use apr_model::{Checkpoint, Tensor, TensorRole, ValueDifference, compare_values};
use apr_report::{
    DTypeDifference, ExitCode, Report, TensorDifference, TensorDifferenceKind, VerifyReport, VerifyVerdict,
};
use std::fmt::Write;

pub(super) fn run(args: &Pair, json: bool) -> Result<ExitCode, CommandError> {
    let (source_a, a) = model::open(&args.a)?;
    let (source_b, b) = model::open(&args.b)?;
    check_integrity(&source_a, &Limits::default())?;
    check_integrity(&source_b, &Limits::default())?;
    let mut report = compare(&a, &b)?;
    report.a = args.a.display().to_string();
    report.b = args.b.display().to_string();
    output::print(json, &report, text);
    Ok(if report.verdict == VerifyVerdict::Different { ExitCode::Mismatch } else { ExitCode::Ok })
}

fn compare(a: &Checkpoint, b: &Checkpoint) -> Result<VerifyReport, CommandError> {
    let mut report = VerifyReport {
        schema: VerifyReport::SCHEMA.to_owned(),
        a: String::new(),
        b: String::new(),
        verdict: VerifyVerdict::Different,
        n_tensors_a: a.tensors.len() as u64,
        n_tensors_b: b.tensors.len() as u64,
        n_tensors_compared: 0,
        n_values_compared: 0,
        n_values_different: 0,
        dtype_differences: Vec::new(),
        differences: Vec::new(),
        tokenizer_differences: tokenizer_differences(a, b),
        spec_differences: spec_differences(a, b),
        chat_template_equal: a.chat_templates == b.chat_templates,
    };
    let total: u64 = a.tensors.iter().map(|t| t.data.len() as u64).sum();
    let mut done = 0;
    let mut progress = Progress::new("comparing");
    let mut names: Vec<&Tensor> = a.tensors.iter().collect();
    names.extend(b.tensors.iter().filter(|t| a.tensors.get(&t.name).is_none()));
    names.sort_by_key(|t| (forward_order(t.role), t.name.clone()));
    for tensor in names {
        if interrupt::asked().is_break() {
            return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
        }
        one(&mut report, a.tensors.get(&tensor.name), b.tensors.get(&tensor.name));
        done += tensor.data.len() as u64;
        progress.update(done.min(total), total);
    }
    let same = report.differences.is_empty()
        && report.tokenizer_differences.is_empty()
        && report.spec_differences.is_empty()
        && report.chat_template_equal
        && report.n_values_compared > 0;
    report.verdict = match (same, report.dtype_differences.is_empty()) {
        (false, _) => VerifyVerdict::Different,
        (true, true) => VerifyVerdict::Identical,
        (true, false) => VerifyVerdict::IdenticalValues,
    };
    Ok(report)
}

/// Embedding, layers, norm, head, then what no table knows.
pub(super) fn forward_order(role: Option<TensorRole>) -> (u8, Option<TensorRole>) {
    let rank = match role {
        Some(TensorRole::TokenEmbed | TensorRole::PositionEmbed | TensorRole::RopeFactors) => 0,
        Some(TensorRole::Layer(..)) => 1,
        Some(TensorRole::OutputNorm | TensorRole::OutputNormBias) => 2,
        Some(TensorRole::OutputHead) => 3,
        None => 4,
    };
    (rank, role)
}

fn one(report: &mut VerifyReport, a: Option<&Tensor>, b: Option<&Tensor>) {
    let side = |tensor: Option<&Tensor>| tensor.map_or("absent".to_owned(), |t| format!("{} {}", t.dtype, t.shape));
    let either = a.or(b).expect("the name comes from one of them");
    let layout = |kind, cause: Option<&str>| TensorDifference {
        tensor: either.name.clone(),
        layer: either.role.and_then(TensorRole::layer),
        kind,
        n_different: 0,
        max_abs: None,
        first_index: None,
        a: side(a),
        b: side(b),
        cause: cause.map(str::to_owned),
        fix: None,
    };
    let (Some(a), Some(b)) = (a, b) else {
        let kind = if a.is_none() { TensorDifferenceKind::MissingInA } else { TensorDifferenceKind::MissingInB };
        report.differences.push(layout(kind, None));
        return;
    };
    if a.shape != b.shape {
        let is_reversed = a.shape.dims().iter().rev().eq(b.shape.dims());
        let cause = is_reversed.then_some("transposed: one shape is the other reversed");
        report.differences.push(layout(TensorDifferenceKind::Shape, cause));
        return;
    }
    if a.dtype != b.dtype {
        let (a, b) = (a.dtype.name().to_owned(), b.dtype.name().to_owned());
        report.dtype_differences.push(DTypeDifference { tensor: either.name.clone(), a, b });
    }
    let found = compare_values(a, b);
    report.n_tensors_compared += 1;
    report.n_values_compared += found.n_compared;
    report.n_values_different += found.n_different;
    report.differences.extend(value_difference(a, &found));
}

/// What was found between two tensors of one shape, if anything.
pub(super) fn value_difference(tensor: &Tensor, found: &ValueDifference) -> Option<TensorDifference> {
    found.first.as_ref().map(|(index, a, b)| TensorDifference {
        tensor: tensor.name.clone(),
        layer: tensor.role.and_then(TensorRole::layer),
        kind: TensorDifferenceKind::Values,
        n_different: found.n_different,
        max_abs: found.max_abs,
        first_index: Some(*index),
        a: a.clone(),
        b: b.clone(),
        cause: found.cause.map(|cause| cause.to_string()),
        fix: found.cause.map(|cause| cause.fix().to_owned()),
    })
}

fn tokenizer_differences(a: &Checkpoint, b: &Checkpoint) -> Vec<String> {
    match (&a.tokenizer, &b.tokenizer) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec!["the second model has no tokenizer".to_owned()],
        (None, Some(_)) => vec!["the first model has no tokenizer".to_owned()],
        (Some(a), Some(b)) => a.differences(b),
    }
}

fn spec_differences(a: &Checkpoint, b: &Checkpoint) -> Vec<String> {
    let pairs = a.spec.facts().into_iter().zip(b.spec.facts());
    pairs.filter(|(x, y)| x != y).map(|((key, x), (_, y))| format!("{key}: {x} against {y}")).collect()
}

/// A difference and its cause, and on a line of its own what puts it right.
pub(super) fn difference_text(d: &TensorDifference) -> String {
    let at = d.first_index.map(|i| format!(" at {i}")).unwrap_or_default();
    let what = match d.kind {
        TensorDifferenceKind::MissingInA => "only in the second model".to_owned(),
        TensorDifferenceKind::MissingInB => "only in the first model".to_owned(),
        TensorDifferenceKind::Shape => format!("{} against {}", d.a, d.b),
        TensorDifferenceKind::Values => {
            let max = d.max_abs.map_or("not finite".to_owned(), |m| format!("{m:.3e}"));
            format!("{} values differ, by at most {max}; first{at}: {} against {}", d.n_different, d.a, d.b)
        }
    };
    let cause = d.cause.as_deref().map(|c| format!(" ({c})")).unwrap_or_default();
    let fix = d.fix.as_deref().map(|fix| format!("\n    {fix}")).unwrap_or_default();
    format!("{}: {what}{cause}{fix}", d.tensor)
}

fn text(report: &VerifyReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    line(match report.verdict {
        VerifyVerdict::Identical => "identical".to_owned(),
        VerifyVerdict::IdenticalValues => {
            format!("identical values, {} tensors in other dtypes", report.dtype_differences.len())
        }
        VerifyVerdict::Different if report.n_values_compared == 0 => "different: no value could be compared".to_owned(),
        VerifyVerdict::Different => "different".to_owned(),
    });
    for d in &report.differences {
        line(format!("  {}", difference_text(d)));
    }
    for difference in &report.tokenizer_differences {
        line(format!("  tokenizer: {difference}"));
    }
    for difference in &report.spec_differences {
        line(format!("  {difference}"));
    }
    if !report.chat_template_equal {
        line("  the chat templates differ".to_owned());
    }
    line(format!("compared {} tensors, {} values", report.n_tensors_compared, report.n_values_compared));
    out
}
