//! Arguments of the commands that take a text and don't continue it.

use super::{CacheArg, DeviceArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Where a text comes from.
#[derive(Args)]
pub(crate) struct TextArgs {
    /// The text; standard input where it is `-`.
    pub(crate) text: Option<String>,
    /// Read the text from a UTF-8 file, to its last byte.
    #[arg(short, long, conflicts_with = "text")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Tokenize {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) text: TextArgs,
    /// Turn these token ids into text instead.
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',', conflicts_with_all = ["text", "file"])]
    pub(crate) decode: Vec<u32>,
    /// Add no begin and end token; with --decode leave control tokens out of the text.
    #[arg(long)]
    pub(crate) no_special: bool,
}

#[derive(Args)]
pub(crate) struct Embed {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) text: TextArgs,
    /// Take each line as a text of its own.
    #[arg(long)]
    pub(crate) lines: bool,
    /// How the states of the tokens become one vector.
    #[arg(long, value_enum, default_value_t = PoolingArg::Mean)]
    pub(crate) pooling: PoolingArg,
    /// Scale each vector to length 1.
    #[arg(long)]
    pub(crate) normalize: bool,
    /// Add no begin and end token.
    #[arg(long)]
    pub(crate) no_special: bool,
    /// Longest context in tokens; the model's own where not given.
    #[arg(short, long, value_name = "TOKENS")]
    pub(crate) ctx_size: Option<usize>,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolingArg {
    /// The mean of all tokens.
    Mean,
    /// The last token.
    Last,
    /// The first token.
    #[value(alias = "cls")]
    First,
}
