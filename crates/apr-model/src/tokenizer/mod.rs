//! The tokenizer as data: what GGUF and APR store, and what a Transformers directory says.
//!
//! Three sources, one canonical form: [`TokenizerSpec::from_hf`], [`TokenizerSpec::from_gguf`] and the writers beside
//! them. Facts that the formats spell differently are brought into one spelling here, so that a model gives an equal
//! spec whichever format it was read from.

mod canonical;
mod gguf;
mod hf_config;
mod hf_json;
mod hf_pipeline;
mod hf_read;
mod hf_write;
mod merges;
mod sentencepiece;
mod texts;

pub use canonical::byte_of_piece;
pub(crate) use canonical::shorten;
pub use gguf::GgufTokenizer;
pub use hf_read::HfTokenizerFiles;
pub use hf_write::BpeTables;
pub use merges::Merge;
pub use texts::{SameText, TextIndex, Texts};

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

    /// Whether the token is found in raw text as a whole, before the text is cut into pieces.
    pub fn is_atomic(self) -> bool {
        matches!(self, TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined)
    }

    /// Whether decoding leaves the token out where special tokens are skipped.
    pub fn is_special(self) -> bool {
        matches!(self, TokenKind::Unknown | TokenKind::Control)
    }
}

/// How text before merging is cut into words: a row of [`PRE_TOKENIZERS`].
#[derive(Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    /// `tokenizer.ggml.pre` in GGUF.
    pub gguf: &'static str,
    /// The splitting pattern as Transformers writes it, applied before the byte-level step. None: the pattern of
    /// GPT-2, which is part of the byte-level step.
    pub regex: Option<&'static str>,
    /// Whether text is brought into Unicode NFC first.
    pub nfc: bool,
    /// Whether a word that is a token as a whole is taken without merging.
    pub ignore_merges: bool,
    /// Whether encoding puts the begin token first where a GGUF file doesn't say.
    pub adds_bos: bool,
    /// `tokenizer_class` of the tokenizer_config.json written for it.
    pub hf_class: &'static str,
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
        adds_bos: false,
        hf_class: "Qwen2Tokenizer",
    },
    PreTokenizer {
        gguf: "llama-bpe",
        regex: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: false,
        ignore_merges: true,
        adds_bos: true,
        hf_class: "PreTrainedTokenizerFast",
    },
    PreTokenizer {
        gguf: "gpt-2",
        regex: None,
        nfc: false,
        ignore_merges: false,
        adds_bos: false,
        hf_class: "PreTrainedTokenizerFast",
    },
];

/// Where a SentencePiece tokenizer puts a space (`▁`) before text. A segment is the text between two atomic tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpacePrefix {
    /// Nowhere.
    Never,
    /// Before every segment, also before one that starts with a space: the `Prepend` normalizer of Transformers,
    /// `add_space_prefix` in GGUF.
    Always,
    /// Before a segment at the start of the text, unless it starts with a space: `Metaspace` with `first`.
    MetaspaceFirst,
    /// Before every segment that doesn't start with a space: `Metaspace` with `always`.
    MetaspaceAlways,
}

/// The algorithm and its tables.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerModel {
    /// Byte-level BPE (`gpt2` in GGUF).
    ByteLevelBpe {
        /// How text is cut before merging.
        pre: &'static PreTokenizer,
        /// Merges in rank order.
        merges: Vec<Merge>,
    },
    /// SentencePiece BPE with byte fallback (`llama` in GGUF).
    SentencePiece {
        /// Score of each token; a higher score merges first. Same length as the vocabulary; 0 for tokens that are
        /// not [`TokenKind::Normal`], whose scores nobody reads and every converter writes differently.
        scores: Vec<f32>,
        /// Where a space is put before text.
        space_prefix: SpacePrefix,
    },
}

/// Token texts and kinds; the index is the id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vocab {
    /// Text as stored (byte-level alphabet or `▁` spelling).
    pub texts: Texts,
    /// Kind of each token.
    pub kinds: Vec<TokenKind>,
}

impl Vocab {
    /// Number of tokens. The embedding may have more rows.
    pub fn n_tokens(&self) -> u32 {
        u32::try_from(self.texts.len()).unwrap_or(u32::MAX)
    }

    /// The token with this id.
    pub fn get(&self, id: u32) -> Option<(&str, TokenKind)> {
        let idx = usize::try_from(id).ok()?;
        Some((self.texts.get(idx)?, *self.kinds.get(idx)?))
    }
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
    /// Whether encoding puts `bos` first; false where there is no `bos`.
    pub add_bos: bool,
    /// Whether encoding puts `eos` last; false where there is no `eos`.
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

/// Most tokens that a vocabulary may have: far above any model, far below what could exhaust memory.
pub const MAX_TOKENS: usize = 1 << 22;

/// Longest token text in bytes: far above any model; keeps the search for merges linear in practice.
pub const MAX_TOKEN_BYTES: usize = 2048;

/// Why a tokenizer can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// Something that every tokenizer of this kind has is not there.
    #[error("{what} is missing: {next}")]
    Missing {
        /// File or key.
        what: &'static str,
        /// What to do about it.
        next: &'static str,
    },
    /// A JSON file doesn't have the structure it must have.
    #[error("{file}: {detail}")]
    Json {
        /// Name of the file.
        file: &'static str,
        /// What the parser found, with its place.
        detail: String,
    },
    /// tokenizer.model is not a SentencePiece model.
    #[error("tokenizer.model: byte {offset}: {detail}")]
    Protobuf {
        /// Place in the file.
        offset: usize,
        /// What was found and expected.
        detail: &'static str,
    },
    /// A fact that this project has no implementation of.
    #[error("{what} is {found}, expected {expected}")]
    Unsupported {
        /// File and field, or key.
        what: &'static str,
        /// The value found.
        found: String,
        /// The values that are implemented.
        expected: String,
    },
    /// A list has another length than the vocabulary.
    #[error("{what} has {found} entries, expected one for each of {expected} tokens")]
    Length {
        /// File and field, or key.
        what: &'static str,
        /// Entries found.
        found: usize,
        /// Number of tokens.
        expected: usize,
    },
    /// An id that names no token.
    #[error("{what} is {id}, but the vocabulary has the ids 0 to {last}")]
    IdOutOfRange {
        /// File and field, or key.
        what: String,
        /// The id found.
        id: i64,
        /// The last valid id.
        last: i64,
    },
    /// A token that can't be one.
    #[error("token {id} {text:?}: {detail}")]
    Token {
        /// Its id.
        id: u32,
        /// Its text, shortened.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A merge that can't be one.
    #[error("merge {rank} {merge:?}: {detail}")]
    Merge {
        /// Place in the list, from 0.
        rank: usize,
        /// The merge as found, shortened.
        merge: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Two files of one directory contradict each other.
    #[error("{what}; re-export the tokenizer so that its files agree, or delete tokenizer.model if it is outdated")]
    Contradiction {
        /// Both statements.
        what: String,
    },
}
