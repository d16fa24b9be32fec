//! `apr embed`: texts as vectors.

use crate::ModelSummary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Texts as vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmbedReport {
    /// `apr.embed/1`.
    pub schema: String,
    /// The model.
    pub model: ModelSummary,
    /// How the states of the tokens become one vector: `mean`, `last` or `first`.
    pub pooling: String,
    /// Whether each vector has length 1.
    pub normalized: bool,
    /// Values per vector.
    pub dimension: u64,
    /// Name of the numerics (`exact`).
    pub numerics: String,
    /// Instruction set used.
    pub isa: String,
    /// Threads used.
    pub threads: usize,
    /// One per text, in order.
    pub embeddings: Vec<Embedding>,
}

/// One text as a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Embedding {
    /// The text.
    pub text: String,
    /// Its token ids.
    pub ids: Vec<u32>,
    /// The vector.
    pub values: Vec<f32>,
}
