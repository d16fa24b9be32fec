//! The tokenizer keys of GGUF (`tokenizer.ggml.*`), which APR uses too.

use super::canonical::pad_text;
use super::{
    MAX_TOKENS, PRE_TOKENIZERS, SpacePrefix, SpecialIds, Texts, TokenKind, TokenizerError, TokenizerModel,
    TokenizerSpec, Vocab, merges::MergeList,
};

/// The tokenizer keys of a GGUF file as they stand there: nothing is checked yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `tokenizer.ggml.model`: `gpt2` or `llama`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Texts,
    /// `tokenizer.ggml.scores`.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: two pieces with a space between them.
    pub merges: Option<Texts>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `apr.stop_token_ids`, a key of this project: every id that ends generation.
    pub stop_ids: Option<Vec<u32>>,
    /// `apr.space_prefix`, a key of this project: `metaspace-first` or `metaspace-always` where `add_space_prefix`
    /// can't say how Transformers puts the space; absent otherwise.
    pub space_prefix: Option<String>,
}

/// Texts of control tokens that end a turn or a text. A GGUF file of llama.cpp names one end token; a model may end with
/// others. Source: generation_config.json of the model families that use them.
const END_MARKERS: &[&str] = &[
    "</s>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<|return|>",
];

/// `apr.space_prefix` values.
const SPACE_PREFIXES: &[(&str, SpacePrefix)] =
    &[("metaspace-first", SpacePrefix::MetaspaceFirst), ("metaspace-always", SpacePrefix::MetaspaceAlways)];

const KEY_MODEL: &str = "tokenizer.ggml.model";
const KEY_PRE: &str = "tokenizer.ggml.pre";
const KEY_SPACE_PREFIX: &str = "apr.space_prefix";
const MODEL_BYTE_LEVEL: &str = "gpt2";
const MODEL_SENTENCEPIECE: &str = "llama";

/// Scores that llama.cpp's converter writes for tokens that never merge.
const SCORE_ADDED: f32 = -1000.0;
const SCORE_UNUSED: f32 = -10000.0;

impl TokenizerSpec {
    /// Checks the keys of a GGUF file and brings them into the canonical form.
    ///
    /// Where `apr.stop_token_ids` is absent, generation ends at `eos`, at `eot` and at control tokens with the text of a
    /// known end marker. Trailing `[PAD{id}]` rows of the embedding are not tokens.
    pub fn from_gguf(fields: GgufTokenizer) -> Result<TokenizerSpec, TokenizerError> {
        let n_tokens = fields.tokens.len();
        if n_tokens > MAX_TOKENS {
            return Err(unsupported(
                "tokenizer.ggml.tokens",
                format!("{n_tokens} tokens"),
                format!("at most {MAX_TOKENS}"),
            ));
        }
        if n_tokens == 0 {
            return Err(TokenizerError::Missing {
                what: "tokenizer.ggml.tokens",
                next: "convert the model again together with its tokenizer",
            });
        }
        let kinds = token_kinds(fields.token_types.as_deref(), n_tokens)?;
        let vocab = Vocab { texts: fields.tokens, kinds };
        let (model, adds_bos) = match fields.model.as_str() {
            MODEL_BYTE_LEVEL => {
                let pre = pre_tokenizer(fields.pre.as_deref())?;
                if fields.merges.is_none() {
                    return Err(TokenizerError::Missing {
                        what: "tokenizer.ggml.merges",
                        next: "byte-level BPE needs its merges; convert the model again",
                    });
                };
                (TokenizerModel::ByteLevelBpe { pre, merges: Vec::new() }, pre.adds_bos)
            }
            MODEL_SENTENCEPIECE => {
                let Some(scores) = fields.scores else {
                    return Err(TokenizerError::Missing {
                        what: "tokenizer.ggml.scores",
                        next: "a SentencePiece tokenizer needs its scores; convert the model again",
                    });
                };
                if scores.len() != n_tokens {
                    return Err(length("tokenizer.ggml.scores", scores.len(), n_tokens));
                }
                let space_prefix = space_prefix(fields.space_prefix.as_deref(), fields.add_space_prefix)?;
                (TokenizerModel::SentencePiece { scores, space_prefix }, true)
            }
            other => {
                let expected = format!("{MODEL_BYTE_LEVEL} or {MODEL_SENTENCEPIECE}");
                return Err(unsupported(KEY_MODEL, format!("{other:?}"), expected));
            }
        };
        let stop = fields.stop_ids.unwrap_or_else(|| end_markers(&vocab).chain(fields.eot).collect());
        let special = SpecialIds {
            bos: fields.bos,
            eos: fields.eos,
            unk: fields.unk,
            pad: fields.pad,
            stop,
            add_bos: fields.add_bos.unwrap_or(adds_bos),
            add_eos: fields.add_eos.unwrap_or(false),
        };
        let lines = fields.merges.unwrap_or_default();
        TokenizerSpec { model, vocab, special }.canonical(MergeList::Lines(&lines))
    }

    /// The keys of a GGUF file. `vocab_rows` is the number of rows of the embedding; rows without a token become
    /// `[PAD{id}]`, as llama.cpp's converter writes them.
    pub fn to_gguf(&self, vocab_rows: u32) -> GgufTokenizer {
        let n_rows = self.vocab.texts.len().max(vocab_rows as usize);
        let mut tokens = self.vocab.texts.clone();
        tokens.extend((tokens.len()..n_rows).map(pad_text));
        let mut fields = GgufTokenizer {
            tokens,
            bos: self.special.bos,
            eos: self.special.eos,
            unk: self.special.unk,
            pad: self.special.pad,
            add_bos: Some(self.special.add_bos),
            add_eos: Some(self.special.add_eos),
            stop_ids: Some(self.special.stop.clone()),
            ..GgufTokenizer::default()
        };
        let mut types: Vec<i32> = self.vocab.kinds.iter().map(|&kind| kind as i32).collect();
        types.resize(n_rows, TokenKind::Unused as i32);
        fields.token_types = Some(types);
        match &self.model {
            TokenizerModel::ByteLevelBpe { pre, merges } => {
                fields.model = MODEL_BYTE_LEVEL.to_owned();
                fields.pre = Some(pre.gguf.to_owned());
                let text = |id: u32| &self.vocab.texts[id as usize];
                let lines = merges.iter().map(|merge| format!("{} {}", text(merge.left), text(merge.right)));
                fields.merges = Some(lines.collect());
            }
            TokenizerModel::SentencePiece { scores, space_prefix } => {
                fields.model = MODEL_SENTENCEPIECE.to_owned();
                fields.pre = Some("default".to_owned());
                let score = |(&score, kind): (&f32, &TokenKind)| match kind {
                    TokenKind::Normal | TokenKind::Byte => score,
                    TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined => SCORE_ADDED,
                    TokenKind::Unused => SCORE_UNUSED,
                };
                let mut scores: Vec<f32> = scores.iter().zip(&self.vocab.kinds).map(score).collect();
                scores.resize(n_rows, SCORE_UNUSED);
                fields.scores = Some(scores);
                // llama.cpp takes an absent key as true and its converter writes it only where it is false.
                fields.add_space_prefix = (*space_prefix == SpacePrefix::Never).then_some(false);
                fields.space_prefix =
                    SPACE_PREFIXES.iter().find(|(_, p)| p == space_prefix).map(|(name, _)| (*name).to_owned());
            }
        }
        fields
    }
}

fn token_kinds(types: Option<&[i32]>, n_tokens: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(types) = types else { return Ok(vec![TokenKind::Normal; n_tokens]) };
    if types.len() != n_tokens {
        return Err(length(KEY, types.len(), n_tokens));
    }
    let kind = |(id, &value): (usize, &i32)| {
        TokenKind::from_ggml(value)
            .ok_or_else(|| unsupported(KEY, format!("{value} at token {id}"), "1 to 6".to_owned()))
    };
    types.iter().enumerate().map(kind).collect()
}

fn pre_tokenizer(name: Option<&str>) -> Result<&'static super::PreTokenizer, TokenizerError> {
    let Some(name) = name else {
        return Err(TokenizerError::Missing {
            what: KEY_PRE,
            next: "without it nobody knows how text is cut; convert the model again with a current converter",
        });
    };
    PRE_TOKENIZERS.iter().find(|pre| pre.gguf == name).ok_or_else(|| {
        let known: Vec<&str> = PRE_TOKENIZERS.iter().map(|pre| pre.gguf).collect();
        unsupported(KEY_PRE, format!("{name:?}"), format!("one of {}", known.join(", ")))
    })
}

fn space_prefix(scheme: Option<&str>, add: Option<bool>) -> Result<SpacePrefix, TokenizerError> {
    let Some(scheme) = scheme else {
        return Ok(if add.unwrap_or(true) { SpacePrefix::Always } else { SpacePrefix::Never });
    };
    SPACE_PREFIXES.iter().find(|(name, _)| *name == scheme).map(|(_, prefix)| *prefix).ok_or_else(|| {
        let known: Vec<&str> = SPACE_PREFIXES.iter().map(|(name, _)| *name).collect();
        unsupported(KEY_SPACE_PREFIX, format!("{scheme:?}"), format!("one of {}", known.join(", ")))
    })
}

/// Ids of control tokens with the text of an end marker.
fn end_markers(vocab: &Vocab) -> impl Iterator<Item = u32> {
    let is_end =
        |&(_, (text, kind)): &(u32, (&str, &TokenKind))| *kind == TokenKind::Control && END_MARKERS.contains(&text);
    (0u32..).zip(vocab.texts.iter().zip(&vocab.kinds)).filter(is_end).map(|(id, _)| id)
}

fn unsupported(what: &'static str, found: String, expected: String) -> TokenizerError {
    TokenizerError::Unsupported { what, found: super::canonical::shorten(&found), expected }
}

fn length(what: &'static str, found: usize, expected: usize) -> TokenizerError {
    TokenizerError::Length { what, found, expected }
}
