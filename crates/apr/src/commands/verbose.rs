//! What `run --verbose` says on stderr. The wording is that of F-UX-027 … 040.

use super::generation::{Loaded, finish_reason, isa_title, millis};
use apr_engine::Generation;
use apr_kernels::Isa;
use apr_model::{Format, ModelSpec};
use std::path::Path;
use std::time::Duration;

/// F-UX-027.
pub(super) fn title(model: &Path) -> String {
    format!("=== APR Run ===\nSource: {}", model.display())
}

/// F-UX-028. Its "468MB" is a file of 491,400,032 bytes: units of 2^20 bytes, the rest cut off.
pub(super) fn loading(file_bytes: u64) -> String {
    format!("Using mmap for {}MB model\nLoading model: ...", file_bytes >> 20)
}

/// F-UX-029 … 033 and 036 … 039.
pub(super) fn loaded(loaded: &Loaded, load_ms: f64) -> String {
    let spec = loaded.generator.model.spec();
    let (layers, vocab) = (spec.n_layers, spec.vocab_size);
    let (hidden, context) = (spec.hidden_size, spec.context_length);
    let (quant, threads) = (&loaded.summary.main_dtype, loaded.threads);
    let simd = match loaded.isa {
        Isa::Scalar => "CPU (scalar)".to_owned(),
        isa => format!("CPU (SIMD-accelerated), {}", isa_title(isa)),
    };
    format!(
        "Architecture: {} ({layers} layers, vocab_size={vocab})\n\
         Config: hidden_size={hidden}, context_length={context}, quant={quant}, threads={threads}\n\
         Model loaded in {load_ms:.1}ms\n\
         Backend: {simd}, {}, exact numerics",
        architecture(&loaded.summary.format, spec),
        loaded.backend.device,
    )
}

/// The name that people of the format use: a Transformers class for SafeTensors, else the title.
fn architecture(format: &str, spec: &ModelSpec) -> String {
    let arch = spec.arch;
    let (name, format) = match Format::ALL.into_iter().find(|f| f.name() == format) {
        Some(Format::SafeTensors) => (arch.hf_class, "SafeTensors"),
        Some(Format::Gguf) => (arch.title, "GGUF"),
        Some(Format::Apr) => (arch.title, "APR"),
        None => (arch.title, format),
    };
    format!("{name} [{format}: {}]", arch.id)
}

/// F-UX-040.
pub(super) fn completed(elapsed: Duration, generation: &Generation) -> String {
    let (n, reason) = (generation.tokens.len(), finish_reason(generation.finish_reason));
    format!("Completed in {:.2}s ({n} tokens, {reason})", elapsed.as_secs_f64())
}

/// How far an interrupted run came.
pub(super) fn interrupted(load_ms: f64, n_prompt: usize, generation: &Generation) -> String {
    let (n, timings) = (generation.tokens.len(), &generation.timings);
    format!(
        "note: interrupted after {} of {n_prompt} prompt tokens and {n} generated ones \
         (load {load_ms:.0} ms, prefill {:.0} ms, decode {:.0} ms)",
        timings.n_reused + timings.n_prefilled,
        millis(timings.prefill),
        millis(timings.decode)
    )
}
