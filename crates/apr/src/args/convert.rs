//! Arguments of the conversions.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Convert {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// File to write, or directory for a SafeTensors model or an APR model in several files.
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
    /// The config.json of a SafeTensors file that has none beside it.
    #[arg(long, value_name = "CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Format of the target, where its name does not tell: gguf, safetensors, apr.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<String>,
}

#[derive(Args)]
pub(crate) struct Import {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// APR file to write, or directory for one in several files.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
}

#[derive(Args)]
pub(crate) struct Export {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// Format to write: gguf, safetensors, apr.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: String,
    /// File to write, or directory for a SafeTensors model or an APR model in several files.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
}

#[derive(Args, Clone)]
pub(crate) struct ConvertOptions {
    /// Store the values in another dtype; what changes is measured and reported.
    #[arg(long, value_name = "DTYPE")]
    pub(crate) dtype: Option<String>,
    /// Replace what is there.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Compute everything, show what would be written, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave out the recipe that gives back the same files.
    #[arg(long)]
    pub(crate) no_capsule: bool,
    /// Split the model over files with at most this many bytes of tensors each: 2GB, 500MB, 1GiB.
    #[arg(long, value_name = "SIZE", alias = "split-max-size", value_parser = size_bytes)]
    pub(crate) shard_size: Option<u64>,
}

/// A number of bytes with its unit: powers of 1000 with `KB`, `MB`, `GB`, of 1024 with `KiB`, `MiB`, `GiB`.
pub(super) fn size_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("b", 1),
    ];
    let lower = text.to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(name, n)| Some((lower.strip_suffix(name)?, *n)));
    let (number, unit) = unit.unwrap_or((&lower, 1));
    let n = number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|&n| n > 0);
    n.ok_or_else(|| "expected a whole number of bytes, KB, MB, GB, KiB, MiB or GiB".to_owned())
}

#[derive(Args)]
pub(crate) struct Chain {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) source: PathBuf,
    /// Formats in turn: gguf, safetensors, apr.
    #[arg(required = true, num_args = 1..)]
    pub(crate) formats: Vec<String>,
    /// Directory for the results, made if it is not there. In a dry run they lie in a temporary one until the end.
    #[arg(long, default_value = "rosetta-work")]
    pub(crate) work_dir: PathBuf,
    #[command(flatten)]
    pub(crate) options: ConvertOptions,
}

#[cfg(test)]
mod tests {
    use super::size_bytes;

    #[test]
    fn sizes_have_units_of_1000_or_1024() {
        for (text, expected) in [
            ("1", Some(1)),
            ("512B", Some(512)),
            ("2GB", Some(2_000_000_000)),
            ("2g", Some(2_000_000_000)),
            ("500 MB", Some(500_000_000)),
            ("1GiB", Some(1 << 30)),
            ("3kib", Some(3072)),
            ("0", None),
            ("", None),
            ("GB", None),
            ("1.5GB", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("18446744073709551615GB", None),
        ] {
            assert_eq!(size_bytes(text).ok(), expected, "{text:?}");
        }
    }
}
