//! `apr tensors` and `apr tree`: the tensors of a model, in a list or by the parts of their names.

use crate::{DTypeShare, TensorEntry, TensorStatistics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tensors of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorsReport {
    /// `apr.tensors/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`, decided by the content.
    pub format: String,
    /// Number of tensors in the model.
    pub n_tensors: u64,
    /// What was asked for: a part of a name.
    pub filter: Option<String>,
    /// Number of values in the tensors listed.
    pub n_values: u64,
    /// Bytes of the tensors listed.
    pub bytes: u64,
    /// Tensors in file order.
    pub tensors: Vec<ListedTensor>,
}

/// One tensor of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedTensor {
    /// What it is and where it lies.
    #[serde(flatten)]
    pub entry: TensorEntry,
    /// What its values look like; absent unless asked for.
    pub statistics: Option<TensorStatistics>,
}

/// The tensors of a model by the parts of their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeReport {
    /// `apr.tree/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`, decided by the content.
    pub format: String,
    /// What was asked for: a part of a name.
    pub filter: Option<String>,
    /// The whole, with an empty name.
    pub root: TreeNode,
}

/// A part of names, and what is below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeNode {
    /// The part: what stands between two dots of the names below.
    pub name: String,
    /// Tensors here and below.
    pub n_tensors: u64,
    /// Their values.
    pub n_values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For each dtype by name: how many of the tensors, how many of the bytes.
    pub dtypes: BTreeMap<String, DTypeShare>,
    /// The tensor whose name ends here.
    pub tensor: Option<TensorEntry>,
    /// What is below, in file order; empty as well where the depth asked for ends.
    pub children: Vec<TreeNode>,
}

impl TensorEntry {
    /// Number of values.
    pub fn n_values(&self) -> u64 {
        self.shape.iter().product()
    }
}
