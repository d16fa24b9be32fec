//! Arguments of the comparisons of two models.

use super::{DeviceArgs, Mode};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Pair {
    /// First model.
    pub(crate) a: PathBuf,
    /// Second model.
    pub(crate) b: PathBuf,
}

#[derive(Args)]
pub(crate) struct CompareInference {
    #[command(flatten)]
    pub(crate) pair: Pair,
    /// Prompt given to both.
    #[arg(short, long, default_value = "What is 2+2?")]
    pub(crate) prompt: String,
    /// Most tokens to generate.
    #[arg(short = 'n', long, default_value_t = 16)]
    pub(crate) max_tokens: usize,
    #[command(flatten)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Args)]
pub(crate) struct DiffTensors {
    #[command(flatten)]
    pub(crate) pair: Pair,
    /// Compare only tensors whose name contains this.
    #[arg(long)]
    pub(crate) filter: Option<String>,
}
