//! `apr inspect`: what a model file says about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InspectReport {
    /// `apr.inspect/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`, decided by the content.
    pub format: String,
    /// Every file that was read, the main one first.
    pub files: Vec<FileEntry>,
    /// Sum of `files[].bytes`.
    pub file_bytes: u64,
    /// Row of the architecture table (`qwen2`), or what the first file called one that is in no row: then `spec` is empty, and
    /// a note says so.
    pub architecture: String,
    /// Hyper-parameters by their Transformers names: whole numbers for counts, floats for `rope_theta` and the like.
    pub spec: BTreeMap<String, serde_json::Value>,
    /// Number of tensors.
    pub n_tensors: u64,
    /// Number of values in all tensors.
    pub n_parameters: u64,
    /// For each dtype by name: how many tensors, how many bytes.
    pub dtypes: BTreeMap<String, DTypeShare>,
    /// The tokenizer, where the file has one.
    pub tokenizer: Option<TokenizerSummary>,
    /// Whether there is a chat template for the case that none is named.
    pub chat_template: bool,
    /// Names of all chat templates, `default` first.
    #[serde(default)]
    pub chat_templates: Vec<String>,
    /// Recipes for rewriting former forms of this model, newest first.
    pub capsule: Vec<CapsuleEntry>,
    /// Keys of the file's metadata, in file order.
    pub metadata_keys: Vec<String>,
    /// Tensors in file order; absent unless asked for (`--json` asks).
    pub tensors: Option<Vec<TensorEntry>>,
    /// What the reader noticed, as text.
    pub notes: Vec<String>,
}

/// A file and its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Name inside the model's directory.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// What one dtype takes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DTypeShare {
    /// Tensors of this dtype.
    pub tensors: u64,
    /// Bytes of these tensors.
    pub bytes: u64,
}

/// A tokenizer in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenizerSummary {
    /// `byte_level_bpe` or `sentence_piece`.
    pub kind: String,
    /// Number of tokens.
    pub n_tokens: u64,
    /// Pre-tokenizer by its GGUF name, for byte-level BPE.
    pub pre: Option<String>,
    /// Begin-of-text id.
    pub bos: Option<u32>,
    /// End-of-text id.
    pub eos: Option<u32>,
    /// Every id that ends generation.
    pub stop: Vec<u32>,
    /// Texts of the special (control) tokens with their ids, in id order.
    pub special: Vec<(u32, String)>,
}

/// One recipe of a capsule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapsuleEntry {
    /// Format of the former form.
    pub format: String,
    /// Its files.
    pub files: Vec<FileEntry>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorEntry {
    /// Canonical (Transformers) name.
    pub name: String,
    /// Name in the file.
    pub stored_name: String,
    /// Dtype by ggml's name.
    pub dtype: String,
    /// Row-major shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// Where the data begins, in bytes from the beginning of `file`.
    pub offset: u64,
    /// Length of the data in bytes.
    pub bytes: u64,
    /// Name of the file that holds the data (one of `files[].name`).
    pub file: String,
}

impl InspectReport {
    /// A hyper-parameter that is a whole number.
    pub fn count(&self, key: &str) -> Option<u64> {
        self.spec.get(key)?.as_u64()
    }
}
