//! `apr quantize`: a model in fewer bits, and what that does to each tensor.

use super::convert;
use crate::args::Quantize;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_formats::{
    FileTypeRequest, Importance, Limits, PlannedTensor, Recoding, Target, TensorLoss, WriteOptions, Written,
    check_integrity, plan, write,
};
use apr_model::{Checkpoint, FileType};
use apr_report::{ConvertSource, ConvertTarget, ExitCode, QuantizeError, QuantizeReport, QuantizedTensor, Report};
use apr_tensor::DType;
use regex::Regex;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

pub(super) fn run(args: &Quantize, json: bool) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let file_type = FileType::from_name(&args.file_type).map_err(|error| usage(error.to_string()))?;
    let overrides = args.tensor_type.iter().map(|text| tensor_type(text)).collect::<Result<Vec<_>, _>>()?;
    let target = Target::new(&args.target, args.to.as_deref().map(convert::format).transpose()?)?;
    let (source, checkpoint) = model::open(&args.source)?;
    let importance = args.imatrix.as_deref().map(|path| Importance::read(path, &Limits::default())).transpose()?;
    if let (Some(importance), Some(path)) = (&importance, &args.imatrix) {
        let of_another = |why| CommandError::new(ExitCode::Mismatch, format!("{}: {why}", path.display())).about(path);
        importance.check(&checkpoint).map_err(of_another)?;
    }
    let overrides = by_name(&checkpoint, &overrides)?;
    let request = FileTypeRequest { file_type, overrides, importance, requantize: args.allow_requantize };
    let recoding = Recoding::FileType(Arc::new(request));
    let planned = plan(&checkpoint, target.format, &recoding)?;
    let written = if args.dry_run {
        None
    } else {
        // A damaged source is better refused than carried on.
        check_integrity(&source, &Limits::default())?;
        Some(quantize(args, &checkpoint, &target, recoding, file_type)?)
    };

    let bytes_after = planned.iter().map(|tensor| tensor.len_bytes).sum();
    let report = QuantizeReport {
        schema: QuantizeReport::SCHEMA.to_owned(),
        source: ConvertSource {
            path: args.source.display().to_string(),
            format: source.format.name().to_owned(),
            files: model::file_entries(&source),
        },
        target: ConvertTarget {
            path: args.target.display().to_string(),
            format: target.format.name().to_owned(),
            files: written.as_ref().map(convert::written_files).unwrap_or_default(),
        },
        file_type: file_type.name.to_owned(),
        dry_run: args.dry_run,
        importance: args.imatrix.as_ref().map(|path| path.display().to_string()),
        tensors: tensors(&planned, written.as_ref()),
        bytes_before: checkpoint.tensors.iter().map(|tensor| tensor.data.len() as u64).sum(),
        bytes_after,
        bits_per_weight: 8.0 * bytes_after as f64 / checkpoint.n_parameters().max(1) as f64,
        not_carried: convert::not_carried(&checkpoint),
        elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

fn usage(message: String) -> CommandError {
    CommandError::new(ExitCode::Usage, message)
}

fn quantize(
    args: &Quantize,
    checkpoint: &Checkpoint,
    target: &Target,
    recoding: Recoding,
    file_type: &FileType,
) -> Result<Written, CommandError> {
    // A recipe would describe a file whose values these are not.
    let options = WriteOptions {
        force: args.force,
        capsule: false,
        recoding: Some(recoding),
        shard_bytes: args.shard_size,
        ..WriteOptions::default()
    };
    let n_threads = args.threads.map_or(0, usize::from);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
    let threads = threads.map_err(|error| CommandError::new(ExitCode::Io, format!("no threads: {error}")))?;
    let mut progress = Progress::new(format!("{} → {file_type}", checkpoint.origin.format));
    let written = threads.install(|| {
        write(checkpoint, target, &options, &mut |done, total| {
            progress.update(done, total);
            interrupt::asked()
        })
    })?;
    Ok(written)
}

/// `REGEX=DTYPE`.
fn tensor_type(text: &str) -> Result<(Regex, DType), CommandError> {
    let (pattern, dtype) = text.rsplit_once('=').ok_or_else(|| usage(format!("{text:?} is not REGEX=DTYPE")))?;
    let dtype = DType::from_name(dtype).map_err(|error| usage(error.to_string()))?;
    let dtype = convert::encodable(dtype)?.dtype();
    let pattern = Regex::new(pattern).map_err(|error| usage(format!("{pattern:?}: {error}")))?;
    Ok((pattern, dtype))
}

/// The dtypes asked for, by canonical name. An expression that matches no tensor is a mistake.
fn by_name(checkpoint: &Checkpoint, overrides: &[(Regex, DType)]) -> Result<HashMap<String, DType>, CommandError> {
    let mut dtypes = HashMap::new();
    let mut used = vec![false; overrides.len()];
    for tensor in &checkpoint.tensors {
        let gguf_name = tensor.role.zip(checkpoint.spec.arch()).map(|(role, arch)| role.gguf_name(arch));
        let matches =
            |pattern: &Regex| pattern.is_match(&tensor.name) || gguf_name.as_ref().is_some_and(|n| pattern.is_match(n));
        for (i, (pattern, dtype)) in overrides.iter().enumerate() {
            if matches(pattern) {
                used[i] = true;
                dtypes.entry(tensor.name.clone()).or_insert(*dtype);
            }
        }
    }
    match used.iter().position(|used| !used) {
        Some(i) => Err(usage(format!("--tensor-type {}: no tensor has such a name", overrides[i].0))),
        None => Ok(dtypes),
    }
}

fn tensors(planned: &[PlannedTensor], written: Option<&Written>) -> Vec<QuantizedTensor> {
    let losses: HashMap<&str, &TensorLoss> =
        written.into_iter().flat_map(|written| &written.lossy).map(|loss| (loss.tensor.as_str(), loss)).collect();
    planned
        .iter()
        .map(|tensor| QuantizedTensor {
            tensor: tensor.name.clone(),
            shape: tensor.shape.dims().iter().map(|&dim| dim as u64).collect(),
            from: tensor.from.name().to_owned(),
            to: tensor.to.name().to_owned(),
            wanted: (tensor.wanted != tensor.to).then(|| tensor.wanted.name().to_owned()),
            by_importance: tensor.by_importance,
            bytes: tensor.len_bytes,
            error: losses.get(tensor.name.as_str()).map(|loss| error(loss)),
        })
        .collect()
}

fn error(loss: &TensorLoss) -> QuantizeError {
    let finite = |x: f64| x.is_finite().then_some(x);
    QuantizeError {
        max_abs: f64::from(loss.max_abs),
        rmse: loss.rmse,
        nmse: finite(loss.nmse),
        cosine: finite(loss.cosine),
    }
}

fn text(report: &QuantizeReport) -> String {
    let row = |tensor: &QuantizedTensor| {
        let fallback = tensor.wanted.as_ref().map(|wanted| format!(" (for {wanted})")).unwrap_or_default();
        let number = |x: Option<f64>, digits: usize| x.map_or(String::new(), |x| format!("{x:.digits$e}"));
        let error = tensor.error.as_ref();
        vec![
            tensor.tensor.clone(),
            tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×"),
            tensor.from.clone(),
            format!("{}{fallback}", tensor.to),
            number(error.map(|e| e.max_abs), 3),
            number(error.map(|e| e.rmse), 4),
            number(error.and_then(|e| e.nmse), 3),
            error.and_then(|e| e.cosine).map_or(String::new(), |cosine| format!("{cosine:.6}")),
        ]
    };
    let mut out = format!(
        "{} ({}) → {} ({}), {}\n",
        report.source.path, report.source.format, report.target.path, report.target.format, report.file_type
    );
    out.push_str(&output::table(
        &["tensor", "shape", "from", "to", "max", "rmse", "nmse", "cosine"],
        report.tensors.iter().map(row),
    ));
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let n_fallbacks = report.tensors.iter().filter(|tensor| tensor.wanted.is_some()).count();
    if n_fallbacks > 0 {
        line(format!("{n_fallbacks} tensors have rows that don't fill the blocks of the dtype asked for"));
    }
    if let Some(path) = &report.importance {
        let n = report.tensors.iter().filter(|tensor| tensor.by_importance).count();
        line(format!("{n} tensors by the importance of their columns, from {path}"));
    }
    for what in &report.not_carried {
        line(format!("not carried: {what}"));
    }
    let (before, after) = (output::bytes(report.bytes_before), output::bytes(report.bytes_after));
    let done = if report.dry_run {
        "dry run: nothing was written".to_owned()
    } else {
        format!("{:.2} s", report.elapsed_ms / 1e3)
    };
    line(format!("{before} → {after}, {:.2} bits per weight; {done}", report.bits_per_weight));
    out
}
