//! Arguments of the conversions.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Convert {
    /// File, directory, or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// File to write, or directory for a SafeTensors model.
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
    /// Format of the target, where its name does not tell: gguf, safetensors, apr.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<String>,
}

#[derive(Args)]
pub(crate) struct ConvertOptions {
    /// Store the values in another dtype; what changes is measured and reported.
    #[arg(long, value_name = "DTYPE")]
    pub(crate) dtype: Option<String>,
    /// Replace what is there.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Leave out the recipe that gives back the same files.
    #[arg(long)]
    pub(crate) no_capsule: bool,
}

#[derive(Args)]
pub(crate) struct Chain {
    /// File, directory, or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// Formats in turn: gguf, safetensors, apr.
    #[arg(required = true, num_args = 1..)]
    pub(crate) formats: Vec<String>,
    /// Directory for the results, made if it is not there.
    #[arg(long, default_value = "rosetta-work")]
    pub(crate) work_dir: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
}
