//! What `apr quantize` did, or would do.

use crate::{ConvertSource, ConvertTarget};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `apr quantize`: the stored form of every tensor, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizeReport {
    /// `apr.quantize/1`.
    pub schema: String,
    /// What was read.
    pub source: ConvertSource,
    /// What was written; without files in a dry run.
    pub target: ConvertTarget,
    /// The file type asked for (`Q4_K_M`).
    pub file_type: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The importance matrix, where one was used.
    pub importance: Option<String>,
    /// Every tensor, in the order of the target.
    pub tensors: Vec<QuantizedTensor>,
    /// Bytes of the tensors in the source.
    pub bytes_before: u64,
    /// Bytes of the tensors in the target.
    pub bytes_after: u64,
    /// Bits per weight in the target.
    pub bits_per_weight: f64,
    /// Facts of the source that the target does not have.
    pub not_carried: Vec<String>,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
}

/// One tensor before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizedTensor {
    /// Canonical name.
    pub tensor: String,
    /// Row-major shape.
    pub shape: Vec<u64>,
    /// Dtype read.
    pub from: String,
    /// Dtype written.
    pub to: String,
    /// The dtype asked for, where rows don't fill its blocks and `to` took its place.
    pub wanted: Option<String>,
    /// Whether the importance of its columns was used.
    pub by_importance: bool,
    /// Bytes written.
    pub bytes: u64,
    /// What changed; absent in a dry run and where every value is the same.
    pub error: Option<QuantizeError>,
}

/// The error of a tensor's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizeError {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Sum of squared differences, as a part of the sum of squares; absent where that is zero.
    pub nmse: Option<f64>,
    /// Cosine of the angle between the values before and after; absent where either are all zero.
    pub cosine: Option<f64>,
}
