//! `apr profile`: where the time of a pass goes; or, with assertions, whether it is short enough.

use super::generation::{self, cpu_name};
use super::{flamegraph, profile_ci, profile_output};
use crate::args::{Profile, ProfileFormat};
use crate::error::CommandError;
use crate::measure::profile::{Amount, measure};
use crate::measure::rooflines::provenance;
use crate::{model, output};
use apr_engine::{Model, SessionOptions};
use apr_report::{ExitCode, ModelSummary, ProfileCompareReport, ProfileComparison, ProfileReport, Report, from_json};
use std::path::Path;

pub(super) fn run(args: &Profile, json: bool) -> Result<ExitCode, CommandError> {
    let json = json || args.format == ProfileFormat::Json;
    let asserts = [args.assert_throughput, args.assert_p50, args.assert_p99].iter().any(Option::is_some);
    let usage = |message: &str| CommandError::new(ExitCode::Usage, message);
    let checks = args.ci || asserts;
    if args.format == ProfileFormat::Flamegraph && (json || checks || args.compare.is_some()) {
        return Err(usage("a flame graph shows one profile: it goes with neither --json, --ci nor --compare"));
    }
    if args.ci && !asserts {
        return Err(usage("--ci without an assertion could not fail")
            .hint("add --assert-throughput N, --assert-p50 MS or --assert-p99 MS"));
    }
    if let Some(pair) = &args.compare {
        let (a, b) = (&pair[0], &pair[1]);
        let report = comparison(a, b, &profile_or_report(args, a)?, &profile_or_report(args, b)?);
        output::print(json, &report, profile_output::comparison);
        return Ok(ExitCode::Ok);
    }
    let path = args.model.as_deref().ok_or_else(|| usage("no model was given"))?;
    if checks {
        return profile_ci::run(args, path, json);
    }
    let report = profile(args, path)?;
    match args.format {
        ProfileFormat::Flamegraph => output::print_text(&flamegraph::svg(&report)),
        _ => output::print(json, &report, |report| profile_output::text(report, args.granular)),
    }
    Ok(ExitCode::Ok)
}

/// What every kind of profile runs.
pub(super) fn amount(args: &Profile) -> Amount {
    Amount {
        n_prompt: args.n_prompt.get(),
        n_tokens: args.tokens.get(),
        n_warmup: args.warmup,
        n_passes: args.measure.get(),
        seed: args.seed,
    }
}

pub(super) fn options(args: &Profile) -> SessionOptions {
    SessionOptions { cache_dtype: args.kv_cache.dtype(), ..SessionOptions::default() }
}

/// The model, ready to run, and what a report says of it.
pub(super) fn ready(args: &Profile, path: &Path) -> Result<(Model, ModelSummary), CommandError> {
    let (source, checkpoint) = model::open(path)?;
    let (backend, _) = generation::backend(&args.device)?;
    Ok((Model::new(&checkpoint, backend)?, generation::summary(path, &source, &checkpoint)))
}

fn profile(args: &Profile, path: &Path) -> Result<ProfileReport, CommandError> {
    let (model, summary) = ready(args, path)?;
    let provenance = provenance(model.backend(), cpu_name());
    let profile = measure(&model, options(args), amount(args))?;
    Ok(ProfileReport {
        schema: ProfileReport::SCHEMA.to_owned(),
        provenance,
        model: summary,
        kv_cache: args.kv_cache.dtype().name().to_owned(),
        seed: args.seed,
        rooflines: profile.rooflines,
        prefill: profile.prefill,
        decode: profile.decode,
        latency: profile.latency,
    })
}

/// A report that was saved, or the profile of a model. A report is a file that starts as JSON does.
fn profile_or_report(args: &Profile, path: &Path) -> Result<ProfileReport, CommandError> {
    // More than any report, less than nothing of a model: the rest need not be looked at to tell them apart.
    const MOST_BYTES: u64 = 256 << 20;
    let is_file = path.metadata().is_ok_and(|file| file.is_file() && file.len() <= MOST_BYTES);
    let bytes = if is_file { std::fs::read(path)? } else { Vec::new() };
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return profile(args, path);
    }
    let invalid = |error: String| {
        CommandError::new(ExitCode::InvalidFormat, format!("{}: {error}", path.display()))
            .hint("apr profile MODEL --format json > report.json")
            .about(path)
    };
    let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    from_json::<ProfileReport>(&text).map_err(|error| invalid(error.to_string()))
}

fn comparison(a: &Path, b: &Path, x: &ProfileReport, y: &ProfileReport) -> ProfileCompareReport {
    let mut differences = Vec::new();
    let mut differ = |what: &str, x: String, y: String| {
        if x != y {
            differences.push(format!("{what}: {x} against {y}"));
        }
    };
    differ("cpu", x.provenance.cpu.clone(), y.provenance.cpu.clone());
    differ("instruction set", x.provenance.isa.clone(), y.provenance.isa.clone());
    differ("build", x.provenance.build.clone(), y.provenance.build.clone());
    differ("version", x.provenance.version.clone(), y.provenance.version.clone());
    differ("threads", x.rooflines.threads.to_string(), y.rooflines.threads.to_string());
    differ("KV cache", x.kv_cache.clone(), y.kv_cache.clone());
    differ("architecture", x.model.architecture.clone(), y.model.architecture.clone());
    differ("parameters", x.model.n_parameters.to_string(), y.model.n_parameters.to_string());
    differ("main dtype", x.model.main_dtype.clone(), y.model.main_dtype.clone());
    differ("prompt tokens", x.prefill.n_tokens.to_string(), y.prefill.n_tokens.to_string());
    differ("decoded tokens", x.decode.n_tokens.to_string(), y.decode.n_tokens.to_string());

    let mut rows = Vec::new();
    for (phase, x, y) in [("prefill", &x.prefill, &y.prefill), ("decode", &x.decode, &y.decode)] {
        let mut row = |operation: &str, a_ms: Option<f64>, b_ms: Option<f64>| {
            let ratio = a_ms.zip(b_ms).filter(|&(a, _)| a > 0.0).map(|(a, b)| b / a);
            let (phase, operation) = (phase.to_owned(), operation.to_owned());
            rows.push(ProfileComparison { phase, operation, a_ms, b_ms, ratio });
        };
        row("whole pass", Some(x.unobserved_pass_ms.median), Some(y.unobserved_pass_ms.median));
        let only_in_b = y.operations.iter().filter(|o| x.operations.iter().all(|p| p.operation != o.operation));
        for operation in x.operations.iter().chain(only_in_b) {
            let ms = |of: &[apr_report::OperationTime]| {
                of.iter().find(|o| o.operation == operation.operation).map(|o| o.mean_ms)
            };
            row(&operation.operation, ms(&x.operations), ms(&y.operations));
        }
        row("unattributed", Some(x.unattributed_ms), Some(y.unattributed_ms));
    }
    ProfileCompareReport {
        schema: ProfileCompareReport::SCHEMA.to_owned(),
        a: a.display().to_string(),
        b: b.display().to_string(),
        differences,
        rows,
    }
}
