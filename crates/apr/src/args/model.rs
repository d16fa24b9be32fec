//! Arguments of the commands that look at one model.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Inspect {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,
}

#[derive(Args)]
pub(crate) struct Validate {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Show statistics of every tensor.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Accept nothing that is noticed, also where no check fails by it.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Succeed if this share of the computed checks passes, in percent, and not only if all do.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) min_score: Option<u8>,
}

#[derive(Args)]
pub(crate) struct Tensors {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Read every value: extremes, mean, deviation, zeros, NaN and infinities.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Only tensors whose name, canonical or as stored, contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}

#[derive(Args)]
pub(crate) struct Tree {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Only tensors whose name, canonical or as stored, contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Show this many parts of the names and sum up what is below.
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<std::num::NonZeroUsize>,
}

#[derive(Args)]
pub(crate) struct Hex {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// Show this tensor, canonical name or as stored: its description, and its first blocks decoded.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["raw", "file"])]
    pub(crate) tensor: Option<String>,
    /// Number of blocks to decode.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "tensor")]
    pub(crate) blocks: u64,
    /// Show this file of several; the first one with tensors by default.
    #[arg(long, value_name = "NAME", conflicts_with = "raw")]
    pub(crate) file: Option<String>,
    /// Show bytes as they are, also of a file that is damaged or no model.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Show what lies at this byte and behind it.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) offset: u64,
    /// Show at most this many lines; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) limit: usize,
}
