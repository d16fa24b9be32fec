//! `apr rosetta convert`: what was written, and what happened to each tensor on the way.

use crate::FileEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was written, and what happened to each tensor on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConvertReport {
    /// `apr.convert/1`.
    pub schema: String,
    /// Whether it is what would be written, and nothing was.
    #[serde(default)]
    pub dry_run: bool,
    /// What was read.
    pub source: ConvertSource,
    /// What was written.
    pub target: ConvertTarget,
    /// Number of tensors written.
    pub n_tensors: u64,
    /// How many of them were copied without touching a byte of their data.
    pub n_verbatim: u64,
    /// What was done to the others, exactly: the values are the same afterwards.
    pub steps: Vec<ConvertStep>,
    /// Tensors whose values changed because another dtype was asked for.
    pub lossy: Vec<LossyTensor>,
    /// Whether the target was restored from a recipe that the source carried.
    pub restored: Restored,
    /// What the target has no place for, in the form `what: why`.
    pub not_carried: Vec<String>,
    /// What was not checked, each as a sentence for people; also on stderr.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What other programs make of the target otherwise than this project.
    #[serde(default)]
    pub elsewhere: Vec<String>,
    /// Size of the capsule in the target in bytes; 0 where there is none.
    pub capsule_bytes: u64,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
    /// Sum of `target.files[].bytes`.
    pub bytes_written: u64,
}

/// `apr rosetta chain`: several conversions, each from the target of the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChainReport {
    /// `apr.chain/1`.
    pub schema: String,
    /// The conversions in turn.
    pub steps: Vec<ConvertReport>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConvertSource {
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`.
    pub format: String,
    /// Every file read.
    pub files: Vec<FileEntry>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConvertTarget {
    /// The file or directory that now exists.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`.
    pub format: String,
    /// Every file written.
    pub files: Vec<WrittenFile>,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenFile {
    /// Name inside the target directory, or of the target file.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the content, hexadecimal; absent where it was not computed.
    pub blake3: Option<String>,
}

/// An exact change of a tensor's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConvertStep {
    /// Canonical name.
    pub tensor: String,
    /// One word: `rename`, `permute`, `widen`, `narrow` (without loss), `swap` (byte order), `decode`, …
    pub kind: String,
    /// The change in full (`BF16 → F32`, `rows of 4 heads: half-split → interleaved`).
    pub detail: String,
}

/// A tensor whose values changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LossyTensor {
    /// Canonical name.
    pub tensor: String,
    /// Dtype read.
    pub from: String,
    /// Dtype written.
    pub to: String,
    /// Largest absolute difference of a value; absent where a difference is not finite.
    pub max_abs: Option<f64>,
    /// Root of the mean squared difference.
    pub rmse: Option<f64>,
}

/// Whether the target was rewritten from a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// Whether the files are those that the recipe describes, byte for byte.
    pub restored: bool,
    /// Why, or why not (`no capsule for gguf`, `the model was changed since`).
    pub reason: String,
}
