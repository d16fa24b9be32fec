//! The tokenizer as data: what GGUF and APR store, and what a Transformers tokenizer.json says.

/// Type of a token. The numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum TokenKind {
    /// An ordinary piece.
    Normal = 1,
    /// Stands for unknown input.
    Unknown = 2,
    /// Special: matched as a whole, not shown in decoded text.
    Control = 3,
    /// Added by the model's maker: matched as a whole, shown in decoded text.
    UserDefined = 4,
    /// A row of the embedding without a token.
    Unused = 5,
    /// One raw byte (`<0x0A>`) of a SentencePiece model.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this `tokenizer.ggml.token_type` number.
    pub fn from_ggml(value: i32) -> Option<Self> {
        use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|&kind| kind as i32 == value)
    }
}

/// How text before merging is cut into words: a row of [`PRE_TOKENIZERS`].
#[derive(Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    /// `tokenizer.ggml.pre` in GGUF.
    pub gguf: &'static str,
    /// The splitting pattern as Transformers writes it, applied before the byte-level step.
    pub regex: Option<&'static str>,
    /// Whether text is brought into Unicode NFC first.
    pub nfc: bool,
    /// Whether a word that is a token as a whole is taken without merging.
    pub ignore_merges: bool,
}

/// Pre-tokenizers of byte-level BPE models. Source: the tokenizer.json files of the named families, and llama.cpp's
/// list of `tokenizer.ggml.pre` values.
pub const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        gguf: "qwen2",
        regex: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: true,
        ignore_merges: false,
    },
    PreTokenizer {
        gguf: "llama-bpe",
        regex: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: false,
        ignore_merges: true,
    },
    PreTokenizer { gguf: "gpt-2", regex: None, nfc: false, ignore_merges: false },
];

/// The algorithm and its tables.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerModel {
    /// Byte-level BPE (`gpt2` in GGUF).
    ByteLevelBpe {
        /// How text is cut before merging.
        pre: &'static PreTokenizer,
        /// Merges in rank order, left and right piece.
        merges: Vec<(String, String)>,
    },
    /// SentencePiece BPE with byte fallback (`llama` in GGUF).
    SentencePiece {
        /// Score of each token; a higher score merges first. Same length as the vocabulary.
        scores: Vec<f32>,
        /// Whether a space is put before the text.
        add_space_prefix: bool,
    },
}

/// Token texts and kinds; the index is the id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vocab {
    /// Text as stored (byte-level alphabet or `▁` spelling).
    pub texts: Vec<String>,
    /// Kind of each token.
    pub kinds: Vec<TokenKind>,
}

/// Ids with a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SpecialIds {
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text or turn.
    pub eos: Option<u32>,
    /// Unknown token.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Every id that ends generation (contains `eos`), ascending.
    pub stop: Vec<u32>,
    /// Whether encoding puts `bos` first.
    pub add_bos: bool,
    /// Whether encoding puts `eos` last.
    pub add_eos: bool,
}

/// A tokenizer as data.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerSpec {
    /// Algorithm and tables.
    pub model: TokenizerModel,
    /// Tokens, without trailing unused rows of the embedding.
    pub vocab: Vocab,
    /// Ids with a meaning.
    pub special: SpecialIds,
}
