//! GGUF: ggml's container. Versions 2 and 3, in either byte order; version 3, little-endian, is written.
//!
//! Source: ggml's `docs/gguf.md` and the stricter checks of `gguf.cpp`.

mod anatomy;
mod container;
mod edit;
mod elsewhere;
mod header;
mod keys;
mod members;
mod reader;
mod repack;
mod rope;
mod split;
mod stacks;
mod str_list;
mod templates;
mod typed_text;
mod variation;
mod writer;

pub(crate) use anatomy::describe;
pub use edit::{Edit, EditError, EditedKey, Edits, plan_edit};
pub(crate) use elsewhere::differences;
pub(crate) use header::no_overlap;
pub use header::{Array, Header, TensorInfo, Value};
pub(crate) use members::{interleaved, relayout};
pub(crate) use reader::{read, summary};
pub(crate) use repack::repack;
pub(crate) use split::ShardName;
pub(crate) use writer::layout;

/// Key of the capsule.
pub(crate) const CAPSULE_KEY: &str = "apr.capsule";
/// Key of the family, where several have one `general.architecture`: llama.cpp's converter writes a mistral model as llama.
pub(crate) const FAMILY_KEY: &str = "apr.family";
/// Key of the ids that end generation (GGUF itself names one or two of them).
pub(crate) const STOP_IDS_KEY: &str = "apr.stop_token_ids";
/// `tokenizer.ggml.model` of a model without a tokenizer. llama.cpp asks for the key, and takes the size of such a
/// vocabulary from `vocab_size`.
const NO_TOKENIZER: &str = "none";
/// Most dimensions of a tensor.
const MAX_DIMS: usize = 4;
/// Alignment of tensor data where a file states none.
const DEFAULT_ALIGNMENT: u64 = 32;
