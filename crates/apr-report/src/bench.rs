//! `apr bench`: how fast models load, read a prompt and generate, beside what the machine can do at best.

use crate::{ModelSummary, Provenance, RooflineShare, Rooflines, Spread};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fast models load, read a prompt and generate. Ends with exit status 1 where a test was not measured.
///
/// A test that does not fit into a model's context, or that an interrupt left out, says so in `absent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchReport {
    /// `apr.bench/1`.
    pub schema: String,
    /// What measured.
    pub provenance: Provenance,
    /// Timed repetitions of each test. One prompt, or eight tokens, before them warm up.
    pub repetitions: u64,
    /// Seed of the random token ids.
    pub seed: u64,
    /// Whether the user ended it early: then a test may have fewer samples, or none.
    pub interrupted: bool,
    /// The models.
    pub models: Vec<ModelSummary>,
    /// The tests, in the order in which they ran.
    pub tests: Vec<BenchTest>,
}

/// One test of one model with one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchTest {
    /// The path of the model.
    pub model: String,
    /// The dtype that holds most of its bytes.
    pub main_dtype: String,
    /// Threads.
    pub threads: usize,
    /// Dtype of the KV cache.
    pub kv_cache: String,
    /// `load`, `pp512` (prompt), `tg128` (generation), with `@ d8192` where the context was not empty.
    pub test: String,
    /// What was timed.
    pub phase: BenchPhase,
    /// Tokens that passed in each repetition.
    pub n_tokens: u64,
    /// Tokens in the context before the first of them.
    pub depth: u64,
    /// Wall time of each repetition, in the order in which they ran.
    pub samples_ms: Vec<f64>,
    /// Their spread; null where nothing was measured.
    pub elapsed_ms: Option<Spread>,
    /// Tokens per second; null for `load`.
    pub tokens_per_second: Option<Spread>,
    /// The median beside the least that the rooflines allow; null for `load`.
    pub roofline: Option<RooflineShare>,
    /// The rooflines, measured with these threads before this model's tests and after them: the better of both. An
    /// interrupted run has only those from before.
    pub rooflines: Rooflines,
    /// The parts of `load`.
    pub load: Option<LoadParts>,
    /// Why the test was not measured.
    pub absent: Option<String>,
}

/// What a test times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchPhase {
    /// From opening the file to the logits after a short prompt.
    Load,
    /// A prompt, to the logits after its last token.
    Prefill,
    /// Tokens one by one.
    Decode,
}

/// From opening a file to the first token, within a process that runs already.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadParts {
    /// Mapping the file and parsing its header.
    pub open_ms: Spread,
    /// Threads, plan and session.
    pub plan_ms: Spread,
    /// The first prompt, which brings the mapped pages in.
    pub first_prefill_ms: Spread,
    /// The same prompt once more, in an empty context.
    pub warm_prefill_ms: Spread,
    /// Median of the whole over median of the warm prompt.
    pub over_warm_prefill: f64,
}
