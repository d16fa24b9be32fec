//! `apr profile`: where the time of a pass goes, and whether it keeps what was promised.

use crate::{Figure, ModelSummary, Provenance, RooflineShare, Rooflines, Spread};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the time of prefill and decode goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileReport {
    /// `apr.profile/1`.
    pub schema: String,
    /// What measured.
    pub provenance: Provenance,
    /// The model.
    pub model: ModelSummary,
    /// Dtype of the KV cache.
    pub kv_cache: String,
    /// Seed of the random token ids.
    pub seed: u64,
    /// The rooflines, measured before the passes and after them with the same threads: the better of both.
    pub rooflines: Rooflines,
    /// Reading a prompt.
    pub prefill: PhaseProfile,
    /// Generating token by token after the prompt.
    pub decode: PhaseProfile,
    /// How long one token takes to decode.
    pub latency: Latency,
}

/// The time of one phase and its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseProfile {
    /// Tokens of a pass.
    pub n_tokens: u64,
    /// Tokens in the context before them.
    pub depth: u64,
    /// Passes timed; as many again without looking at the stages.
    pub n_passes: u64,
    /// Wall time of a pass whose stages are timed.
    pub pass_ms: Spread,
    /// Wall time of a pass whose stages are not timed.
    pub unobserved_pass_ms: Spread,
    /// By how much timing the stages lengthens a pass, by the medians; within the noise it may be negative.
    pub observer_percent: f64,
    /// Tokens per second of an unobserved pass, by the median.
    pub tokens_per_second: f64,
    /// The unobserved pass beside the least that the rooflines allow.
    pub roofline: Option<RooflineShare>,
    /// Mean wall time of a pass whose stages are timed: the sum of its parts and of what no part accounts for.
    pub mean_ms: f64,
    /// Mean time outside every stage: checks, embedding of the call itself, looking at the logits.
    pub unattributed_ms: f64,
    /// Each operation over all layers, the longest first.
    pub operations: Vec<OperationTime>,
    /// Each operation of each layer, in the order of the pass.
    pub stages: Vec<OperationTime>,
}

/// The time of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationTime {
    /// What it computes (`attn_qkv`, `attention`, `mlp_down`, …); products of the same vectors count as one.
    pub operation: String,
    /// The layer; null where it is the sum over all, or lies outside the layers.
    pub layer: Option<u32>,
    /// Mean time in a pass.
    pub mean_ms: f64,
    /// Share of the pass.
    pub percent: f64,
    /// Bytes of weights and cache that a pass has to read for it.
    pub n_bytes: u64,
    /// Floating-point operations of a pass, two for each multiply-add of a product or of attention.
    pub n_flops: u64,
    /// The time beside the least that the rooflines allow; null for operations without products, weights or cache.
    pub roofline: Option<RooflineShare>,
}

/// Time per decoded token, from raw samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Tokens timed, each on its own.
    pub n_samples: u64,
    /// The least time that half of the tokens stay within.
    pub p50_ms: Figure,
    /// The least time that 99 of 100 tokens stay within; absent with fewer than 100 samples.
    pub p99_ms: Figure,
}

/// `apr profile --ci`: throughput and latency against what was asked for. Ends with exit status 1 unless `passed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileCiReport {
    /// `apr.profile-ci/1`.
    pub schema: String,
    /// What measured.
    pub provenance: Provenance,
    /// The path of the model.
    pub model_path: String,
    /// Threads.
    pub threads: usize,
    /// Dtype of the KV cache.
    pub kv_cache: String,
    /// Passes before the measurement.
    pub n_warmup_passes: u64,
    /// Passes measured.
    pub n_passes: u64,
    /// Tokens decoded in each pass.
    pub n_tokens_per_pass: u64,
    /// Tokens in the context before each pass.
    pub depth: u64,
    /// Every assertion holds, and there is one.
    pub passed: bool,
    /// Decoded tokens per second over all passes.
    pub throughput_tok_s: Figure,
    /// The least time that half of the tokens stay within.
    pub latency_p50_ms: Figure,
    /// The least time that 99 of 100 tokens stay within; absent with fewer than 100 samples.
    pub latency_p99_ms: Figure,
    /// What was asked for.
    pub assertions: Vec<ProfileAssertion>,
    /// The time of each token, in the order in which they were decoded.
    pub samples_ms: Vec<f64>,
}

/// A demand and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileAssertion {
    /// `throughput`, `p50` or `p99`.
    pub name: String,
    /// The demand: at least so many tokens per second, or at most so many milliseconds.
    pub expected: f64,
    /// What was measured; what was not measured can't pass.
    pub actual: Figure,
    /// Whether it holds.
    pub passed: bool,
}

/// `apr profile --compare`: two profiles, operation by operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileCompareReport {
    /// `apr.profile-compare/1`.
    pub schema: String,
    /// First model or saved report.
    pub a: String,
    /// Second model or saved report.
    pub b: String,
    /// Circumstances in which the two measurements differ (threads, instruction set, number of tokens, …).
    pub differences: Vec<String>,
    /// Whole passes and operations.
    pub rows: Vec<ProfileComparison>,
}

/// The same operation in two profiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileComparison {
    /// `prefill` or `decode`.
    pub phase: String,
    /// The operation, `whole pass` (as it runs without timing its stages), or `unattributed`.
    pub operation: String,
    /// Mean time in the first; null where it has no such operation.
    pub a_ms: Option<f64>,
    /// Mean time in the second.
    pub b_ms: Option<f64>,
    /// The second over the first; null where one of them is absent or took no time.
    pub ratio: Option<f64>,
}
