//! `apr rosetta diff-tensors`: names, shapes and dtypes side by side; values where they are asked for.

use super::verify::{difference_text, forward_order, value_difference};
use crate::args::DiffTensors;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_model::{Tensor, compare_values};
use apr_report::{DTypeDifference, DiffTensorsReport, ExitCode, LayoutDifference, Report};
use std::fmt::Write;

pub(super) fn run(args: &DiffTensors, json: bool) -> Result<ExitCode, CommandError> {
    let (_, a) = model::open(&args.pair.a)?;
    let (_, b) = model::open(&args.pair.b)?;
    let wanted = |tensor: &&Tensor| args.filter.as_ref().is_none_or(|filter| tensor.name.contains(filter.as_str()));
    let mut report = DiffTensorsReport {
        schema: DiffTensorsReport::SCHEMA.to_owned(),
        a: args.pair.a.display().to_string(),
        b: args.pair.b.display().to_string(),
        filter: args.filter.clone(),
        n_tensors_a: a.tensors.iter().filter(wanted).count() as u64,
        n_tensors_b: b.tensors.iter().filter(wanted).count() as u64,
        n_compared: 0,
        differences: Vec::new(),
        dtype_differences: Vec::new(),
        value_differences: args.values.then(Vec::new),
    };
    let mut tensors: Vec<&Tensor> = a.tensors.iter().filter(wanted).collect();
    tensors.extend(b.tensors.iter().filter(wanted).filter(|t| a.tensors.get(&t.name).is_none()));
    tensors.sort_by_key(|t| (forward_order(t.role), t.name.clone()));
    let total = a.tensors.iter().filter(wanted).map(|t| t.data.len() as u64).sum();
    let mut done = 0;
    let mut progress = Progress::new("comparing");
    for tensor in tensors {
        let (x, y) = (a.tensors.get(&tensor.name), b.tensors.get(&tensor.name));
        let dims = |t: &Tensor| t.shape.dims().iter().map(|&d| d as u64).collect::<Vec<_>>();
        if let (Some(x), Some(y)) = (x, y) {
            report.n_compared += 1;
            if x.dtype != y.dtype {
                let (a, b) = (x.dtype.name().to_owned(), y.dtype.name().to_owned());
                report.dtype_differences.push(DTypeDifference { tensor: tensor.name.clone(), a, b });
            }
            if x.shape == y.shape {
                if let Some(differences) = &mut report.value_differences {
                    if interrupt::asked().is_break() {
                        return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
                    }
                    differences.extend(value_difference(x, &compare_values(x, y)));
                    done += x.data.len() as u64;
                    progress.update(done, total);
                }
                continue;
            }
        }
        let (shape_a, shape_b) = (x.map(dims), y.map(dims));
        let transposed = match (&shape_a, &shape_b) {
            (Some(x), Some(y)) => x.iter().rev().eq(y),
            _ => false,
        };
        let advice = match (&shape_a, &shape_b) {
            (Some(_), None) => "the second model lacks it: it was dropped or renamed on the way",
            (None, _) => "the first model lacks it: it was added or renamed on the way",
            _ if transposed => {
                "one shape is the other reversed: a converter took ggml's dimension order for row-major \
                                order; convert again from the source"
            }
            _ => "the shapes differ: these are not the same model",
        };
        let advice = advice.to_owned();
        report.differences.push(LayoutDifference { tensor: tensor.name.clone(), shape_a, shape_b, transposed, advice });
    }
    drop(progress);
    output::print(json, &report, text);
    let n_value_differences = report.value_differences.as_ref().map_or(0, Vec::len);
    let same = report.differences.is_empty() && n_value_differences == 0 && report.n_compared > 0;
    Ok(if same { ExitCode::Ok } else { ExitCode::Mismatch })
}

fn text(report: &DiffTensorsReport) -> String {
    let mut out = String::new();
    let shape = |s: &Option<Vec<u64>>| s.as_ref().map_or("absent".to_owned(), |s| format!("{s:?}"));
    for d in &report.differences {
        writeln!(out, "{}: {} against {}: {}", d.tensor, shape(&d.shape_a), shape(&d.shape_b), d.advice)
            .expect("writing to a string");
    }
    for d in &report.dtype_differences {
        writeln!(out, "{}: {} against {}", d.tensor, d.a, d.b).expect("writing to a string");
    }
    for d in report.value_differences.iter().flatten() {
        writeln!(out, "{}", difference_text(d)).expect("writing to a string");
    }
    let summary = match (report.n_compared, report.differences.len()) {
        (0, _) => "nothing was compared".to_owned(),
        (n, 0) => format!("{n} tensors have the same layout"),
        (n, differences) => format!("{differences} layout differences, {n} tensors compared"),
    };
    let dtypes = match report.dtype_differences.len() {
        0 => String::new(),
        n => format!(", {n} in other dtypes"),
    };
    let values = match report.value_differences.as_ref().map(Vec::len) {
        None => String::new(),
        Some(0) => ", no value differs".to_owned(),
        Some(n) => format!(", {n} with other values"),
    };
    writeln!(out, "{summary}{dtypes}{values}").expect("writing to a string");
    out
}
