//! The model inside the command, so that an installed binary needs no files.

use apr_formats::{OpenError, Source, SourceFile};
use apr_tensor::Bytes;
use std::path::{Path, PathBuf};

/// Prefix of the names of models inside the command.
pub(crate) const SCHEME: &str = "builtin:";

macro_rules! tiny {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../models/tiny-qwen2/", $name)))),+]
    };
}

/// The Transformers directory `models/tiny-qwen2`: a trained Qwen2 of 3.7 million parameters.
const TINY: &[BuiltinFile] = tiny![
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
];

/// Name and content of a file inside the command.
pub type BuiltinFile = (&'static str, &'static [u8]);

/// Names of the models inside the command, with their files.
pub const MODELS: &[(&str, &[BuiltinFile])] = &[("builtin:tiny", TINY)];

/// The files of a built-in model, if `path` names one.
pub(crate) fn source(path: &Path) -> Option<Result<Source, OpenError>> {
    let (_, files) = MODELS.iter().find(|(name, _)| path.as_os_str() == *name)?;
    let files = files.iter().map(|&(name, bytes)| SourceFile { name: name.to_owned(), bytes: Bytes::from(bytes) });
    Some(Source::from_memory(PathBuf::from(path), files.collect()))
}
