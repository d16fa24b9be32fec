//! A profile, and a comparison of two, as text.

use super::roofline_output;
use crate::output;
use apr_report::{Figure, OperationTime, PhaseProfile, ProfileCompareReport, ProfileReport};
use std::fmt::Write;

pub(super) fn text(report: &ProfileReport, granular: bool) -> String {
    let mut out = String::new();
    let p = &report.provenance;
    let (model, r) = (&report.model, &report.rooflines);
    let load = p.load_average.value.map_or_else(String::new, |load| format!(", load average {load:.2}"));
    let giga = |figure: &Figure| figure.value.map_or_else(|| "?".to_owned(), |value| format!("{:.2} G", value / 1e9));
    writeln!(
        out,
        "{}: {} {}\napr {} ({}), {} numerics, {}, {} threads, {} cache, {}{load}\n\
         rooflines: {}B/s of {}; {} multiply-adds/s",
        model.path,
        model.architecture,
        model.main_dtype,
        p.version,
        p.build,
        p.numerics,
        p.isa,
        r.threads,
        report.kv_cache,
        p.cpu,
        giga(&r.read_bytes_per_second),
        r.read_from,
        giga(&r.multiply_adds_per_second)
    )
    .expect("writing to a string");
    phase(&mut out, "PREFILL", &report.prefill, granular);
    phase(&mut out, "DECODE", &report.decode, granular);
    let phases = [&report.prefill, &report.decode];
    let shares = phases.map(|phase| times(phase, granular).iter().map(|time| time.roofline).chain([phase.roofline]));
    if let Some(note) = roofline_output::note(shares.into_iter().flatten()) {
        writeln!(out, "{note}").expect("writing to a string");
    }
    let figure = |figure: &Figure| match (figure.value, &figure.absent) {
        (Some(value), _) => format!("{value:.3} ms"),
        (None, reason) => format!("not measured ({})", reason.as_deref().unwrap_or("no reason given")),
    };
    let latency = &report.latency;
    let (n, p50, p99) = (latency.n_samples, figure(&latency.p50_ms), figure(&latency.p99_ms));
    writeln!(out, "\nLatency of {n} decoded tokens: p50 {p50}, p99 {p99}").expect("writing to a string");
    out
}

fn phase(out: &mut String, name: &str, phase: &PhaseProfile, granular: bool) {
    let row = |time: &OperationTime| {
        let layer = time.layer.map(|layer| layer.to_string());
        let (bytes, flops) = (time.n_bytes as f64 / 1e6, time.n_flops as f64 / 1e6);
        let mut cells = vec![time.operation.clone()];
        cells.extend(granular.then(|| layer.unwrap_or_else(|| "-".to_owned())));
        cells.extend([
            format!("{:.3}", time.mean_ms),
            format!("{:.1}", time.percent),
            format!("{bytes:.2}"),
            if time.n_flops > 0 { format!("{flops:.1}") } else { "-".to_owned() },
            roofline_output::cell(time.roofline),
        ]);
        cells
    };
    let (pass, plain) = (phase.pass_ms, phase.unobserved_pass_ms);
    writeln!(
        out,
        "\n{name}: {} tokens at depth {}, {} passes: median {:.3} ms ({:.3} – {:.3}), {:.2} tok/s{}\n\
         with every stage timed: median {:.3} ms ({:+.1} %), mean {:.3} ms, of which {:.3} ms in no stage",
        phase.n_tokens,
        phase.depth,
        phase.n_passes,
        plain.median,
        plain.min,
        plain.max,
        phase.tokens_per_second,
        roofline_output::clause(phase.roofline),
        pass.median,
        phase.observer_percent,
        phase.mean_ms,
        phase.unattributed_ms
    )
    .expect("writing to a string");
    let header = ["operation", "layer", "ms", "% of pass", "MB read", "MFLOP", "% of roofline"];
    let header: Vec<_> = header.into_iter().filter(|&name| granular || name != "layer").collect();
    out.push_str(&output::table(&header, times(phase, granular).iter().map(row)));
}

/// The rows of a phase's table.
fn times(phase: &PhaseProfile, granular: bool) -> &[OperationTime] {
    if granular { &phase.stages } else { &phase.operations }
}

pub(super) fn comparison(report: &ProfileCompareReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    line(format!("A  {}\nB  {}", report.a, report.b));
    for difference in &report.differences {
        line(format!("differs in {difference}"));
    }
    line(String::new());
    let rows = report.rows.iter().map(|row| {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3}"));
        let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        vec![row.phase.clone(), row.operation.clone(), ms(row.a_ms), ms(row.b_ms), ratio]
    });
    out.push_str(&output::table(&["phase", "operation", "A ms", "B ms", "B / A"], rows));
    out
}
