//! Arguments of `apr quantize`.

use super::convert::size_bytes;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Quantize {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// File to write, or directory for a SafeTensors model or an APR model in several files.
    pub(crate) target: PathBuf,
    /// File type, which chooses a dtype for every matrix.
    #[arg(long = "type", value_name = "TYPE", help = types())]
    pub(crate) file_type: String,
    /// Importance of columns, as llama-imatrix writes it, in either of its formats.
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Another dtype for the matrices whose name, of Transformers or of GGUF, the expression matches; the first one that
    /// matches counts.
    #[arg(long, value_name = "REGEX=DTYPE")]
    pub(crate) tensor_type: Vec<String>,
    /// Quantise blocks that are quantised already, which adds to their error.
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    /// Show what would become of each tensor and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Replace what is there.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Format of the target, where its name does not tell: gguf, safetensors, apr.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<String>,
    /// Split the model over files with at most this many bytes of tensors each: 2GB, 500MB, 1GiB.
    #[arg(long, value_name = "SIZE", alias = "split-max-size", value_parser = size_bytes)]
    pub(crate) shard_size: Option<u64>,
    /// Threads; all processors by default. The result is the same for any number.
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

fn types() -> String {
    let names: Vec<_> = apr_model::FILE_TYPES.iter().map(|row| row.name).collect();
    format!("File type, which chooses a dtype for every matrix: {}", names.join(" "))
}
