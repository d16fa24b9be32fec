//! `apr run`: what was generated, by what, and how long each phase took.

use crate::GeneratedToken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was generated, by what, and how long each phase took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// `apr.run/1`.
    pub schema: String,
    /// The model.
    pub model: ModelSummary,
    /// The prompt as given.
    pub prompt: String,
    /// The system message, where one was given.
    pub system: Option<String>,
    /// Ids that were fed to the model, chat template included.
    pub prompt_ids: Vec<u32>,
    /// Generated tokens, the stop token excluded.
    pub tokens: Vec<GeneratedToken>,
    /// Their text: the answer and nothing else.
    pub text: String,
    /// Why generation ended: `stop` (a stop token or a stop text), `length`, `context` (it is full), `complete` (the
    /// grammar allows nothing more) or `cancelled`.
    pub finish_reason: String,
    /// The stop token that ended it.
    pub stop_id: Option<u32>,
    /// The stop text that ended it: the text goes up to it, the tokens hold it.
    pub stop_text: Option<String>,
    /// Log-probabilities at each generated token, where they were asked for.
    pub logprobs: Option<Vec<PositionLogprobs>>,
    /// What held the answer: `grammar` or `json_schema`.
    pub constraint: Option<String>,
    /// Name of the numerics (`exact`).
    pub numerics: String,
    /// Instruction set used (`scalar`, `avx2`, …).
    pub isa: String,
    /// Threads used.
    pub threads: usize,
    /// Dtype of the KV cache (`f32`, `f16`).
    pub kv_cache: String,
    /// What was asked for and what was used.
    pub backend: BackendUsed,
    /// Wall times.
    pub times: RunTimes,
    /// Number of prompt tokens.
    pub n_prompt_tokens: u64,
    /// Number of generated tokens, the stop token excluded.
    pub n_generated_tokens: u64,
    /// Decode steps per second; absent where fewer than one step was timed.
    pub decode_tokens_per_second: Option<f64>,
    /// BLAKE3 over the logits of every sampled position (little-endian binary32), hexadecimal.
    pub logits_digest: Option<String>,
    /// Seed of the sampler; absent for greedy decoding.
    pub seed: Option<u64>,
    /// Name of the sampler and its settings (`{"name": "greedy"}`).
    pub sampler: BTreeMap<String, serde_json::Value>,
}

/// Log-probabilities at one position: the model's own, before penalty, temperature, cuts and grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PositionLogprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// The most probable tokens, by descending probability and ascending id.
    pub top: Vec<TokenLogprob>,
}

/// The log-probability of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenLogprob {
    /// Its id.
    pub id: u32,
    /// Its text, as in [`GeneratedToken`].
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// A model in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSummary {
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`.
    pub format: String,
    /// Row of the architecture table.
    pub architecture: String,
    /// Number of tensors.
    pub n_tensors: u64,
    /// Number of values in all tensors.
    pub n_parameters: u64,
    /// The dtype that holds most bytes.
    pub main_dtype: String,
    /// Sum of the lengths of its files.
    pub file_bytes: u64,
}

/// The backend as a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendUsed {
    /// `auto`, `cpu` or `gpu`.
    pub requested: String,
    /// `cpu` or `gpu`.
    pub used: String,
    /// What the device calls itself.
    pub device: String,
    /// Why this one was used.
    pub reason: String,
}

/// Wall times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunTimes {
    /// Opening the model and building the session.
    pub load_ms: f64,
    /// Feeding the prompt, to the first logits.
    pub prefill_ms: f64,
    /// All later steps.
    pub decode_ms: f64,
}
