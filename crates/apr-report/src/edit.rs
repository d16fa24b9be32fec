//! `apr edit`: what happens to the metadata of a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to the metadata of a file, and to the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EditReport {
    /// `apr.edit/1`.
    pub schema: String,
    /// The file that was read.
    pub path: String,
    /// The file that was written, or would be.
    pub target: String,
    /// Whether nothing was written because that was asked for.
    pub dry_run: bool,
    /// The changes, in the order in which they are made.
    pub changes: Vec<EditChange>,
    /// Where the data of the tensors started, in bytes.
    pub data_offset_before: u64,
    /// Where it starts afterwards; the data itself is the same.
    pub data_offset_after: u64,
    /// Length of the file afterwards.
    pub bytes: u64,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EditChange {
    /// The key, as it is called afterwards unless it goes.
    pub key: String,
    /// What it was called, where it gets another name.
    pub was: Option<String>,
    /// Its value before; absent where it is new.
    pub before: Option<TypedValue>,
    /// Its value afterwards; absent where it goes.
    pub after: Option<TypedValue>,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypedValue {
    /// Its type: `u32`, `str`, `[f32]`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value for people; a long one as its length.
    pub value: String,
}
