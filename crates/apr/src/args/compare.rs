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
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
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

#[derive(Args)]
pub(crate) struct ValidateStats {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Model to compare with, or what `apr rosetta fingerprint --json` printed about one, in a file ending in .json.
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) reference: PathBuf,
    /// Largest deviation to accept, in standard deviations of the reference's tensor.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = threshold)]
    pub(crate) threshold: f64,
}

fn threshold(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| "expected a number that is not negative".to_owned())
}
