//! What a container holds, for `inspect`: readable even where the model inside can't be used.

use apr_tensor::{DType, Shape};
use std::ops::Range;

/// The outside of a model file.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Version of the container, as people write it.
    pub version: String,
    /// Metadata keys and short renderings of their values, in file order.
    pub metadata: Vec<(String, String)>,
    /// Tensors in file order.
    pub tensors: Vec<TensorSummary>,
}

/// One tensor of a container.
#[derive(Debug, Clone)]
pub struct TensorSummary {
    /// File it lies in.
    pub file: String,
    /// Name as stored.
    pub stored_name: String,
    /// Canonical name.
    pub name: String,
    /// Stored dtype.
    pub dtype: DType,
    /// Row-major shape.
    pub shape: Shape,
    /// Absolute range in its file.
    pub range: Range<usize>,
}
