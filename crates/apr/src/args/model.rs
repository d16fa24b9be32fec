//! Arguments of the commands that look at one model.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Inspect {
    /// File, directory, or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,
}

#[derive(Args)]
pub(crate) struct Validate {
    /// File, directory, or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Show statistics of every tensor.
    #[arg(long)]
    pub(crate) stats: bool,
}
