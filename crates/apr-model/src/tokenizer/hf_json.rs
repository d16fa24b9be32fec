//! The structure of tokenizer.json, as far as it is read.

use super::TokenizerError;
use super::canonical::shorten;
use super::hf_read::unsupported;
use super::merges::{self, MergeTexts};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

#[derive(Deserialize)]
pub(super) struct ModelType {
    pub(super) model: TypeOnly,
}

#[derive(Deserialize)]
pub(super) struct TypeOnly {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// tokenizer.json.
#[derive(Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    pub(super) model: BpeJson,
}

/// `model` of a tokenizer.json of type BPE.
#[derive(Deserialize)]
pub(super) struct BpeJson {
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    pub(super) vocab: BaseVocab,
    pub(super) merges: Vec<MergeJson>,
}

/// An entry of `added_tokens`.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

impl AddedToken {
    /// Neither GGUF nor APR can state how a token takes the spaces around it.
    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let flags = [("single_word", self.single_word), ("lstrip", self.lstrip), ("rstrip", self.rstrip)];
        match flags.into_iter().find(|flag| flag.1) {
            Some((flag, _)) => {
                let found = format!("{flag} of token {} {:?}", self.id, shorten(&self.content));
                Err(unsupported("tokenizer.json: added_tokens", found, "tokens that leave the text around them alone"))
            }
            None => Ok(()),
        }
    }
}

/// An entry of `added_tokens_decoder`; the key is the id.
#[derive(Deserialize)]
pub(super) struct ListedToken {
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

impl ListedToken {
    pub(super) fn with_id(self, id: u32) -> AddedToken {
        let ListedToken { content, special, single_word, lstrip, rstrip } = self;
        AddedToken { id, content, special, single_word, lstrip, rstrip }
    }
}

/// Text and id of the base tokens, in file order, so that an id given twice is seen.
pub(super) struct BaseVocab(pub(super) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for BaseVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = BaseVocab;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from token text to id")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BaseVocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(BaseVocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A merge: `"left right"` in older files, `["left", "right"]` in newer ones.
pub(super) struct MergeJson(pub(super) MergeTexts);

impl<'de> Deserialize<'de> for MergeJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrPair;
        impl<'de> Visitor<'de> for TextOrPair {
            type Value = MergeJson;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge, \"left right\" or [\"left\", \"right\"]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MergeJson, E> {
                let owned = |(left, right): (&str, &str)| MergeJson((left.to_owned(), right.to_owned()));
                merges::split(0, text).map(owned).map_err(|_| {
                    E::custom(format!("merge {:?}, expected two pieces with one space between them", shorten(text)))
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeJson, A::Error> {
                let piece = |place, piece: Option<String>| piece.ok_or_else(|| de::Error::invalid_length(place, &self));
                let left = piece(0, seq.next_element()?)?;
                let right = piece(1, seq.next_element()?)?;
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(MergeJson((left, right))),
                    Some(_) => Err(de::Error::invalid_length(3, &self)),
                }
            }
        }
        deserializer.deserialize_any(TextOrPair)
    }
}
