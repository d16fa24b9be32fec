//! `apr rosetta fingerprint`: what a model is, whatever holds it.

use super::validate::statistics_of;
use super::verify::forward_order;
use crate::args::Fingerprint as Arguments;
use crate::error::CommandError;
use crate::output::{self, Progress};
use crate::{interrupt, model};
use apr_model::Fingerprint;
use apr_report::{ExitCode, FingerprintComparison, FingerprintReport, FingerprintedTensor, Report, from_json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;

pub(super) fn run(args: &Arguments, json: bool) -> Result<ExitCode, CommandError> {
    let mut report = fingerprint(&args.model)?;
    if let Some(path) = &args.other {
        let other = match saved(path)? {
            Some(saved) => saved,
            None => fingerprint(path)?,
        };
        report.comparison = Some(compare(&report, &other));
    }
    output::print(json, &report, text);
    let same = report.comparison.as_ref().is_none_or(|other| other.fingerprint == report.fingerprint);
    Ok(if same { ExitCode::Ok } else { ExitCode::Mismatch })
}

/// The report in a file, where the file holds one.
pub(super) fn saved(path: &Path) -> Result<Option<FingerprintReport>, CommandError> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(None);
    }
    let text = super::text::read_file(path)?;
    from_json(&text)
        .map(Some)
        .map_err(|e| CommandError::new(ExitCode::InvalidFormat, format!("{}: {e}", path.display())))
}

pub(super) fn fingerprint(path: &Path) -> Result<FingerprintReport, CommandError> {
    let (_, checkpoint) = model::open(path)?;
    let total = checkpoint.tensors.iter().map(|t| t.data.len() as u64).sum();
    let progress = Mutex::new((Progress::new("reading values"), 0));
    let n_threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let advance = |n_bytes| {
        if let Ok(mut progress) = progress.lock() {
            progress.1 += n_bytes;
            let done = progress.1;
            progress.0.update(done, total);
        }
        interrupt::asked()
    };
    let found = Fingerprint::of(&checkpoint, n_threads, advance)
        .ok_or_else(|| CommandError::new(ExitCode::Interrupted, "interrupted"))?;
    let mut tensors: Vec<_> = checkpoint.tensors.iter().zip(&found.tensors).collect();
    tensors.sort_by_key(|(tensor, _)| (forward_order(tensor.role), &tensor.name));
    let tensors = tensors.into_iter().map(|(tensor, found)| FingerprintedTensor {
        digest: hex(&found.digest),
        statistics: statistics_of(tensor, &found.stats),
    });
    Ok(FingerprintReport {
        schema: FingerprintReport::SCHEMA.to_owned(),
        path: path.display().to_string(),
        fingerprint: hex(&found.digest),
        identity: hex(&found.identity),
        tensors: tensors.collect(),
        comparison: None,
    })
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

fn compare(a: &FingerprintReport, b: &FingerprintReport) -> FingerprintComparison {
    let digests = |report: &FingerprintReport| -> BTreeMap<String, String> {
        report.tensors.iter().map(|t| (t.statistics.name.clone(), t.digest.clone())).collect()
    };
    let (of_a, of_b) = (digests(a), digests(b));
    let names = a.tensors.iter().chain(b.tensors.iter().filter(|t| !of_a.contains_key(&t.statistics.name)));
    let names = names.map(|t| &t.statistics.name).filter(|&name| of_a.get(name) != of_b.get(name));
    FingerprintComparison {
        path: b.path.clone(),
        fingerprint: b.fingerprint.clone(),
        same_identity: a.identity == b.identity,
        different: names.cloned().collect(),
    }
}

fn text(report: &FingerprintReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let Some(other) = &report.comparison else {
        let rows = report.tensors.iter().map(|t| {
            let s = &t.statistics;
            let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
            let numbers = [s.min, s.max, s.mean, s.std].map(number);
            let mut row = vec![s.name.clone(), s.dtype.clone(), format!("{:?}", s.shape), t.digest[..16].to_owned()];
            row.extend(numbers);
            row
        });
        let header = ["tensor", "dtype", "shape", "digest", "min", "max", "mean", "std"];
        line(output::table(&header, rows).trim_end().to_owned());
        line(format!("identity     {}", report.identity));
        line(format!("fingerprint  {}", report.fingerprint));
        return out;
    };
    line(format!("{}  {}", report.fingerprint, report.path));
    line(format!("{}  {}", other.fingerprint, other.path));
    for name in &other.different {
        line(format!("  {name} differs"));
    }
    if !other.same_identity {
        line(
            "  hyper-parameters, tokenizer, chat template, names or shapes differ (`apr rosetta verify` says which)"
                .into(),
        );
    }
    line(if report.fingerprint == other.fingerprint { "the same model".into() } else { "different models".into() });
    out
}
