//! Text ⇄ token ids.

use crate::TextStream;
use crate::bpe::Bpe;
use apr_model::{SpacePrefix, SpecialIds, TokenKind, TokenizerModel, TokenizerSpec, byte_of_piece};
use std::borrow::Cow;
use std::sync::Arc;
use tokenizers::models::bpe;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizer};

/// Encodes and decodes text as Transformers does with the same model.
pub struct Tokenizer {
    steps: tokenizers::Tokenizer,
    bpe: Bpe,
    spec: Arc<TokenizerSpec>,
    spelling: Spelling,
}

/// How a token's text stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Each character is one byte, in the alphabet of GPT-2.
    ByteLevel,
    /// `▁` is a space; `strips_space`: the space before the text, which encoding puts there, is not part of it.
    SentencePiece { strips_space: bool },
}

/// Why text can't be encoded, or a tokenizer can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizers library rejects the tables.
    #[error("the tokenizer's tables are not accepted: {0}")]
    Tables(String),
    /// The tokenizers library gave up on a text.
    #[error("the text ({length_bytes} bytes) can't be tokenized: {detail}")]
    Text {
        /// Length of the text in bytes.
        length_bytes: usize,
        /// What the library says.
        detail: String,
    },
}

/// The library's tokenizer with the tokens that are found as a whole and no others: the steps around [`Bpe`].
fn steps(spec: &TokenizerSpec) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut steps: tokenizers::Tokenizer = spec.to_empty_tokenizer_json().parse()?;
    // The library numbers tokens that are not in its model by itself.
    let ids: bpe::Vocab = spec.whole_tokens().map(|(id, text, _)| (text.to_owned(), id)).collect();
    steps.with_model(bpe::BPE::builder().vocab_and_merges(ids, Vec::new()).build()?);
    steps.add_tokens(
        spec.whole_tokens().map(|(_, text, is_special)| AddedToken::from(text, is_special).normalized(false)),
    )?;
    Ok(steps)
}

impl Tokenizer {
    /// Builds the tables for a tokenizer.
    pub fn new(spec: impl Into<Arc<TokenizerSpec>>) -> Result<Self, TokenizeError> {
        let spec = spec.into();
        let (steps, bpe) = std::thread::scope(|scope| {
            let steps = scope.spawn(|| steps(&spec).map_err(|e| TokenizeError::Tables(e.to_string())));
            let bpe = Bpe::new(&spec);
            (steps.join().expect("the library reads what this project writes"), bpe)
        });
        let steps = steps?;
        let spelling = match &spec.model {
            TokenizerModel::ByteLevelBpe { .. } => Spelling::ByteLevel,
            TokenizerModel::SentencePiece { space_prefix, .. } => {
                Spelling::SentencePiece { strips_space: *space_prefix != SpacePrefix::Never }
            }
        };
        Ok(Tokenizer { steps, bpe, spec, spelling })
    }

    /// Token ids of `text`. Special tokens in the text are taken as a whole. `add_special` puts the begin and end token
    /// where the model wants them; a rendered chat template has them already.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizeError> {
        let mut pieces = self.steps.get_added_vocabulary().extract_and_normalize(self.steps.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.steps.get_pre_tokenizer() {
            let failed = |e: tokenizers::Error| TokenizeError::Text { length_bytes: text.len(), detail: e.to_string() };
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        let special = |wanted: bool, id: Option<u32>| id.filter(|_| add_special && wanted);
        let mut ids = Vec::from_iter(special(self.spec.special.add_bos, self.spec.special.bos));
        for (word, _, whole) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match whole {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.bpe.encode_word(word, &self.spec, &mut ids),
            }
        }
        ids.extend(special(self.spec.special.add_eos, self.spec.special.eos));
        Ok(ids)
    }

    /// Text of `ids`, the same as a [`TextStream`] over them. Bytes that are not UTF-8 become U+FFFD; an id without a
    /// token has no text. `skip_special` leaves out control tokens.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = TextStream::new(self, skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(self, id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// Text of a token as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        Some(self.spec.vocab.get(id)?.0)
    }

    /// The bytes that a token stands for; a part of a character where a token is that. None for an id without a token.
    pub fn token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        let (text, kind) = self.spec.vocab.get(id)?;
        let as_is = Cow::Borrowed(text.as_bytes());
        Some(match (self.spelling, kind) {
            (_, TokenKind::Unused) => return None,
            (Spelling::SentencePiece { .. }, TokenKind::Byte) => {
                byte_of_piece(text).map_or(as_is, |b| Cow::Owned(vec![b]))
            }
            (Spelling::SentencePiece { .. }, _) if text.contains('▁') => {
                Cow::Owned(text.replace('▁', " ").into_bytes())
            }
            // A token with a character outside the alphabet is not in this spelling; Transformers takes it as it is.
            (Spelling::ByteLevel, TokenKind::Normal) => {
                text.chars().map(alphabet_byte).collect::<Option<Vec<u8>>>().map_or(as_is, Cow::Owned)
            }
            _ => as_is,
        })
    }

    /// Whether decoding with `skip_special` leaves the token out.
    pub fn is_special(&self, id: u32) -> bool {
        self.spec.vocab.get(id).is_some_and(|(_, kind)| kind.is_special())
    }

    /// Number of tokens. The logits may have more columns.
    pub fn n_tokens(&self) -> u32 {
        self.spec.vocab.n_tokens()
    }

    /// Ids with a meaning.
    pub fn special(&self) -> &SpecialIds {
        &self.spec.special
    }

    /// Whether the space before a text is not part of it.
    pub(crate) fn strips_space(&self) -> bool {
        self.spelling == Spelling::SentencePiece { strips_space: true }
    }
}

/// The byte that a character stands for in the alphabet of GPT-2: a printable byte of Latin-1 stands for itself, the
/// other bytes in ascending order for the characters from U+0100 on.
fn alphabet_byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(), // bytes 00 to 20
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(), // bytes 7f to a0
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_stands_for_every_byte_once() {
        let mut bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(alphabet_byte).collect();
        assert_eq!(bytes.len(), 256);
        bytes.sort_unstable();
        bytes.dedup();
        assert_eq!(bytes.len(), 256);
        assert_eq!(['Ġ', 'Ċ', 'a', 'ł', 'Ń'].map(alphabet_byte), [b' ', b'\n', b'a', 0xa0, 0xad].map(Some));
    }
}
