//! `apr rosetta fingerprint`: what a model is, whatever holds it.

use crate::TensorStatistics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Digests of a model, all in hexadecimal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FingerprintReport {
    /// `apr.fingerprint/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// BLAKE3 of `identity` and of each tensor's name and digest.
    pub fingerprint: String,
    /// BLAKE3 of hyper-parameters, tokenizer, chat template, and names and shapes of the tensors.
    pub identity: String,
    /// The tensors, in the order of the forward pass.
    pub tensors: Vec<FingerprintedTensor>,
    /// How the model compares with another one, if one was given.
    pub comparison: Option<FingerprintComparison>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FingerprintedTensor {
    /// BLAKE3 of the decoded values as little-endian binary32, in canonical order.
    pub digest: String,
    /// What the values look like.
    #[serde(flatten)]
    pub statistics: TensorStatistics,
}

/// Two fingerprints side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FingerprintComparison {
    /// The other model, or the fingerprint that was saved of it.
    pub path: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Whether hyper-parameters, tokenizer, chat template, names and shapes are the same.
    pub same_identity: bool,
    /// Tensors that both have with other values, and those that one of them lacks, in the order of the forward pass.
    pub different: Vec<String>,
}
