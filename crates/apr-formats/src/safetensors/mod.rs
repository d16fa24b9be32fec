//! SafeTensors, alone or as the weights of a Transformers directory.
//!
//! Source: the format text of the safetensors repository and the checks of its reference library.

mod anatomy;
mod config;
mod elsewhere;
mod header;
mod names;
mod reader;
mod templates;
mod writer;

pub(crate) use anatomy::describe;
pub(crate) use elsewhere::differences;
pub use header::{Header, TensorInfo};
pub(crate) use reader::{read, summary};
pub(crate) use writer::layout;

/// Key of the header that is not a tensor.
pub(crate) const METADATA_KEY: &str = "__metadata__";
/// Key of the capsule in `__metadata__`.
pub(crate) const CAPSULE_KEY: &str = "apr.capsule";
/// Key that names dtype and shape of tensors whose blocks are carried as bytes.
pub(crate) const PACKED_KEY: &str = "apr.packed";
