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
pub(crate) struct Fingerprint {
    /// File, directory, or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Another model, or what `--json` printed of it (`NAME.json`): exit status 5 where the fingerprints differ.
    pub(crate) other: Option<PathBuf>,
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
    /// Compare values, too, and say what turned one tensor into the other: transposition, rows, heads or columns in
    /// another order, a scale, an offset, another dtype, a shift.
    #[arg(long)]
    pub(crate) values: bool,
}
