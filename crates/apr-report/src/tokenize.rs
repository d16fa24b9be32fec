//! `apr tokenize`: a text and its tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text and its tokens, in either direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenizeReport {
    /// `apr.tokenize/1`.
    pub schema: String,
    /// The path that was opened.
    pub model: String,
    /// `encode` (text to ids) or `decode` (ids to text).
    pub direction: String,
    /// The text that was given or decoded. Bytes that are no character are U+FFFD.
    pub text: String,
    /// The token ids.
    pub ids: Vec<u32>,
    /// The tokens of these ids.
    pub tokens: Vec<TextToken>,
    /// Number of tokens.
    pub n_tokens: u64,
    /// Length of the text in bytes.
    pub n_bytes: u64,
    /// Encoding: whether the begin and end tokens that the model wants were added. Decoding: whether control tokens
    /// are part of the text.
    pub special: bool,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextToken {
    /// Its id.
    pub id: u32,
    /// How the vocabulary spells it.
    pub piece: String,
    /// The text it adds; a part of a character is U+FFFD.
    pub text: String,
    /// Whether it is a control token.
    pub special: bool,
}
