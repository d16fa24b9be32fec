//! `apr eval`: how well a model predicts a text, and how far it is from a reference.

use crate::{Figure, ModelSummary};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How well a model predicts a text, and how far it is from a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvalReport {
    /// `apr.eval/1`.
    pub schema: String,
    /// Version of `apr`.
    pub version: String,
    /// Name of the numerics.
    pub numerics: String,
    /// Dtype of the KV cache.
    pub kv_cache: String,
    /// The model.
    pub model: ModelSummary,
    /// The text file.
    pub file: String,
    /// Tokens of the text, special ones that the tokenizer adds included.
    pub n_tokens: u64,
    /// The first tokens of the text that were read, where not all were.
    pub n_tokens_read: u64,
    /// Whether the user ended it early: then it is about the tokens scored until then.
    pub interrupted: bool,
    /// Tokens of a window.
    pub window: u64,
    /// Tokens from the start of a window to the start of the next.
    pub stride: u64,
    /// Windows.
    pub n_windows: u64,
    /// Tokens whose likelihood was taken: each once, in the first window in which it is not the first token.
    pub n_scored: u64,
    /// Tokens read and not scored: the first of the text, and of each window where windows do not overlap; and what an
    /// interrupt left out.
    pub n_unscored: u64,
    /// Mean negative log-likelihood of a scored token, in nats.
    pub mean_nll: f64,
    /// Its standard error, tokens taken as independent; absent with fewer than two tokens.
    pub mean_nll_standard_error: Figure,
    /// `exp(mean_nll)`.
    pub perplexity: f64,
    /// Its standard error to first order: perplexity times that of the mean.
    pub perplexity_standard_error: Figure,
    /// The comparison with a reference, where one was given.
    pub reference: Option<ReferenceComparison>,
    /// Each scored token, where asked for.
    pub positions: Option<Vec<EvalPosition>>,
}

/// The model against a reference, over the same scored positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceComparison {
    /// The reference.
    pub model: ModelSummary,
    /// Mean negative log-likelihood of the reference, in nats.
    pub mean_nll: f64,
    /// Perplexity of the reference.
    pub perplexity: f64,
    /// Divergence of the model from the reference, KL(reference ‖ model), per position in nats.
    pub kl: Divergence,
    /// Positions at which both have the same most likely token.
    pub n_same_top: u64,
    /// The same as a share of the scored positions.
    pub same_top_percent: f64,
    /// Negative log-likelihood of the model minus that of the reference, per position.
    pub delta_nll: Delta,
    /// Positions whose logits have the same bits.
    pub n_bits_equal: u64,
}

/// Divergences of all positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    /// Mean.
    pub mean: f64,
    /// Half of the positions stay within.
    pub median: f64,
    /// 99 of 100 positions stay within, by the nearest rank; absent with fewer than 100 positions.
    pub p99: Figure,
    /// The greatest.
    pub max: f64,
}

/// Differences of all positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delta {
    /// Mean.
    pub mean: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// One scored token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvalPosition {
    /// Its place in the text, in tokens.
    pub position: u64,
    /// Its id.
    pub id: u32,
    /// Its negative log-likelihood, in nats.
    pub nll: f64,
    /// The same by the reference.
    pub reference_nll: Option<f64>,
    /// KL(reference ‖ model) of the distribution it was predicted from.
    pub kl: Option<f64>,
}
