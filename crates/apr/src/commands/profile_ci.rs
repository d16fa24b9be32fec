//! `apr profile --ci`: throughput and latency against what was asked for.

use super::generation::cpu_name;
use super::profile::{amount, options, ready};
use crate::args::Profile;
use crate::error::CommandError;
use crate::measure::profile::token_times;
use crate::measure::rooflines::provenance;
use crate::measure::statistics::latency;
use crate::output;
use apr_report::{ExitCode, Figure, ProfileAssertion, ProfileCiReport, Report};
use std::fmt::Write;
use std::path::Path;

/// Runs the model and checks every assertion of the command line, of which there is at least one.
pub(super) fn run(args: &Profile, path: &Path, json: bool) -> Result<ExitCode, CommandError> {
    let (model, _) = ready(args, path)?;
    let provenance = provenance(model.backend(), cpu_name());
    let samples_ms = token_times(&model, options(args), amount(args))?;
    let total_ms: f64 = samples_ms.iter().sum();
    let throughput = Figure::of(samples_ms.len() as f64 / (total_ms / 1e3));
    let latency = latency(&samples_ms);
    let assertions: Vec<_> = [
        ("throughput", args.assert_throughput, &throughput),
        ("p50", args.assert_p50, &latency.p50_ms),
        ("p99", args.assert_p99, &latency.p99_ms),
    ]
    .into_iter()
    .filter_map(|(name, expected, actual)| Some(check(name, expected?, actual)))
    .collect();
    let report = ProfileCiReport {
        schema: ProfileCiReport::SCHEMA.to_owned(),
        provenance,
        model_path: path.display().to_string(),
        threads: model.backend().n_threads(),
        kv_cache: args.kv_cache.dtype().name().to_owned(),
        n_warmup_passes: args.warmup as u64,
        n_passes: args.measure.get() as u64,
        n_tokens_per_pass: args.tokens.get() as u64,
        depth: args.n_prompt.get() as u64,
        passed: !assertions.is_empty() && assertions.iter().all(|assertion| assertion.passed),
        throughput_tok_s: throughput,
        latency_p50_ms: latency.p50_ms,
        latency_p99_ms: latency.p99_ms,
        assertions,
        samples_ms,
    };
    output::print(json, &report, text);
    Ok(if report.passed { ExitCode::Ok } else { ExitCode::Failed })
}

/// A throughput has to reach what was asked for, a latency to stay within it; what was not measured does neither.
fn check(name: &str, expected: f64, actual: &Figure) -> ProfileAssertion {
    let holds = |actual: f64| if name == "throughput" { actual >= expected } else { actual <= expected };
    let passed = actual.value.is_some_and(holds);
    ProfileAssertion { name: name.to_owned(), expected, actual: actual.clone(), passed }
}

fn text(report: &ProfileCiReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let figure = |figure: &Figure, digits: usize, unit: &str| match (figure.value, &figure.absent) {
        (Some(value), _) => format!("{value:.digits$} {unit}"),
        (None, reason) => format!("not measured: {}", reason.as_deref().unwrap_or("no reason given")),
    };
    line("CI PROFILE REPORT (PMAT-192)".to_owned());
    line(format!("  Throughput:  {}", figure(&report.throughput_tok_s, 1, "tok/s")));
    line(format!("  Latency p50: {}", figure(&report.latency_p50_ms, 2, "ms")));
    line(format!("  Latency p99: {}", figure(&report.latency_p99_ms, 2, "ms")));
    line(String::new());
    line("ASSERTIONS".to_owned());
    for assertion in &report.assertions {
        let verdict = if assertion.passed { "PASS" } else { "FAIL" };
        let (sign, digits, unit) = if assertion.name == "throughput" { (">=", 1, "tok/s") } else { ("<=", 2, "ms") };
        let (name, expected) = (&assertion.name, assertion.expected);
        let actual = figure(&assertion.actual, digits, unit);
        line(format!("  {verdict} {name}: {actual} (expected {sign} {expected:.digits$} {unit})"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_holds_on_its_own_side_only() {
        for (name, expected, actual, passed) in [
            ("throughput", 10.0, 10.0, true),
            ("throughput", 10.0, 9.99, false),
            ("p50", 10.0, 10.0, true),
            ("p50", 10.0, 10.01, false),
            ("p99", 10.0, 0.1, true),
            ("p99", 10.0, f64::NAN, false),
            ("throughput", 10.0, f64::INFINITY, false),
        ] {
            assert_eq!(check(name, expected, &Figure::of(actual)).passed, passed, "{name} {expected} {actual}");
        }
        assert!(!check("p99", 1e9, &Figure::absent("too few samples")).passed);
    }
}
