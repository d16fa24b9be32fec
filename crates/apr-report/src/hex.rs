//! `apr hex`: what each byte of a file is.

use crate::TensorEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file of a model, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HexReport {
    /// `apr.hex/1`.
    pub schema: String,
    /// The path that was opened.
    pub path: String,
    /// `gguf`, `safetensors` or `apr`, decided by the content; absent where bytes were shown without reading them.
    pub format: Option<String>,
    /// Name of the file.
    pub file: String,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// Number of regions asked for: more than `regions` holds where they were limited.
    pub n_regions: u64,
    /// Bytes with one meaning, in file order.
    pub regions: Vec<HexRegion>,
    /// The tensor asked for.
    pub tensor: Option<HexTensor>,
}

/// Bytes with one meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HexRegion {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// `header`, `metadata`, `index`, `data`, `checksum`, `padding`, `unknown`; `raw` for bytes that were not read.
    pub section: String,
    /// What they are.
    pub what: String,
    /// What they say; empty where that is long, or nothing.
    pub value: String,
    /// The first of them, two digits each.
    pub hex: String,
}

/// A tensor and its first blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HexTensor {
    /// What it is and where it lies.
    #[serde(flatten)]
    pub entry: TensorEntry,
    /// Number of blocks in all.
    pub n_blocks: u64,
    /// The blocks asked for, decoded.
    pub blocks: Vec<HexBlock>,
}

/// One block of a tensor; of a dtype without blocks, one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HexBlock {
    /// Which one.
    pub index: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// What its bytes are.
    pub fields: Vec<HexField>,
    /// Elements with a common scale; none for dtypes without blocks.
    pub groups: Vec<HexGroup>,
    /// The values; null stands for NaN and infinities.
    pub values: Vec<Option<f64>>,
}

/// Bytes of a block with one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HexField {
    /// The name that ggml gives them.
    pub name: String,
    /// Where they begin in the file.
    pub offset: u64,
    /// All of them, two digits each.
    pub hex: String,
    /// The number that they are, where they are a finite one.
    pub number: Option<f64>,
}

/// Elements with a common scale: a value is `scale * quant + offset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HexGroup {
    /// What quants are multiplied with; null where it is not finite.
    pub scale: Option<f64>,
    /// What is added; null where it is not finite.
    pub offset: Option<f64>,
    /// A whole number per element.
    pub quants: Vec<i32>,
}
