//! `apr rosetta diff-tensors`: names, shapes and dtypes side by side, headers only.

use super::verify::forward_order;
use crate::args::DiffTensors;
use crate::error::CommandError;
use crate::{model, output};
use apr_model::Tensor;
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
    };
    let mut tensors: Vec<&Tensor> = a.tensors.iter().filter(wanted).collect();
    tensors.extend(b.tensors.iter().filter(wanted).filter(|t| a.tensors.get(&t.name).is_none()));
    tensors.sort_by_key(|t| (forward_order(t.role), t.name.clone()));
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
    output::print(json, &report, text);
    let same = report.differences.is_empty() && report.n_compared > 0;
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
    let summary = match (report.n_compared, report.differences.len()) {
        (0, _) => "nothing was compared".to_owned(),
        (n, 0) => format!("{n} tensors have the same layout"),
        (n, differences) => format!("{differences} layout differences, {n} tensors compared"),
    };
    let dtypes = match report.dtype_differences.len() {
        0 => String::new(),
        n => format!(", {n} in other dtypes"),
    };
    writeln!(out, "{summary}{dtypes}").expect("writing to a string");
    out
}
