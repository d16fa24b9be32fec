//! `apr rosetta verify`: are two files the same model?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether two files are the same model. Only `different` ends with exit status 5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// `apr.verify/1`.
    pub schema: String,
    /// First path.
    pub a: String,
    /// Second path.
    pub b: String,
    /// The verdict.
    pub verdict: VerifyVerdict,
    /// Tensors of `a`.
    pub n_tensors_a: u64,
    /// Tensors of `b`.
    pub n_tensors_b: u64,
    /// Tensors that both have, compared value by value.
    pub n_tensors_compared: u64,
    /// Values compared, as 32-bit patterns after decoding.
    pub n_values_compared: u64,
    /// How many of them differ.
    pub n_values_different: u64,
    /// Tensors stored in different dtypes.
    pub dtype_differences: Vec<DTypeDifference>,
    /// Tensors that differ, in the order of the forward pass.
    pub differences: Vec<TensorDifference>,
    /// Differences between the tokenizers, each as a sentence; empty where they are equal.
    pub tokenizer_differences: Vec<String>,
    /// Differences between hyper-parameters, `key: a against b`; empty where they are equal.
    pub spec_differences: Vec<String>,
    /// Whether the chat templates are the same text (both absent counts as equal).
    pub chat_template_equal: bool,
}

/// The verdict on two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyVerdict {
    /// Same values in the same dtypes; same tokenizer, hyper-parameters and template.
    Identical,
    /// Same values, some in another dtype.
    IdenticalValues,
    /// Something differs, or nothing could be compared.
    Different,
}

/// A tensor stored in two dtypes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DTypeDifference {
    /// Canonical name.
    pub tensor: String,
    /// Dtype in the first file.
    pub a: String,
    /// Dtype in the second file.
    pub b: String,
}

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorDifference {
    /// Canonical name.
    pub tensor: String,
    /// The layer it belongs to.
    pub layer: Option<u32>,
    /// How it differs.
    pub kind: TensorDifferenceKind,
    /// How many values differ.
    pub n_different: u64,
    /// Largest absolute difference; absent where a difference is not finite or there is nothing to subtract.
    pub max_abs: Option<f64>,
    /// Row-major index of the first value that differs.
    pub first_index: Option<u64>,
    /// That value (or shape, or dtype) in the first file, as text.
    pub a: String,
    /// The same in the second file.
    pub b: String,
    /// A likely cause, where the pattern has one (`rows permuted`, `all zero`, `transposed`).
    pub cause: Option<String>,
    /// What puts it right, where the cause is known.
    pub fix: Option<String>,
}

/// How a tensor differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TensorDifferenceKind {
    /// Only the second file has it.
    MissingInA,
    /// Only the first file has it.
    MissingInB,
    /// The shapes differ.
    Shape,
    /// Values differ.
    Values,
}
