//! A bench report as text, as CSV and as a Markdown table.

use super::roofline_output;
use crate::output;
use apr_report::{BenchReport, BenchTest, Figure, Spread};
use std::fmt::Write;

pub(super) fn text(report: &BenchReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let p = &report.provenance;
    let load = p.load_average.value.map_or_else(String::new, |load| format!(", load average {load:.2}"));
    line(format!("apr {} ({}), {} numerics, {}, {}{load}", p.version, p.build, p.numerics, p.isa, p.cpu));
    for model in &report.models {
        let (path, size, n) = (&model.path, output::bytes(model.file_bytes), model.n_parameters);
        line(format!("{path}: {} {}, {size}, {n} parameters", model.architecture, model.main_dtype));
    }
    if report.interrupted {
        line("interrupted: tests have fewer samples than asked for, or none".to_owned());
    }
    line(String::new());
    out.push_str(&output::table(&HEADER, report.tests.iter().map(cells)));
    notes(report, &mut out);
    out
}

const HEADER: [&str; 8] = ["model", "threads", "kv", "test", "median ms", "t/s", "min – max", "% of roofline"];

fn cells(test: &BenchTest) -> Vec<String> {
    let dash = || "-".to_owned();
    let range = |s: Spread, digits: usize| format!("{:.digits$} – {:.digits$}", s.min, s.max);
    vec![
        test.model.clone(),
        test.threads.to_string(),
        test.kv_cache.clone(),
        test.test.clone(),
        test.elapsed_ms.map_or_else(dash, |ms| format!("{:.2}", ms.median)),
        test.tokens_per_second.map_or_else(dash, |rate| format!("{:.2}", rate.median)),
        match (test.tokens_per_second, test.elapsed_ms) {
            (Some(rate), _) => range(rate, 2),
            (None, Some(ms)) => format!("{} ms", range(ms, 2)),
            (None, None) => dash(),
        },
        roofline_output::cell(test.roofline),
    ]
}

/// Under the table: the parts of loads, the rooflines, and why something was not measured.
fn notes(report: &BenchReport, out: &mut String) {
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let mut rooflines: Vec<_> = Vec::new();
    for test in &report.tests {
        if let Some(load) = &test.load {
            line(format!(
                "{} ×{}: open {:.2} ms, plan {:.2} ms, first prompt of {} tokens {:.2} ms; {:.2} × the warm prompt",
                test.model,
                test.threads,
                load.open_ms.median,
                load.plan_ms.median,
                test.n_tokens,
                load.first_prefill_ms.median,
                load.over_warm_prefill
            ));
        }
        if let Some(reason) = &test.absent {
            line(format!("{} ×{} {}: not measured: {reason}", test.model, test.threads, test.test));
        }
        if !rooflines.contains(&(&test.model, &test.rooflines)) {
            rooflines.push((&test.model, &test.rooflines));
        }
    }
    for (model, r) in rooflines {
        let giga = |figure: &Figure, unit: &str| match (figure.value, &figure.absent) {
            (Some(value), _) => format!("{:.2} {unit}", value / 1e9),
            (None, reason) => format!("no figure ({})", reason.as_deref().unwrap_or("no reason given")),
        };
        line(format!(
            "rooflines of {model} ×{}: {} of {}; {}",
            r.threads,
            giga(&r.read_bytes_per_second, "GB/s"),
            r.read_from,
            giga(&r.multiply_adds_per_second, "G multiply-adds/s")
        ));
    }
    if let Some(note) = roofline_output::note(report.tests.iter().map(|test| test.roofline)) {
        line(note.to_owned());
    }
}

pub(super) fn markdown(report: &BenchReport) -> String {
    let mut out = String::new();
    let mut row = |cells: Vec<String>| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        writeln!(out, "| {} |", cells.join(" | ")).expect("writing to a string");
    };
    row(HEADER.map(str::to_owned).to_vec());
    row(HEADER.map(|_| "---".to_owned()).to_vec());
    report.tests.iter().for_each(|test| row(cells(test)));
    out.push('\n');
    notes(report, &mut out);
    out
}

/// One line per test; what was not measured is empty, with the reason in the last column.
pub(super) fn csv(report: &BenchReport) -> String {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut row = |cells: &[String]| table.write_record(cells).expect("rows of one length, written to memory");
    let p = &report.provenance;
    let header = [
        "version",
        "build",
        "numerics",
        "isa",
        "cpu",
        "model",
        "main_dtype",
        "threads",
        "kv_cache",
        "test",
        "n_tokens",
        "depth",
        "median_ms",
        "min_ms",
        "max_ms",
        "tokens_per_second",
        "roofline_percent",
        "roofline_bound",
        "exceeds_roofline",
        "n_bytes",
        "n_multiply_adds",
        "read_bytes_per_second",
        "multiply_adds_per_second",
        "samples_ms",
        "absent",
    ];
    row(&header.map(str::to_owned));
    for test in &report.tests {
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
        let samples: Vec<_> = test.samples_ms.iter().map(f64::to_string).collect();
        let (ms, share) = (test.elapsed_ms, test.roofline);
        row(&[
            p.version.clone(),
            p.build.clone(),
            p.numerics.clone(),
            p.isa.clone(),
            p.cpu.clone(),
            test.model.clone(),
            test.main_dtype.clone(),
            test.threads.to_string(),
            test.kv_cache.clone(),
            test.test.clone(),
            test.n_tokens.to_string(),
            test.depth.to_string(),
            number(ms.map(|ms| ms.median)),
            number(ms.map(|ms| ms.min)),
            number(ms.map(|ms| ms.max)),
            number(test.tokens_per_second.map(|rate| rate.median)),
            number(share.map(|share| share.percent)),
            share.map_or_else(String::new, |share| share.bound.name().to_owned()),
            share.map_or_else(String::new, |share| share.exceeds.to_string()),
            share.map_or_else(String::new, |share| share.n_bytes.to_string()),
            share.map_or_else(String::new, |share| share.n_multiply_adds.to_string()),
            number(test.rooflines.read_bytes_per_second.value),
            number(test.rooflines.multiply_adds_per_second.value),
            samples.join(";"),
            test.absent.clone().unwrap_or_default(),
        ]);
    }
    String::from_utf8(table.into_inner().expect("memory takes everything")).expect("the cells are UTF-8")
}
