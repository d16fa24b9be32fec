//! tokenizer.model: the protocol buffer `ModelProto` of SentencePiece, as far as a BPE model needs it.
//!
//! Field numbers: `sentencepiece_model.proto` of the SentencePiece project. Unknown fields are skipped.

use super::{MAX_TOKENS, TokenKind, TokenizerError};

/// What a tokenizer.model states.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SentencePieceModel {
    /// Text, score and kind; the index is the id.
    pub(super) pieces: Vec<(String, f32, TokenKind)>,
    /// `trainer_spec.model_type`; 2 is BPE.
    pub(super) model_type: u64,
    /// `normalizer_spec.add_dummy_prefix`: a space before the text.
    pub(super) add_dummy_prefix: bool,
    /// Whether the normalizer changes text (a character map, or removal of extra spaces).
    pub(super) changes_text: bool,
}

/// `trainer_spec.model_type` of a BPE model.
pub(super) const MODEL_TYPE_BPE: u64 = 2;

mod field {
    pub(super) const MODEL_PIECES: u64 = 1;
    pub(super) const MODEL_TRAINER: u64 = 2;
    pub(super) const MODEL_NORMALIZER: u64 = 3;
    pub(super) const PIECE_TEXT: u64 = 1;
    pub(super) const PIECE_SCORE: u64 = 2;
    pub(super) const PIECE_TYPE: u64 = 3;
    pub(super) const TRAINER_MODEL_TYPE: u64 = 3;
    pub(super) const TRAINER_VOCAB_SIZE: u64 = 4;
    pub(super) const TRAINER_BYTE_FALLBACK: u64 = 35;
    pub(super) const TRAINER_IDS: [u64; 4] = [40, 41, 42, 43]; // unk, bos, eos, pad
    pub(super) const TRAINER_PIECES: [u64; 4] = [45, 46, 47, 48];
    pub(super) const NORMALIZER_NAME: u64 = 1;
    pub(super) const NORMALIZER_CHARSMAP: u64 = 2;
    pub(super) const NORMALIZER_DUMMY_PREFIX: u64 = 3;
    pub(super) const NORMALIZER_EXTRA_SPACES: u64 = 4;
    pub(super) const NORMALIZER_ESCAPE: u64 = 5;
}

/// Value of one field, by wire type.
enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8], usize),
}

/// Reads the fields of one message.
struct Fields<'a> {
    rest: &'a [u8],
    /// Place of `rest` in the file.
    offset: usize,
}

impl<'a> Fields<'a> {
    fn error(&self, detail: &'static str) -> TokenizerError {
        TokenizerError::Protobuf { offset: self.offset, detail }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], TokenizerError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error("a field reaches beyond the end of its message"));
        };
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, TokenizerError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a number has more than 10 bytes"))
    }

    /// Number and value of the next field.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, TokenizerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| self.error("a length exceeds the address space"))?;
                let offset = self.offset;
                Value::Bytes(self.take(len)?, offset)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().expect("four bytes taken")),
            _ => return Err(self.error("an unknown wire type, expected 0, 1, 2 or 5")),
        };
        Ok(Some((key >> 3, value)))
    }
}

impl SentencePieceModel {
    /// Reads a tokenizer.model.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenizerError> {
        // Defaults of the proto file: a unigram model with a dummy prefix that removes extra spaces.
        let mut model =
            SentencePieceModel { pieces: Vec::new(), model_type: 1, add_dummy_prefix: true, changes_text: false };
        let (mut has_charsmap, mut removes_spaces) = (false, true);
        let mut fields = Fields { rest: bytes, offset: 0 };
        while let Some((number, value)) = fields.next()? {
            let Value::Bytes(rest, offset) = value else { continue };
            let mut message = Fields { rest, offset };
            match number {
                field::MODEL_PIECES => {
                    if model.pieces.len() == MAX_TOKENS {
                        return Err(fields.error("more pieces than any vocabulary has"));
                    }
                    model.pieces.push(piece(&mut message)?);
                }
                field::MODEL_TRAINER => {
                    while let Some((number, value)) = message.next()? {
                        if let (field::TRAINER_MODEL_TYPE, Value::Varint(n)) = (number, value) {
                            model.model_type = n;
                        }
                    }
                }
                field::MODEL_NORMALIZER => {
                    while let Some((number, value)) = message.next()? {
                        match (number, value) {
                            (field::NORMALIZER_CHARSMAP, Value::Bytes(map, _)) => has_charsmap = !map.is_empty(),
                            (field::NORMALIZER_DUMMY_PREFIX, Value::Varint(n)) => model.add_dummy_prefix = n != 0,
                            (field::NORMALIZER_EXTRA_SPACES, Value::Varint(n)) => removes_spaces = n != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(fields.error("the model has no pieces"));
        }
        model.changes_text = has_charsmap || removes_spaces;
        Ok(model)
    }
}

fn piece(message: &mut Fields<'_>) -> Result<(String, f32, TokenKind), TokenizerError> {
    let (mut text, mut score, mut kind) = ("", 0.0, TokenKind::Normal);
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (field::PIECE_TEXT, Value::Bytes(bytes, _)) => {
                text = std::str::from_utf8(bytes).map_err(|_| message.error("the text of a piece is not UTF-8"))?;
            }
            (field::PIECE_SCORE, Value::Fixed32(bytes)) => score = f32::from_le_bytes(bytes),
            (field::PIECE_TYPE, Value::Varint(n)) => {
                // The numbers of SentencePiece and of GGUF are the same.
                kind = i32::try_from(n)
                    .ok()
                    .and_then(TokenKind::from_ggml)
                    .ok_or_else(|| message.error("the type of a piece is unknown, expected 1 to 6"))?;
            }
            _ => {}
        }
    }
    Ok((text.to_owned(), score, kind))
}

/// What [`write`] says beside the pieces.
pub(super) struct Header {
    /// unk, bos, eos, pad.
    pub(super) ids: [Option<u32>; 4],
    pub(super) add_dummy_prefix: bool,
}

/// Writes a tokenizer.model that SentencePiece loads.
pub(super) fn write(pieces: &[(String, f32, TokenKind)], header: &Header) -> Vec<u8> {
    let mut out = Message::default();
    for (text, score, kind) in pieces {
        let mut piece = Message::default();
        piece.bytes(field::PIECE_TEXT, text.as_bytes());
        piece.fixed32(field::PIECE_SCORE, score.to_le_bytes());
        if *kind != TokenKind::Normal {
            piece.varint(field::PIECE_TYPE, *kind as u64);
        }
        out.bytes(field::MODEL_PIECES, &piece.0);
    }
    let mut trainer = Message::default();
    trainer.varint(field::TRAINER_MODEL_TYPE, MODEL_TYPE_BPE);
    trainer.varint(field::TRAINER_VOCAB_SIZE, pieces.len() as u64);
    trainer.varint(field::TRAINER_BYTE_FALLBACK, u64::from(pieces.iter().any(|p| p.2 == TokenKind::Byte)));
    for (number, id) in field::TRAINER_IDS.into_iter().zip(header.ids) {
        trainer.varint(number, id.map_or(u64::MAX, u64::from)); // -1 as protocol buffers write it: absent
    }
    for (number, id) in field::TRAINER_PIECES.into_iter().zip(header.ids) {
        if let Some((text, _, _)) = id.and_then(|id| pieces.get(id as usize)) {
            trainer.bytes(number, text.as_bytes());
        }
    }
    out.bytes(field::MODEL_TRAINER, &trainer.0);
    let mut normalizer = Message::default();
    normalizer.bytes(field::NORMALIZER_NAME, b"identity");
    normalizer.varint(field::NORMALIZER_DUMMY_PREFIX, u64::from(header.add_dummy_prefix));
    normalizer.varint(field::NORMALIZER_EXTRA_SPACES, 0);
    normalizer.varint(field::NORMALIZER_ESCAPE, 1);
    out.bytes(field::MODEL_NORMALIZER, &normalizer.0);
    out.0
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80); // the low seven bits
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.number(field << 3);
        self.number(value);
    }

    fn fixed32(&mut self, field: u64, value: [u8; 4]) {
        self.number(field << 3 | 5);
        self.0.extend(value);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.number(field << 3 | 2);
        self.number(value.len() as u64);
        self.0.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pieces = vec![
            ("<unk>".to_owned(), 0.0, TokenKind::Unknown),
            ("<0x0A>".to_owned(), 0.0, TokenKind::Byte),
            ("▁t".to_owned(), -0.5, TokenKind::Normal),
        ];
        let header = Header { ids: [Some(0), None, None, None], add_dummy_prefix: false };
        let model = SentencePieceModel::parse(&write(&pieces, &header)).unwrap();
        let expect =
            SentencePieceModel { pieces, model_type: MODEL_TYPE_BPE, add_dummy_prefix: false, changes_text: false };
        assert_eq!(model, expect);
    }

    #[test]
    fn a_broken_message_is_an_error_with_its_place() {
        let error = |bytes: &[u8]| SentencePieceModel::parse(bytes).unwrap_err().to_string();
        assert!(error(&[]).contains("no pieces"));
        assert!(error(&[0x0a, 0x05, 0x0a]).contains("byte 2: a field reaches beyond"));
        assert!(error(&[0x0b]).contains("wire type"));
        assert!(error(&[0x80; 12]).contains("more than 10 bytes"));
        assert!(error(&[0x0a, 0x02, 0x18, 0x63]).contains("type of a piece"));
        assert!(error(&[0x0a, 0x03, 0x0a, 0x01, 0xff]).contains("not UTF-8"));
        assert!(error(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).contains("beyond the end"));
    }
}
