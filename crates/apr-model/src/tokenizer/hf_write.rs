//! The tokenizer files that Transformers loads.

use super::canonical::pad_text;
use super::sentencepiece::{self, Header};
use super::{Merge, SpacePrefix, TokenKind, TokenizerModel, TokenizerSpec, merges};
use crate::ChatTemplates;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// What a BPE model does, in ids.
#[derive(Clone, Debug)]
pub struct BpeTables<'a> {
    /// Which tokens text can become: all but rows without a token, and but added tokens that stand outside the base
    /// vocabulary.
    pub is_in_base: Vec<bool>,
    /// Merges by rank.
    pub merges: Cow<'a, [Merge]>,
    /// The token for what has no token.
    pub unk: Option<u32>,
    /// Whether adjacent unknown characters are one unknown token.
    pub fuse_unk: bool,
    /// Whether an unknown character is spelt in byte tokens.
    pub byte_fallback: bool,
    /// Whether a word that is a token is taken whole before merges are tried.
    pub ignore_merges: bool,
}

impl TokenizerSpec {
    /// The text of a tokenizer.json.
    ///
    /// Rows without a token have no entry. A row whose kind is `Unused` but which has a text of its own is written as a
    /// piece that no merge makes, which is how Transformers writes such rows.
    pub fn to_tokenizer_json(&self) -> String {
        let BpeTables { is_in_base, merges, unk, fuse_unk, byte_fallback, ignore_merges } = self.bpe_tables();
        let base = (0u32..).zip(&self.vocab.texts).zip(is_in_base).filter(|(_, is_in_base)| *is_in_base);
        let model = BpeJson {
            unk_token: self.text_of(unk),
            fuse_unk,
            byte_fallback,
            ignore_merges,
            vocab: PairsAsMap(base.map(|((id, text), _)| (text, id)).collect()),
            merges: self.merges_json(&merges),
            ..BpeJson::default()
        };
        self.json_around(model, self.added_tokens().map(|(id, token)| with_id(id, token)).collect())
    }

    /// A tokenizer.json whose model and list of added tokens are empty: the steps around the model.
    pub fn to_empty_tokenizer_json(&self) -> String {
        self.json_around(BpeJson::default(), Vec::new())
    }

    fn json_around(&self, model: BpeJson<'_>, added_tokens: Vec<Value>) -> String {
        let steps = match &self.model {
            TokenizerModel::ByteLevelBpe { pre, .. } => byte_level_steps(pre.regex, pre.nfc, self.template()),
            TokenizerModel::SentencePiece { space_prefix, .. } => sentencepiece_steps(*space_prefix, self.template()),
        };
        let file = TokenizerJson { version: "1.0", truncation: (), padding: (), added_tokens, steps, model };
        serde_json::to_string(&file).expect("keys are texts and numbers are finite")
    }

    /// How text becomes ids.
    pub fn bpe_tables(&self) -> BpeTables<'_> {
        let is_in_base = self.base_tokens();
        match &self.model {
            TokenizerModel::ByteLevelBpe { pre, merges } => BpeTables {
                is_in_base,
                merges: Cow::Borrowed(merges),
                unk: None,
                fuse_unk: false,
                byte_fallback: false,
                ignore_merges: pre.ignore_merges,
            },
            TokenizerModel::SentencePiece { scores, .. } => BpeTables {
                is_in_base,
                merges: Cow::Owned(merges::from_scores(&self.vocab, scores).expect("a spec's texts are distinct")),
                unk: self.special.unk,
                fuse_unk: true,
                byte_fallback: true,
                ignore_merges: false,
            },
        }
    }

    /// Id, text and whether it is a control token, of every token that is matched as a whole, by ascending id.
    pub fn whole_tokens(&self) -> impl Iterator<Item = (u32, &str, bool)> {
        let rows = (0u32..).zip(self.vocab.texts.iter().zip(&self.vocab.kinds));
        rows.filter(|(_, (_, kind))| kind.is_atomic()).map(|(id, (text, kind))| (id, text, kind.is_special()))
    }

    /// The text of a tokenizer_config.json. `context_length` is in tokens, where it is known.
    pub fn to_tokenizer_config_json(&self, templates: &ChatTemplates, context_length: Option<u32>) -> String {
        let class = match &self.model {
            TokenizerModel::ByteLevelBpe { pre, .. } => pre.hf_class,
            TokenizerModel::SentencePiece { .. } => "PreTrainedTokenizerFast",
        };
        let added: Map<String, Value> = self.added_tokens().map(|(id, token)| (id.to_string(), token)).collect();
        let special = &self.special;
        let mut config = json!({
            "add_bos_token": special.add_bos,
            "add_eos_token": special.add_eos,
            "add_prefix_space": false,
            "added_tokens_decoder": added,
            "bos_token": self.text_of(special.bos),
            "clean_up_tokenization_spaces": false,
            "eos_token": self.text_of(special.eos),
            "model_max_length": context_length,
            "pad_token": self.text_of(special.pad),
            "tokenizer_class": class,
            "unk_token": self.text_of(special.unk),
        });
        if let Some(value) = templates.to_hf() {
            config["chat_template"] = value;
        }
        format!("{config:#}\n")
    }

    /// The text of a generation_config.json that stops where this tokenizer says.
    pub fn to_generation_config_json(&self) -> String {
        let special = &self.special;
        // The end token comes first: readers that take only one id take this one.
        let others = special.stop.iter().copied().filter(|id| Some(*id) != special.eos);
        let stop: Vec<u32> = special.eos.into_iter().chain(others).collect();
        let mut config = Map::new();
        let eos = (!stop.is_empty()).then(|| Value::from(stop));
        let ids = [("bos_token_id", special.bos.map(Value::from)), ("eos_token_id", eos)];
        for (key, value) in ids.into_iter().chain([("pad_token_id", special.pad.map(Value::from))]) {
            if let Some(value) = value {
                config.insert(key.to_owned(), value);
            }
        }
        format!("{:#}\n", Value::Object(config))
    }

    /// The bytes of a tokenizer.model, where this is a SentencePiece model. It carries the scores, of which
    /// tokenizer.json has only the order.
    pub fn to_sentencepiece_model(&self) -> Option<Vec<u8>> {
        let TokenizerModel::SentencePiece { scores, space_prefix } = &self.model else { return None };
        let rows = self.vocab.texts.iter().zip(scores).zip(&self.vocab.kinds);
        let pieces: Vec<_> = rows.map(|((text, &score), &kind)| (text.to_owned(), score, kind)).collect();
        let special = &self.special;
        let header = Header {
            ids: [special.unk, special.bos, special.eos, special.pad],
            add_dummy_prefix: *space_prefix != SpacePrefix::Never,
        };
        Some(sentencepiece::write(&pieces, &header))
    }

    /// `"left right"`, which every version of Transformers reads; pairs where a piece has a space.
    fn merges_json(&self, merges: &[Merge]) -> Vec<MergeJson> {
        let pieces = |merge: &Merge| [merge.left, merge.right].map(|id| &self.vocab.texts[id as usize]);
        if merges.iter().any(|merge| pieces(merge).iter().any(|piece| piece.contains(' '))) {
            let pair = |[left, right]: [&str; 2]| MergeJson::Pair(left.to_owned(), right.to_owned());
            return merges.iter().map(|merge| pair(pieces(merge))).collect();
        }
        merges.iter().map(|merge| MergeJson::Text(pieces(merge).join(" "))).collect()
    }

    fn text_of(&self, id: Option<u32>) -> Option<&str> {
        Some(self.vocab.get(id?)?.0)
    }

    /// Which tokens stand in `model.vocab`. Transformers numbers the added tokens that don't from the size of the base
    /// vocabulary on, so only an unbroken run at the end can be left out of it.
    fn base_tokens(&self) -> Vec<bool> {
        let kinds = &self.vocab.kinds;
        let is_token = |id: usize| kinds[id] != TokenKind::Unused || self.vocab.texts[id] != *pad_text(id);
        let mut is_in_base: Vec<bool> = (0..kinds.len()).map(is_token).collect();
        let is_whole = is_in_base.iter().all(|&is_token| is_token);
        if is_whole && matches!(self.model, TokenizerModel::ByteLevelBpe { .. }) {
            let n_added = kinds.iter().rev().take_while(|kind| kind.is_atomic()).count();
            is_in_base[kinds.len() - n_added..].fill(false);
        }
        is_in_base
    }

    /// Id and entry of every token that is matched as a whole.
    fn added_tokens(&self) -> impl Iterator<Item = (u32, Value)> {
        self.whole_tokens().map(|(id, text, is_special)| {
            let token = json!({
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": is_special,
            });
            (id, token)
        })
    }

    /// The post-processor that puts the begin and end token.
    fn template(&self) -> Option<Value> {
        let special = &self.special;
        let first = special.bos.filter(|_| special.add_bos);
        let last = special.eos.filter(|_| special.add_eos);
        first.or(last)?;
        let put = |id: Option<u32>, type_id: u32| {
            self.text_of(id).map(|text| json!({"SpecialToken": {"id": text, "type_id": type_id}}))
        };
        let sequence = |name: &str, type_id: u32| {
            let text = json!({"Sequence": {"id": name, "type_id": type_id}});
            put(first, type_id).into_iter().chain([text]).chain(put(last, type_id)).collect::<Vec<_>>()
        };
        let tokens: Map<String, Value> = [first, last]
            .into_iter()
            .filter_map(|id| {
                let text = self.text_of(id)?;
                Some((text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
            })
            .collect();
        let pair = [sequence("A", 0), sequence("B", 1)].concat();
        Some(json!({
            "type": "TemplateProcessing",
            "single": sequence("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        }))
    }
}

/// tokenizer.json. Written without a [`Value`] of the vocabulary in between, which would take most of the time.
#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Value>,
    #[serde(flatten)]
    steps: Steps,
    model: BpeJson<'a>,
}

/// `model` of a tokenizer.json.
#[derive(Default, Serialize)]
#[serde(tag = "type", rename = "BPE")]
struct BpeJson<'a> {
    dropout: (),
    unk_token: Option<&'a str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: PairsAsMap<'a>,
    merges: Vec<MergeJson>,
}

/// Text and id of the base tokens, in the order of ids.
#[derive(Default)]
struct PairsAsMap<'a>(Vec<(&'a str, u32)>);

impl Serialize for PairsAsMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum MergeJson {
    Text(String),
    Pair(String, String),
}

/// The parts of a tokenizer.json around the model.
#[derive(Serialize)]
struct Steps {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
}

fn byte_level_steps(regex: Option<&str>, nfc: bool, template: Option<Value>) -> Steps {
    let byte_level = |trim_offsets: bool, use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets, "use_regex": use_regex});
    let split = |regex| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let pre_tokenizer = match regex {
        Some(regex) => json!({"type": "Sequence", "pretokenizers": [split(regex), byte_level(true, false)]}),
        None => byte_level(true, true),
    };
    let post_processor = match template {
        Some(template) => json!({"type": "Sequence", "processors": [byte_level(false, false), template]}),
        None => byte_level(false, false),
    };
    let normalizer = if nfc { json!({"type": "NFC"}) } else { Value::Null };
    Steps { normalizer, pre_tokenizer, post_processor, decoder: byte_level(true, true) }
}

fn sentencepiece_steps(prefix: SpacePrefix, template: Option<Value>) -> Steps {
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let metaspace = |scheme| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let (normalizer, pre_tokenizer) = match prefix {
        SpacePrefix::Never => (replace, Value::Null),
        SpacePrefix::Always => (json!({"type": "Sequence", "normalizers": [prepend, replace]}), Value::Null),
        SpacePrefix::MetaspaceFirst => (Value::Null, metaspace("first")),
        SpacePrefix::MetaspaceAlways => (Value::Null, metaspace("always")),
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix != SpacePrefix::Never {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    Steps { normalizer, pre_tokenizer, post_processor: template.unwrap_or(Value::Null), decoder }
}

fn with_id(id: u32, token: Value) -> Value {
    let mut entry = Map::from_iter([("id".to_owned(), Value::from(id))]);
    if let Value::Object(fields) = token {
        entry.extend(fields);
    }
    Value::Object(entry)
}
