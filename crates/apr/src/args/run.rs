//! Arguments of `run`.

use super::{Generation, Mode};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Run {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// The prompt; standard input where it is `-`.
    #[arg(conflicts_with_all = ["prompt", "file"])]
    pub(crate) prompt_text: Option<String>,
    /// The prompt, as an option.
    #[arg(short, long, conflicts_with = "file")]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a UTF-8 file, to its last byte.
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) generation: Generation,
    /// Report the log-probability of each token and of the N most probable ones.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5")]
    pub(crate) logprobs: Option<usize>,
    /// Say on stderr what is loaded, what runs it, and how long it takes.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}
