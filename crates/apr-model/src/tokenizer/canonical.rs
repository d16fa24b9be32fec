//! The one spelling of facts that formats spell differently, and the checks that every source passes.

use super::{
    MAX_TOKEN_BYTES, MAX_TOKENS, SpecialIds, TextIndex, TokenKind, TokenizerError, TokenizerModel, TokenizerSpec,
    Vocab,
    merges::{self, MergeList},
};

/// Text of the row of the embedding that has no token, as llama.cpp's converter writes it.
pub(super) fn pad_text(id: usize) -> String {
    format!("[PAD{id}]")
}

/// The byte that a piece of a SentencePiece model like `<0x0A>` stands for.
pub fn byte_of_piece(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if is_hex { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// `text`, cut so that a hostile token can't flood an error message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl TokenizerSpec {
    /// Checks what a source said and brings it into the canonical form.
    ///
    /// Afterwards: texts are distinct and not empty; every id, merge and score refers to the vocabulary; rows without a
    /// token have the kind `Unused` and are dropped at the end; in a SentencePiece model the unknown token has the kind
    /// `Unknown` and `<0x0A>` the kind `Byte`; scores of tokens that don't merge are 0; `stop` is ascending and has `eos`.
    ///
    /// `merges` are those of a byte-level model, whose own list is still empty.
    pub(super) fn canonical(mut self, merges: MergeList<'_>) -> Result<Self, TokenizerError> {
        let is_sentencepiece = matches!(self.model, TokenizerModel::SentencePiece { .. });
        self.vocab.check_size()?;
        self.vocab.mark_unused_rows();
        if self.vocab.texts.is_empty() {
            return Err(TokenizerError::Missing {
                what: "the vocabulary",
                next: "convert the model with its tokenizer",
            });
        }
        if is_sentencepiece {
            self.vocab.mark_bytes();
            self.special.unk = self.special.unk.or_else(|| self.vocab.first_of(TokenKind::Unknown));
        }
        self.special.check(&self.vocab)?;
        self.mark_unknown(is_sentencepiece);
        let index = self.vocab.index()?;
        self.vocab.check_kinds(is_sentencepiece)?;
        match &mut self.model {
            TokenizerModel::ByteLevelBpe { merges: ids, .. } => *ids = merges::resolve(merges, &self.vocab, &index)?,
            TokenizerModel::SentencePiece { scores, .. } => {
                // Trailing rows without a token are gone from the vocabulary; their scores go with them.
                scores.truncate(self.vocab.texts.len());
                canonical_scores(scores, &self.vocab)?;
            }
        }
        self.special.sort();
        Ok(self)
    }

    /// The unknown token of a SentencePiece model has the kind `Unknown`, any other such token is a control token:
    /// llama.cpp's converter writes either where the token is listed as an added token, and Transformers has no kinds.
    fn mark_unknown(&mut self, is_sentencepiece: bool) {
        let SpecialIds { unk, bos, eos, .. } = self.special;
        let unk = unk.filter(|_| is_sentencepiece && unk != bos && unk != eos);
        for (id, kind) in (0u32..).zip(&mut self.vocab.kinds) {
            if unk == Some(id) {
                *kind = TokenKind::Unknown;
            } else if *kind == TokenKind::Unknown {
                *kind = TokenKind::Control;
            }
        }
    }
}

fn canonical_scores(scores: &mut [f32], vocab: &Vocab) -> Result<(), TokenizerError> {
    if scores.len() != vocab.texts.len() {
        return Err(TokenizerError::Length { what: "scores", found: scores.len(), expected: vocab.texts.len() });
    }
    for (id, score) in scores.iter_mut().enumerate() {
        if vocab.kinds[id] != TokenKind::Normal || *score == 0.0 {
            *score = 0.0; // also turns -0.0, the best score of a trained model, into 0.0
        } else if !score.is_finite() {
            return Err(vocab.error(id, format!("its score is {score}, expected a finite number")));
        }
    }
    Ok(())
}

impl Vocab {
    pub(super) fn error(&self, id: usize, detail: String) -> TokenizerError {
        let text = self.texts.get(id).map(shorten).unwrap_or_default();
        TokenizerError::Token { id: u32::try_from(id).unwrap_or(u32::MAX), text, detail }
    }

    fn first_of(&self, kind: TokenKind) -> Option<u32> {
        self.kinds.iter().position(|&k| k == kind).and_then(|id| u32::try_from(id).ok())
    }

    fn check_size(&self) -> Result<(), TokenizerError> {
        let n_tokens = self.texts.len();
        if self.kinds.len() != n_tokens {
            return Err(TokenizerError::Length { what: "token types", found: self.kinds.len(), expected: n_tokens });
        }
        if n_tokens > MAX_TOKENS {
            return Err(TokenizerError::Unsupported {
                what: "the number of tokens",
                found: n_tokens.to_string(),
                expected: format!("at most {MAX_TOKENS}"),
            });
        }
        match self.texts.iter().position(|text| text.is_empty() || text.len() > MAX_TOKEN_BYTES) {
            Some(id) => {
                Err(self
                    .error(id, format!("its text has {} bytes, expected 1 to {MAX_TOKEN_BYTES}", self.texts[id].len())))
            }
            None => Ok(()),
        }
    }

    /// Older converters write rows without a token as `UserDefined`.
    fn mark_unused_rows(&mut self) {
        for (id, (text, kind)) in self.texts.iter().zip(&mut self.kinds).enumerate() {
            if *kind == TokenKind::UserDefined && text.starts_with("[PAD") && *text == pad_text(id) {
                *kind = TokenKind::Unused;
            }
        }
        let rows = self.texts.iter().zip(&self.kinds).enumerate();
        let is_padding = |(id, (text, kind)): (usize, (&str, &TokenKind))| {
            *kind == TokenKind::Unused && text.starts_with("[PAD") && *text == pad_text(id)
        };
        let n_padding = rows.rev().take_while(|&row| is_padding(row)).count();
        let n_tokens = self.texts.len() - n_padding;
        self.texts.truncate(n_tokens);
        self.kinds.truncate(n_tokens);
    }

    fn mark_bytes(&mut self) {
        for (text, kind) in self.texts.iter().zip(&mut self.kinds) {
            if *kind == TokenKind::Normal && byte_of_piece(text).is_some() {
                *kind = TokenKind::Byte;
            }
        }
    }

    fn check_kinds(&self, is_sentencepiece: bool) -> Result<(), TokenizerError> {
        let is_wrong = |id: &usize| {
            self.kinds[*id] == TokenKind::Byte && !(is_sentencepiece && byte_of_piece(&self.texts[*id]).is_some())
        };
        match (0..self.kinds.len()).find(is_wrong) {
            Some(id) => {
                let expected = if is_sentencepiece { "a text like <0x0A>" } else { "no such tokens in byte-level BPE" };
                Err(self.error(id, format!("its type is byte (6), expected {expected}")))
            }
            None => Ok(()),
        }
    }

    /// Text → id.
    pub(super) fn index(&self) -> Result<TextIndex, TokenizerError> {
        TextIndex::new(&self.texts)
            .map_err(|same| self.error(same.second as usize, format!("token {} has the same text", same.first)))
    }
}

impl SpecialIds {
    fn check(&mut self, vocab: &Vocab) -> Result<(), TokenizerError> {
        let named = [("bos", self.bos), ("eos", self.eos), ("unk", self.unk), ("pad", self.pad)];
        let all = named.into_iter().chain(self.stop.iter().map(|&id| ("stop", Some(id))));
        for (name, id) in all {
            if let Some(id) = id.filter(|&id| id >= vocab.n_tokens()) {
                let last = i64::from(vocab.n_tokens()) - 1;
                return Err(TokenizerError::IdOutOfRange { what: format!("{name} token id"), id: id.into(), last });
            }
        }
        self.add_bos &= self.bos.is_some();
        self.add_eos &= self.eos.is_some();
        Ok(())
    }

    fn sort(&mut self) {
        self.stop.extend(self.eos);
        self.stop.sort_unstable();
        self.stop.dedup();
    }
}
