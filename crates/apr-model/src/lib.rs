//! Floor 1: the one in-memory form of a model.
//!
//! *In:* what a reader found in a file, already bounds-checked. *Out:* a [`Checkpoint`]: hyper-parameters, tensors under
//! canonical names, tokenizer, chat templates, and how to write the source again.
//! *Afterwards:* the file format is forgotten; a tensor's byte size agrees with its dtype and shape.
//! *Absent on purpose:* file I/O, arithmetic, and per-architecture code: an architecture is a row of a table.
#![forbid(unsafe_code)]

mod arch;
mod cause;
mod chat_templates;
mod checkpoint;
mod compare;
mod file_type;
mod finding;
mod fingerprint;
mod identity;
mod origin;
mod relayout;
mod role;
mod spec;
mod stats;
mod tokenizer;
mod unknown;
mod variation;

pub use arch::{
    ARCHITECTURES, Activation, Architecture, GgufForm, MlpKind, NormKind, NormPlacement, Positions, Presence, QkNorm,
    WindowRule, architecture_by_gguf, architecture_by_hf, architecture_by_id,
};
pub use cause::Cause;
pub use chat_templates::{ChatTemplates, ChatTemplatesError, DEFAULT_TEMPLATE};
pub use checkpoint::{Checkpoint, Format, Tensor, TensorError, Tensors};
pub use compare::{ValueDifference, compare_values, for_each_chunk};
pub use file_type::{Choice, FILE_TYPES, FileType, Mixing, UnknownFileType};
pub use finding::{Finding, Severity};
pub use fingerprint::{Fingerprint, TensorFingerprint};
pub use origin::{Origin, OriginFile, Piece};
pub use relayout::Relayout;
pub use role::{LayerRole, NameRow, Part, TensorRole};
pub use spec::{ModelSpec, SpecError};
pub use stats::TensorStats;
pub use tokenizer::{
    BpeTables, GgufTokenizer, HfTokenizerFiles, MAX_TOKEN_BYTES, MAX_TOKENS, Merge, PRE_TOKENIZERS, PreTokenizer,
    SameText, SpacePrefix, SpecialIds, TextIndex, Texts, TokenKind, TokenizerError, TokenizerModel, TokenizerSpec,
    Vocab, byte_of_piece,
};
pub use unknown::{Spec, UnknownArchitecture};
pub use variation::{AttnScale, Experts, RopeScaling, Variation, Window};
