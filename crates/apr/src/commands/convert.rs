//! `apr convert`, `import` and `export`, and `apr rosetta chain`.

use crate::args::{Chain, Convert, ConvertOptions, Export, Import};
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_formats::{
    DTypeRequest, Limits, Recoding, Relaid, Step, Target, TensorLoss, WriteError, WriteOptions, Written,
    check_integrity, summarize, write,
};
use apr_model::{Checkpoint, Format, Severity};
use apr_report::{
    ChainReport, ConvertReport, ConvertSource, ConvertStep, ConvertTarget, ExitCode, LossyTensor, Report, Restored,
    WrittenFile,
};
use apr_tensor::DType;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn run(args: &Convert, json: bool) -> Result<ExitCode, CommandError> {
    let to = args.to.as_deref().map(format).transpose()?;
    let report = convert((&args.source, args.config.as_deref()), &args.target, to, &args.options)?;
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

pub(super) fn import(args: &Import, json: bool) -> Result<ExitCode, CommandError> {
    let report = convert((&args.source, None), &args.output, Some(Format::Apr), &args.options)?;
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

pub(super) fn export(args: &Export, json: bool) -> Result<ExitCode, CommandError> {
    let report = convert((&args.source, None), &args.output, Some(format(&args.format)?), &args.options)?;
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

pub(super) fn chain(args: &Chain, json: bool) -> Result<ExitCode, CommandError> {
    let formats = args.formats.iter().map(|name| format(name)).collect::<Result<Vec<_>, _>>()?;
    let dry_run = args.options.dry_run;
    // Each step reads what the one before wrote.
    let temporary = dry_run.then(tempfile::tempdir).transpose()?;
    let work_dir = temporary.as_ref().map_or(args.work_dir.as_path(), tempfile::TempDir::path);
    if !dry_run {
        std::fs::create_dir_all(work_dir).map_err(|e| CommandError::from(e).about(work_dir))?;
    }
    let options = ConvertOptions { dry_run: false, ..args.options.clone() };
    let (mut source, mut named) = (args.source.clone(), args.source.clone());
    let mut steps = Vec::with_capacity(formats.len());
    for (step, to) in formats.into_iter().enumerate() {
        // The number tells the steps apart; nothing is ever cut from a name.
        let name = match to {
            Format::SafeTensors => format!("{}-safetensors", step + 1),
            Format::Apr if options.shard_size.is_some() => format!("{}-apr/", step + 1),
            other => format!("{}.{}", step + 1, other.name()),
        };
        let target = work_dir.join(&name);
        let result = args.work_dir.join(&name);
        if dry_run && !options.force && result.exists() {
            return Err(WriteError::Exists { path: result }.into());
        }
        let mut report = convert((&source, None), &target, Some(to), &options)?;
        source = PathBuf::from(&report.target.path);
        if dry_run {
            report.dry_run = true;
            report.source.path = named.display().to_string();
            report.target.path = result.display().to_string();
        }
        named = result;
        if !json {
            output::print_text(&text(&report));
        }
        steps.push(report);
    }
    if json {
        output::print_json(&ChainReport { schema: ChainReport::SCHEMA.to_owned(), steps });
    }
    Ok(ExitCode::Ok)
}

pub(super) fn format(name: &str) -> Result<Format, CommandError> {
    Format::from_name(name).ok_or_else(|| {
        CommandError::new(ExitCode::Usage, format!("no format is called {name:?}")).hint("gguf, safetensors or apr")
    })
}

fn convert(
    (source_path, config): (&Path, Option<&Path>),
    target_path: &Path,
    to: Option<Format>,
    options: &ConvertOptions,
) -> Result<ConvertReport, CommandError> {
    let started = Instant::now();
    let target = Target::new(target_path, to)?;
    let dtype = options.dtype.as_deref().map(dtype).transpose()?;
    let (source, checkpoint) = model::open_with(source_path, config)?;
    // A damaged source is better refused than carried on.
    check_integrity(&source, &Limits::default())?;
    let dry_run = options.dry_run;
    let options = WriteOptions {
        force: options.force,
        capsule: !options.no_capsule,
        recoding: dtype.map(Recoding::DType),
        shard_bytes: options.shard_size,
        dry_run,
    };
    let mut progress = Progress::new(format!("{} → {}", source.format, target.format));
    let written = write(&checkpoint, &target, &options, &mut |done, total| {
        progress.update(done, total);
        interrupt::asked()
    })?;
    drop(progress);
    let warnings = warnings(&checkpoint, target.format);
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));

    Ok(ConvertReport {
        schema: ConvertReport::SCHEMA.to_owned(),
        dry_run,
        source: ConvertSource {
            path: source_path.display().to_string(),
            format: source.format.name().to_owned(),
            files: model::file_entries(&source),
        },
        target: ConvertTarget {
            path: target_files(&target, &written).display().to_string(),
            format: target.format.name().to_owned(),
            files: written_files(&written),
        },
        n_tensors: checkpoint.tensors.len() as u64,
        n_verbatim: written.n_verbatim as u64,
        steps: written.steps.iter().flat_map(steps).collect(),
        lossy: written.lossy.iter().map(loss).collect(),
        not_carried: not_carried(&checkpoint)
            .into_iter()
            .chain(without_capsule(&checkpoint, &written, target.format))
            .collect(),
        warnings,
        elsewhere: written.elsewhere.clone(),
        capsule_bytes: written.capsule_bytes as u64,
        elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
        bytes_written: written.files.iter().map(|f| f.len_bytes).sum(),
        restored: restored(&written),
    })
}

/// The files of a target for a report.
pub(super) fn written_files(written: &Written) -> Vec<WrittenFile> {
    let files = written.files.iter().map(|file| WrittenFile {
        name: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: file.len_bytes,
        blake3: Some(file.blake3.iter().map(|b| format!("{b:02x}")).collect()),
    });
    files.collect()
}

/// What a user should know before taking the target for a model.
fn warnings(checkpoint: &Checkpoint, format: Format) -> Vec<String> {
    let unknown = checkpoint.spec.unknown().map(|architecture| {
        let finding = architecture.finding();
        format!("{} is {}; what a loader of {format} makes of it is unknown", finding.subject, finding.detail)
    });
    unknown.into_iter().collect()
}

/// What the source has and a model has not.
pub(super) fn not_carried(checkpoint: &Checkpoint) -> Vec<String> {
    let notes = checkpoint.notes.iter();
    let notes = notes.filter(|note| note.severity == Severity::Note && note.code == "not-part-of-the-model");
    notes.map(|note| format!("{}: {}", note.subject, note.detail)).collect()
}

/// What a target has no place for outside of the capsule that it does not have.
fn without_capsule(checkpoint: &Checkpoint, written: &Written, format: Format) -> Option<String> {
    let is_fresh = checkpoint.origin.format != format && written.restored.is_err();
    let lost = checkpoint.spec.unknown().is_some() && is_fresh && written.capsule_bytes == 0;
    lost.then(|| "metadata: that of an unknown architecture travels in the capsule alone".to_owned())
}

/// The file or directory that a command would name to open the target: the first of several files.
fn target_files<'a>(target: &'a Target, written: &'a Written) -> &'a Path {
    match written.files.as_slice() {
        [first, _, ..] if target.format == Format::Gguf => &first.path,
        _ => &target.path,
    }
}

fn dtype(name: &str) -> Result<DTypeRequest, CommandError> {
    let dtype = DType::from_name(name).map_err(|e| CommandError::new(ExitCode::Usage, e.to_string()))?;
    encodable(dtype)
}

/// Asks for a dtype that this version encodes.
pub(super) fn encodable(dtype: DType) -> Result<DTypeRequest, CommandError> {
    DTypeRequest::new(dtype).map_err(|message| CommandError::new(ExitCode::Unavailable, message))
}

fn restored(written: &Written) -> Restored {
    match &written.restored {
        Ok(()) => Restored { restored: true, reason: "the recipe gives the same files, checked by BLAKE3".to_owned() },
        Err(reason) => Restored { restored: false, reason: reason.clone() },
    }
}

fn steps(step: &Step) -> Vec<ConvertStep> {
    let of = |kind: &str, detail: String| ConvertStep { tensor: step.tensor.clone(), kind: kind.to_owned(), detail };
    let mut steps = Vec::new();
    let relaid = step.relaid.map(|relaid| match relaid {
        Relaid::Permuted => ("permute", "rows re-ordered between the rotary conventions of GGUF and Transformers"),
        Relaid::Transposed => ("transpose", "inputs and outputs exchanged between GGUF and Transformers"),
        Relaid::Shifted => ("shift", "gains that count from one in GGUF and from zero in Transformers"),
    });
    steps.extend(relaid.map(|(kind, detail)| of(kind, detail.to_owned())));
    if step.swapped {
        steps.push(of("swap", "the bytes of its numbers in the other order".to_owned()));
    }
    if step.from != step.to {
        let wider = step.to.info().block_bytes * step.from.info().block_elements
            > step.from.info().block_bytes * step.to.info().block_elements;
        let kind = if wider { "widen" } else { "narrow" };
        steps.push(of(kind, format!("{} to {}, every value kept", step.from, step.to)));
    }
    steps
}

fn loss(loss: &TensorLoss) -> LossyTensor {
    let finite = |x: f64| x.is_finite().then_some(x);
    LossyTensor {
        tensor: loss.tensor.clone(),
        from: loss.from.name().to_owned(),
        to: loss.to.name().to_owned(),
        max_abs: finite(f64::from(loss.max_abs)),
        rmse: finite(loss.rmse),
    }
}

fn text(report: &ConvertReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    line(format!(
        "{} ({}) → {} ({})",
        report.source.path, report.source.format, report.target.path, report.target.format
    ));
    for file in &report.target.files {
        let digest = file.blake3.as_deref().unwrap_or_default();
        line(format!("  {:<24} {:>12} bytes  blake3 {}", file.name, file.bytes, digest.get(..16).unwrap_or(digest)));
    }
    let count = |kind: &str| report.steps.iter().filter(|s| s.kind == kind).count();
    let mut changes = vec![format!("{} of {} tensors carried verbatim", report.n_verbatim, report.n_tensors)];
    for (kind, what) in [
        ("widen", "widened exactly"),
        ("narrow", "narrowed exactly"),
        ("permute", "with rows re-ordered"),
        ("transpose", "transposed"),
        ("swap", "in another byte order"),
        ("shift", "with gains counted from another number"),
    ] {
        if count(kind) > 0 {
            changes.push(format!("{} {what}", count(kind)));
        }
    }
    line(format!("  {}", changes.join(", ")));
    if report.lossy.is_empty() {
        line("  lossless: every value is the same".to_owned());
    } else {
        let worst = report.lossy.iter().filter_map(|l| l.max_abs).fold(0.0, f64::max);
        line(format!("  lossy on request: {} tensors changed, by at most {worst:.3e}", report.lossy.len()));
        for loss in &report.lossy {
            let number = |x: Option<f64>| x.map_or("not finite".to_owned(), |x| format!("{x:.3e}"));
            let (max, rmse) = (number(loss.max_abs), number(loss.rmse));
            line(format!("    {:<44} {} → {}  max {max}  rmse {rmse}", loss.tensor, loss.from, loss.to));
        }
    }
    if report.restored.restored {
        line("  the original files again, byte for byte".to_owned());
    } else {
        line(format!("  fresh layout: {}", report.restored.reason));
    }
    for what in &report.elsewhere {
        line(format!("  elsewhere: {what}"));
    }
    for what in &report.not_carried {
        line(format!("  not carried: {what}"));
    }
    if report.target.format == "safetensors" && !report.dry_run && packed(report) {
        line(
            "  quantised blocks are carried as bytes: Transformers can't load this model; --dtype f32, f16 or bf16 \
             decodes them for it"
                .to_owned(),
        );
    }
    let (bytes, elapsed_s) = (output::bytes(report.bytes_written), report.elapsed_ms / 1e3);
    line(match report.dry_run {
        true => format!("  {bytes} would be written; nothing was"),
        false => format!("  {bytes} in {elapsed_s:.2} s"),
    });
    out
}

/// Whether a SafeTensors target holds blocks that only this project unpacks.
fn packed(report: &ConvertReport) -> bool {
    // Headers alone: reading the tokenizer again would take as long as a part of the conversion.
    let source = model::locate(Path::new(&report.target.path));
    let summary = source.ok().and_then(|source| summarize(&source, &Limits::default()).ok());
    summary.is_some_and(|summary| summary.tensors.iter().any(|tensor| tensor.dtype.is_quantized()))
}
