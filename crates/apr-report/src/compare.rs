//! `apr rosetta compare-inference` and `apr rosetta diff-tensors`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two models given the same prompt. Ends with exit status 5 unless `passed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompareInferenceReport {
    /// `apr.compare-inference/1`.
    pub schema: String,
    /// First path.
    pub a: String,
    /// Second path.
    pub b: String,
    /// The prompt as given.
    pub prompt: String,
    /// Its ids by the first model's tokenizer, template included.
    pub prompt_ids_a: Vec<u32>,
    /// Its ids by the second model's tokenizer.
    pub prompt_ids_b: Vec<u32>,
    /// Tokens that the first model generated.
    pub tokens_a: Vec<GeneratedToken>,
    /// Tokens that the second model generated.
    pub tokens_b: Vec<GeneratedToken>,
    /// Positions compared: the length of the longer list.
    pub n_tokens_compared: u64,
    /// Positions at which the ids differ, or where only one list has a token.
    pub n_token_mismatches: u64,
    /// The first such position.
    pub first_mismatch: Option<u64>,
    /// The logits; absent where there was no position to compare.
    pub logits: Option<LogitComparison>,
    /// Text of the first model.
    pub text_a: String,
    /// Text of the second model.
    pub text_b: String,
    /// At least one token on both sides, all ids equal, all logits equal in every bit.
    pub passed: bool,
    /// A likely cause where it did not pass.
    pub diagnosis: Option<String>,
}

/// A generated token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratedToken {
    /// Its id.
    pub id: u32,
    /// Its text; a part of a multi-byte character is shown as U+FFFD here, never in a whole text.
    pub text: String,
}

/// The logits of two models over the same positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogitComparison {
    /// Positions compared, the last position of the prompt included.
    pub positions: u64,
    /// Logits compared: positions × vocabulary.
    pub n_compared: u64,
    /// How many differ in at least one bit.
    pub n_different: u64,
    /// Largest absolute difference; absent where one is not finite.
    pub max_abs: Option<f64>,
    /// Largest Kullback-Leibler divergence of a position, in nats; absent where it is not finite.
    pub kl_max: Option<f64>,
    /// Positions at which both have the same most likely token.
    pub argmax_equal: u64,
    /// Whether every logit has the same 32 bits.
    pub bits_equal: bool,
    /// BLAKE3 over the first model's logits (little-endian binary32, position by position), hexadecimal.
    pub digest_a: String,
    /// The same for the second model.
    pub digest_b: String,
}

/// Names, dtypes and shapes of two models side by side. Ends with exit status 5 where `differences` is not empty or
/// nothing was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffTensorsReport {
    /// `apr.diff-tensors/1`.
    pub schema: String,
    /// First path.
    pub a: String,
    /// Second path.
    pub b: String,
    /// Only tensors whose name contains this were compared.
    pub filter: Option<String>,
    /// Tensors of the first model that pass the filter.
    pub n_tensors_a: u64,
    /// Tensors of the second model that pass the filter.
    pub n_tensors_b: u64,
    /// Tensors that both have.
    pub n_compared: u64,
    /// Tensors whose layout differs, in the order of the forward pass.
    pub differences: Vec<LayoutDifference>,
    /// Tensors stored in different dtypes (not a layout difference).
    pub dtype_differences: Vec<crate::DTypeDifference>,
    /// With `--values`, the tensors of one layout whose values differ, in the order of the forward pass.
    pub value_differences: Option<Vec<crate::TensorDifference>>,
}

/// A tensor whose layout differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayoutDifference {
    /// Canonical name.
    pub tensor: String,
    /// Shape in the first model; absent where it lacks the tensor.
    pub shape_a: Option<Vec<u64>>,
    /// Shape in the second model.
    pub shape_b: Option<Vec<u64>>,
    /// Whether one shape is the other reversed.
    pub transposed: bool,
    /// What it means and what to do.
    pub advice: String,
}
