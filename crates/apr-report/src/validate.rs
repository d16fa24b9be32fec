//! `apr validate`: is this a sound model?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a model is sound, and what was looked at to say so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidateReport {
    /// `apr.validate/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// Whether no check failed *and* every required check was measured; with `strict`, also whether nothing was found.
    pub valid: bool,
    /// Share of the computed checks that passed, in percent. A check that looked at nothing is no part of it; absent
    /// where none was computed.
    pub score_percent: Option<f64>,
    /// The score that was demanded in place of `valid`: the command succeeds where it is reached.
    pub min_score_percent: Option<u8>,
    /// Whether every finding counts, also one that no check fails by.
    #[serde(default)]
    pub strict: bool,
    /// Number of tensors whose values were read.
    pub n_tensors: u64,
    /// Number of values that were decoded and looked at.
    pub n_values: u64,
    /// How many of them are NaN.
    pub n_nan: u64,
    /// How many of them are infinite.
    pub n_inf: u64,
    /// Each check with its result.
    pub checks: Vec<Check>,
    /// Everything that is wrong, as `subject: what was found, what was expected (code)`.
    pub findings: Vec<String>,
    /// Statistics of each tensor; absent unless asked for.
    pub tensors: Option<Vec<TensorStatistics>>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Gate id (`F-DATA-QUALITY-002`).
    pub id: String,
    /// What it establishes.
    pub title: String,
    /// Its result.
    pub status: CheckStatus,
    /// How many items (values, tensors, rows, keys) were looked at.
    pub measured: u64,
    /// The first failure, or what was looked at.
    pub detail: String,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// At least one item was looked at, and all were as they should be.
    Pass,
    /// At least one item was not as it should be.
    Fail,
    /// Nothing was looked at.
    NotMeasured,
}

/// Statistics of one tensor's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorStatistics {
    /// Canonical name.
    pub name: String,
    /// Dtype by ggml's name.
    pub dtype: String,
    /// Row-major shape.
    pub shape: Vec<u64>,
    /// Number of values.
    pub n: u64,
    /// How many are NaN.
    pub nan: u64,
    /// How many are infinite.
    pub inf: u64,
    /// Share of values that are zero.
    pub zero_fraction: f64,
    /// Smallest finite value; absent where none is finite.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Mean of the finite values.
    pub mean: Option<f64>,
    /// Standard deviation of the finite values.
    pub std: Option<f64>,
}
