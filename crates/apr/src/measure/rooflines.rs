//! What this machine can do at best, and what it is.

use apr_engine::Model;
use apr_kernels::Backend;
use apr_report::{Figure, Provenance, Rooflines};

/// Both rooflines, with the threads and instructions that the model runs on, over the model's own weights.
///
/// The weights are the very bytes that decoding reads: what of them stays in a cache there, stays in it here.
pub(crate) fn rooflines(model: &Model) -> Rooflines {
    let backend = model.backend();
    let weights = model.weight_bytes();
    let n_bytes: u64 = weights.iter().map(|part| part.len() as u64).sum();
    let read = backend.probe_read(&weights);
    let mib = |n: u64| format!("{:.1} MiB", n as f64 / (1 << 20) as f64);
    let read_from = match &read {
        Some(probe) if probe.n_per_pass < n_bytes => {
            format!("the first {} of {} of the model's weights", mib(probe.n_per_pass), mib(n_bytes))
        }
        _ => format!("the model's weights, {}", mib(n_bytes)),
    };
    Rooflines {
        threads: backend.n_threads(),
        read_bytes_per_second: read
            .map_or_else(|| Figure::absent("the model has no weights to read"), |probe| Figure::of(probe.per_second())),
        read_from,
        multiply_adds_per_second: Figure::of(backend.probe_multiply_adds().per_second()),
    }
}

/// What measures here and now; `cpu` is what the processor calls itself.
pub(crate) fn provenance(backend: &Backend, cpu: String) -> Provenance {
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        numerics: "exact".to_owned(),
        isa: backend.isa().to_string(),
        cpu,
        load_average: load_average(),
    }
}

fn load_average() -> Figure {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.map_or_else(|| Figure::absent("the system does not tell"), Figure::of)
}
