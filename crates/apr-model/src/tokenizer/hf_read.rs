//! The tokenizer files of a Transformers directory.

use super::canonical::{byte_of_piece, pad_text, shorten};
use super::hf_config::Configs;
use super::hf_json::{AddedToken, ModelType, TokenizerJson, TypeOnly};
use super::hf_pipeline::{flatten, pre_tokenizer, space_prefix, template, type_of};
use super::merges::{self, MergeList, MergeTexts};
use super::sentencepiece::{MODEL_TYPE_BPE, SentencePieceModel};
use super::{MAX_TOKENS, SpacePrefix, SpecialIds, TokenKind, TokenizerError, TokenizerModel, TokenizerSpec, Vocab};
use serde::Deserialize;

/// Bytes of the files of a Transformers directory that speak about the tokenizer; None where a file is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct HfTokenizerFiles<'a> {
    /// tokenizer.json
    pub tokenizer_json: Option<&'a [u8]>,
    /// tokenizer_config.json
    pub tokenizer_config: Option<&'a [u8]>,
    /// generation_config.json
    pub generation_config: Option<&'a [u8]>,
    /// config.json
    pub config: Option<&'a [u8]>,
    /// special_tokens_map.json
    pub special_tokens_map: Option<&'a [u8]>,
    /// tokenizer.model
    pub tokenizer_model: Option<&'a [u8]>,
}

pub(super) const TOKENIZER_JSON: &str = "tokenizer.json";
const TOKENIZER_MODEL: &str = "tokenizer.model";

/// Most ids without a token between the tokens of a vocabulary.
const MAX_GAPS: usize = 1 << 16;

impl TokenizerSpec {
    /// Reads the tokenizer of a Transformers directory.
    ///
    /// tokenizer.json rules; tokenizer.model adds the scores of a SentencePiece model, and stands alone where
    /// tokenizer.json is absent. Without tokenizer.model, scores follow from the order of the merges: the tokens are
    /// sorted by the first merge that makes them, then by id, and the score is the negated place.
    ///
    /// Special ids come from tokenizer_config.json, else special_tokens_map.json, else config.json. Generation ends at
    /// the ids that generation_config.json and config.json name and at `eos`.
    pub fn from_hf(files: &HfTokenizerFiles<'_>) -> Result<TokenizerSpec, TokenizerError> {
        let configs = Configs::parse(files)?;
        let pieces = files.tokenizer_model.map(SentencePieceModel::parse).transpose()?;
        let source = match (files.tokenizer_json, pieces) {
            (Some(json), pieces) => Source::from_json(json, pieces.as_ref(), &configs)?,
            (None, Some(pieces)) => Source::from_pieces(pieces, &configs)?,
            (None, None) => {
                return Err(TokenizerError::Missing {
                    what: TOKENIZER_JSON,
                    next: "save the tokenizer with AutoTokenizer.from_pretrained(..).save_pretrained(..)",
                });
            }
        };
        let (spec, merges) = source.with_special_ids(&configs)?;
        spec.canonical(MergeList::Pairs(&merges))
    }
}

/// What the vocabulary files say, before the configs are asked.
struct Source {
    /// Its list of merges is empty.
    model: TokenizerModel,
    merges: Vec<MergeTexts>,
    vocab: Vocab,
    unk: Option<u32>,
    /// Ids that the post-processor puts before and after the text; None where no file has one.
    template: Option<(Option<u32>, Option<u32>)>,
}

impl Source {
    fn from_json(
        bytes: &[u8],
        pieces: Option<&SentencePieceModel>,
        configs: &Configs,
    ) -> Result<Source, TokenizerError> {
        let ModelType { model: TypeOnly { kind } } = parse(TOKENIZER_JSON, bytes)?;
        if let Some(found) = kind.filter(|kind| kind != "BPE") {
            return Err(unsupported("tokenizer.json: model.type", found, "BPE"));
        }
        let TokenizerJson { model, mut added_tokens, normalizer, pre_tokenizer: steps, post_processor } =
            parse(TOKENIZER_JSON, bytes)?;
        for (what, affix) in [
            ("tokenizer.json: model.continuing_subword_prefix", &model.continuing_subword_prefix),
            ("tokenizer.json: model.end_of_word_suffix", &model.end_of_word_suffix),
        ] {
            if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
                return Err(unsupported(what, format!("{affix:?}"), "none"));
            }
        }
        let template = template(post_processor.as_ref())?;
        let normalizers = flatten(normalizer.as_ref(), "normalizers");
        let steps = flatten(steps.as_ref(), "pretokenizers");
        let byte_level = steps.iter().any(|step| type_of(step) == "ByteLevel");
        configs.add_tokens(&mut added_tokens)?;
        let vocab = vocab(&model.vocab.0, &added_tokens, !byte_level, pieces)?;
        let id_of = |text: &str| vocab.texts.iter().position(|t| t == text).and_then(|id| u32::try_from(id).ok());
        let unk = model.unk_token.as_deref().and_then(id_of);
        let merges: Vec<MergeTexts> = model.merges.into_iter().map(|merge| merge.0).collect();
        let model = if byte_level {
            let pre = pre_tokenizer(&normalizers, &steps, model.ignore_merges)?;
            TokenizerModel::ByteLevelBpe { pre, merges: Vec::new() }
        } else {
            if !model.byte_fallback {
                let found = "false without a ByteLevel pre-tokenizer".to_owned();
                return Err(unsupported(
                    "tokenizer.json: model.byte_fallback",
                    found,
                    "byte-level BPE or SentencePiece",
                ));
            }
            let space_prefix = space_prefix(&normalizers, &steps)?;
            let scores = scores(&vocab, &merges, pieces)?;
            TokenizerModel::SentencePiece { scores, space_prefix }
        };
        let template = match template {
            Some((first, last)) => {
                let resolve = |text: Option<String>| match text {
                    None => Ok(None),
                    Some(text) => match id_of(&text) {
                        Some(id) => Ok(Some(id)),
                        None => {
                            Err(unsupported("tokenizer.json: post_processor", format!("{text:?}"), "a token as its id"))
                        }
                    },
                };
                Some((resolve(first)?, resolve(last)?))
            }
            None => None,
        };
        Ok(Source { model, merges, vocab, unk, template })
    }

    fn from_pieces(file: SentencePieceModel, configs: &Configs) -> Result<Source, TokenizerError> {
        if file.model_type != MODEL_TYPE_BPE {
            let found = format!("{} (1 is unigram)", file.model_type);
            return Err(unsupported("tokenizer.model: trainer_spec.model_type", found, "2 (BPE)"));
        }
        if file.changes_text {
            let found = "one that changes text".to_owned();
            let expected = "identity without removal of spaces, or a tokenizer.json beside it";
            return Err(unsupported("tokenizer.model: normalizer", found, expected));
        }
        let ids = (0u32..).zip(&file.pieces).map(|(id, (text, _, _))| (text.clone(), id)).collect::<Vec<_>>();
        let mut added = Vec::new();
        configs.add_tokens(&mut added)?;
        let vocab = vocab(&ids, &added, true, Some(&file))?;
        let mut scores: Vec<f32> = file.pieces.iter().map(|piece| piece.1).collect();
        scores.resize(vocab.texts.len(), 0.0);
        let space_prefix = if file.add_dummy_prefix { SpacePrefix::Always } else { SpacePrefix::Never };
        // The begin token is put first unless tokenizer_config.json says otherwise: default of Transformers' class.
        let bos = configs.special_id("bos", &vocab)?;
        let model = TokenizerModel::SentencePiece { scores, space_prefix };
        Ok(Source { model, merges: Vec::new(), vocab, unk: None, template: Some((bos, None)) })
    }

    fn with_special_ids(self, configs: &Configs) -> Result<(TokenizerSpec, Vec<MergeTexts>), TokenizerError> {
        let Source { model, merges, vocab, unk, template } = self;
        let (first, last) = template.unwrap_or_default();
        let bos = configs.special_id("bos", &vocab)?.or(first);
        let eos = configs.special_id("eos", &vocab)?.or(last);
        for (what, id, expected) in [("the token put before text", first, bos), ("the token put after text", last, eos)]
        {
            if id.is_some() && id != expected {
                let name = |id: Option<u32>| format!("{:?}", id.and_then(|id| vocab.get(id)).map(|(text, _)| text));
                return Err(unsupported(what, name(id), &name(expected)));
            }
        }
        let special = SpecialIds {
            bos,
            eos,
            unk: configs.special_text("unk", &vocab)?.or(unk),
            pad: configs.special_id("pad", &vocab)?,
            stop: configs.stop_ids()?,
            add_bos: configs.flag("add_bos_token")?.unwrap_or(first.is_some()),
            add_eos: configs.flag("add_eos_token")?.unwrap_or(last.is_some()),
        };
        Ok((TokenizerSpec { model, vocab, special }, merges))
    }
}

/// Places base tokens and added tokens at their ids; ids without a token become unused rows.
fn vocab(
    base: &[(String, u32)],
    added: &[AddedToken],
    is_sentencepiece: bool,
    pieces: Option<&SentencePieceModel>,
) -> Result<Vocab, TokenizerError> {
    let n_rows = base.iter().map(|entry| entry.1).chain(added.iter().map(|token| token.id)).max();
    let n_rows = n_rows.map_or(0, |id| id as usize + 1);
    if n_rows > MAX_TOKENS || n_rows > base.len() + added.len() + MAX_GAPS {
        let found = format!("{} for {} tokens", n_rows - 1, base.len() + added.len());
        return Err(unsupported("tokenizer.json: the highest token id", found, "ids without large gaps"));
    }
    let mut rows: Vec<Option<(&str, TokenKind)>> = vec![None; n_rows];
    for (text, id) in base {
        let row = &mut rows[*id as usize];
        if let Some((first, _)) = row {
            return Err(TokenizerError::Token {
                id: *id,
                text: shorten(text),
                detail: format!("token {:?} has the same id", shorten(first)),
            });
        }
        let is_byte = is_sentencepiece && byte_of_piece(text).is_some();
        *row = Some((text, if is_byte { TokenKind::Byte } else { TokenKind::Normal }));
    }
    if let Some(model) = pieces.filter(|_| is_sentencepiece) {
        for (id, (text, _, kind)) in model.pieces.iter().enumerate() {
            match rows.get_mut(id) {
                Some(Some((known, row_kind))) if known == text => *row_kind = *kind,
                Some(None) => {} // a row that tokenizer.json leaves out on purpose
                other => {
                    let known = other.and_then(|row| row.map(|(text, _)| shorten(text)));
                    let what = format!(
                        "token {id} is {:?} in {TOKENIZER_MODEL} and {known:?} in {TOKENIZER_JSON}",
                        shorten(text)
                    );
                    return Err(TokenizerError::Contradiction { what });
                }
            }
        }
    }
    for token in added {
        token.check()?;
        let row = &mut rows[token.id as usize];
        if let Some((known, _)) = row.filter(|(known, _)| *known != token.content) {
            return Err(TokenizerError::Token {
                id: token.id,
                text: shorten(&token.content),
                detail: format!("the vocabulary has {:?} at this id", shorten(known)),
            });
        }
        let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
        *row = Some((&token.content, kind));
    }
    let mut vocab = Vocab::default();
    for (id, row) in rows.into_iter().enumerate() {
        match row {
            Some((text, _)) => vocab.texts.push(text),
            None => vocab.texts.push(&pad_text(id)),
        }
        vocab.kinds.push(row.map_or(TokenKind::Unused, |(_, kind)| kind));
    }
    Ok(vocab)
}

fn scores(
    vocab: &Vocab,
    merges: &[MergeTexts],
    pieces: Option<&SentencePieceModel>,
) -> Result<Vec<f32>, TokenizerError> {
    let scores = match pieces {
        Some(model) => {
            let mut scores: Vec<f32> = model.pieces.iter().map(|piece| piece.1).collect();
            scores.resize(vocab.texts.len(), 0.0);
            scores
        }
        None => merges::to_scores(vocab, merges)?,
    };
    merges::agree(vocab, &scores, merges)?;
    Ok(scores)
}

pub(super) fn unsupported(what: &'static str, found: String, expected: &str) -> TokenizerError {
    const SHOWN: usize = 400; // a splitting regex must fit
    let found = match found.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found,
    };
    TokenizerError::Unsupported { what, found, expected: expected.to_owned() }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(file: &'static str, bytes: &'a [u8]) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|e| TokenizerError::Json { file, detail: e.to_string() })
}
