//! What the JSON files beside tokenizer.json say about the tokenizer.

use super::canonical::shorten;
use super::hf_json::{AddedToken, ListedToken};
use super::hf_read::{HfTokenizerFiles, TOKENIZER_JSON, parse};
use super::{TokenizerError, Vocab};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CONFIG: &str = "config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// The JSON files beside tokenizer.json, each an object; empty where a file is absent.
pub(super) struct Configs {
    tokenizer: Map<String, Value>,
    special: Map<String, Value>,
    model: Map<String, Value>,
    generation: Map<String, Value>,
}

impl Configs {
    pub(super) fn parse(files: &HfTokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        let object = |file, bytes: Option<&[u8]>| bytes.map_or_else(|| Ok(Map::new()), |bytes| parse(file, bytes));
        Ok(Configs {
            tokenizer: object(TOKENIZER_CONFIG, files.tokenizer_config)?,
            special: object(SPECIAL_TOKENS_MAP, files.special_tokens_map)?,
            model: object(CONFIG, files.config)?,
            generation: object(GENERATION_CONFIG, files.generation_config)?,
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, TokenizerError> {
        match self.tokenizer.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong(TOKENIZER_CONFIG, key, other, "true or false")),
        }
    }

    /// Id of the `bos`, `eos`, `unk` or `pad` token that a text names.
    pub(super) fn special_text(&self, role: &str, vocab: &Vocab) -> Result<Option<u32>, TokenizerError> {
        let key = format!("{role}_token");
        for (file, map) in [(TOKENIZER_CONFIG, &self.tokenizer), (SPECIAL_TOKENS_MAP, &self.special)] {
            let text = match map.get(&key) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.as_str(),
                Some(Value::Object(token)) if token.get("content").is_some_and(Value::is_string) => {
                    token["content"].as_str().unwrap_or_default()
                }
                Some(other) => return Err(wrong(file, &key, other, "a token's text")),
            };
            let Some(id) = vocab.texts.iter().position(|t| t == text) else {
                return Err(wrong(file, &key, &Value::from(text), "the text of a token"));
            };
            return Ok(u32::try_from(id).ok());
        }
        Ok(None)
    }

    /// First id that config.json names for a role; a negative one stands for none.
    fn config_id(&self, role: &str) -> Result<Option<u32>, TokenizerError> {
        Ok(ids(CONFIG, &self.model, &format!("{role}_token_id"))?.first().copied())
    }

    pub(super) fn special_id(&self, role: &str, vocab: &Vocab) -> Result<Option<u32>, TokenizerError> {
        match self.special_text(role, vocab)? {
            Some(id) => Ok(Some(id)),
            None => self.config_id(role),
        }
    }

    pub(super) fn stop_ids(&self) -> Result<Vec<u32>, TokenizerError> {
        let mut stop = ids(GENERATION_CONFIG, &self.generation, "eos_token_id")?;
        stop.extend(ids(CONFIG, &self.model, "eos_token_id")?);
        Ok(stop)
    }

    /// Added tokens that tokenizer_config.json lists and tokenizer.json doesn't.
    pub(super) fn add_tokens(&self, added: &mut Vec<AddedToken>) -> Result<(), TokenizerError> {
        let Some(listed) = self.tokenizer.get("added_tokens_decoder") else { return Ok(()) };
        let listed: BTreeMap<u32, ListedToken> = Deserialize::deserialize(listed).map_err(|e| {
            TokenizerError::Json { file: TOKENIZER_CONFIG, detail: format!("added_tokens_decoder: {e}") }
        })?;
        let known: BTreeMap<u32, usize> = added.iter().enumerate().map(|(place, token)| (token.id, place)).collect();
        for (id, token) in listed {
            match known.get(&id) {
                Some(&place) if added[place].content == token.content => {}
                Some(&place) => {
                    let what = format!(
                        "token {id} is {:?} in {TOKENIZER_CONFIG} and {:?} in {TOKENIZER_JSON}",
                        shorten(&token.content),
                        shorten(&added[place].content)
                    );
                    return Err(TokenizerError::Contradiction { what });
                }
                None => added.push(token.with_id(id)),
            }
        }
        Ok(())
    }
}

/// Ids under `key`: one number or a list of them.
fn ids(file: &'static str, map: &Map<String, Value>, key: &str) -> Result<Vec<u32>, TokenizerError> {
    let values = match map.get(key) {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    let id = |value: &Value| match value.as_i64() {
        Some(id) if id < 0 => None,
        Some(id) => Some(u32::try_from(id).map_err(|_| wrong(file, key, value, "a token id"))),
        None => Some(Err(wrong(file, key, value, "a token id or a list of them"))),
    };
    values.iter().filter_map(id).collect()
}

fn wrong(file: &'static str, key: &str, found: &Value, expected: &str) -> TokenizerError {
    TokenizerError::Json { file, detail: format!("{key} is {}, expected {expected}", shorten(&found.to_string())) }
}
