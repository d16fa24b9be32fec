//! What the readers of all formats do about an architecture that no table knows.

use crate::ParseError;
use apr_model::{Finding, TokenizerSpec, UnknownArchitecture};

/// The architecture that the value of this project's key names.
pub(crate) fn architecture(text: &str) -> Result<UnknownArchitecture, ParseError> {
    UnknownArchitecture::parse(text).ok_or_else(|| {
        ParseError::new(format!("{} is {text:?}, expected FORMAT:ARCHITECTURE", UnknownArchitecture::KEY))
    })
}

/// The tokenizer, where this version understands it. Another one of an unknown architecture is noted, and stays in the
/// recipe; one of an architecture that runs is an error.
pub(crate) fn if_understood(
    tokenizer: Result<Option<TokenizerSpec>, ParseError>,
    notes: &mut Vec<Finding>,
) -> Option<TokenizerSpec> {
    tokenizer.unwrap_or_else(|error| {
        let detail = format!("not understood, carried in the capsule alone: {}", error.detail);
        notes.push(Finding::note("tokenizer-not-understood", "tokenizer", detail));
        None
    })
}
