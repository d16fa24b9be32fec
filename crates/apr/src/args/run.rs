//! Arguments of `run`.

use super::{CacheArg, DeviceArgs, Mode, Sampling};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Run {
    /// File, directory, or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// The prompt; standard input where it is `-`.
    pub(crate) prompt_text: Option<String>,
    /// The prompt, as an option.
    #[arg(short, long, conflicts_with = "prompt_text")]
    pub(crate) prompt: Option<String>,
    /// Most tokens to generate.
    #[arg(short = 'n', long, visible_alias = "predict", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    #[command(flatten)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Longest context in tokens; the model's own where not given.
    #[arg(short, long, value_name = "TOKENS")]
    pub(crate) ctx_size: Option<usize>,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    /// Say on stderr what is loaded, what runs it, and how long it takes.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}
