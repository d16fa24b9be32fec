//! Arguments of `bench`, `profile` and `eval`.

use super::{CacheArg, DeviceArgs};
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Bench {
    /// Files, directories, models in the hub's cache (org/name), or `builtin:tiny`.
    #[arg(required = true, num_args = 1..)]
    pub(crate) models: Vec<PathBuf>,
    /// Tokens of the prompt; several with commas, 0 for no such test.
    #[arg(short = 'p', long, value_delimiter = ',', default_values_t = [512])]
    pub(crate) n_prompt: Vec<usize>,
    /// Tokens to generate one by one; several with commas, 0 for no such test.
    #[arg(short = 'n', long, value_delimiter = ',', default_values_t = [128])]
    pub(crate) n_gen: Vec<usize>,
    /// Tokens in the context before a test; several with commas.
    #[arg(short = 'd', long, value_delimiter = ',', default_values_t = [0])]
    pub(crate) depth: Vec<usize>,
    /// Tokens of the prompt after which a load has answered; 0 for no such test.
    #[arg(long, value_name = "TOKENS", default_value_t = 8)]
    pub(crate) load_prompt: usize,
    /// Threads; several with commas; one per processor that may be used where not given.
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) threads: Vec<NonZeroUsize>,
    /// Timed repetitions of each test. One prompt, or eight tokens, before them warm up.
    #[arg(short, long, default_value_t = NonZeroUsize::new(5).expect("not zero"))]
    pub(crate) repetitions: NonZeroUsize,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    /// Seed of the random token ids.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// How to print the result; `--json` is the same as `-o json`.
    #[arg(short, long, value_enum, default_value_t = BenchOutput::Text)]
    pub(crate) output: BenchOutput,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOutput {
    Text,
    Json,
    Csv,
    Md,
}

#[derive(Args)]
pub(crate) struct Profile {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    #[arg(required_unless_present = "compare")]
    pub(crate) model: Option<PathBuf>,
    /// Compare two profiles, operation by operation: models, or reports saved with `--format json`.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["model", "ci"])]
    pub(crate) compare: Option<Vec<PathBuf>>,
    /// How to print the result; `--json` is the same as `--format json`.
    #[arg(long, value_enum, default_value_t = ProfileFormat::Human)]
    pub(crate) format: ProfileFormat,
    /// Show every operation of every layer.
    #[arg(long)]
    pub(crate) granular: bool,
    /// Check assertions instead of timing operations; exit status 1 where one fails.
    #[arg(long)]
    pub(crate) ci: bool,
    /// Fail below so many decoded tokens per second (implies `--ci`).
    #[arg(long, value_name = "N", value_parser = threshold, allow_negative_numbers = true, conflicts_with = "compare")]
    pub(crate) assert_throughput: Option<f64>,
    /// Fail where half of the tokens take longer than so many milliseconds (implies `--ci`).
    #[arg(long, value_name = "MS", value_parser = threshold, allow_negative_numbers = true, conflicts_with = "compare")]
    pub(crate) assert_p50: Option<f64>,
    /// Fail where one token of a hundred takes longer than so many milliseconds (implies `--ci`).
    #[arg(long, value_name = "MS", value_parser = threshold, allow_negative_numbers = true, conflicts_with = "compare")]
    pub(crate) assert_p99: Option<f64>,
    /// Passes before the measurement.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) warmup: usize,
    /// Passes to measure; each decodes `--tokens` tokens, so the default gives 320 samples.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(10).expect("not zero"))]
    pub(crate) measure: NonZeroUsize,
    /// Tokens that a pass decodes.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(32).expect("not zero"))]
    pub(crate) tokens: NonZeroUsize,
    /// Tokens of the prompt before them.
    #[arg(short = 'p', long, value_name = "N", default_value_t = NonZeroUsize::new(128).expect("not zero"))]
    pub(crate) n_prompt: NonZeroUsize,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    /// Seed of the random token ids.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileFormat {
    Human,
    Json,
    Flamegraph,
}

/// A threshold that something can miss: a NaN compares with nothing, and nothing is below zero.
fn threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err(format!("{text:?} is no threshold, expected a finite number greater than 0")),
    }
}

#[derive(Args)]
#[command(after_long_help = "\
The text is tokenized as a whole. Windows of --window tokens start every --stride tokens, each in an empty context; a \
token is scored once, in the first window in which it is not the first token. So the first token of the text is never \
scored, and with --stride equal to --window neither is the first of any window. Perplexity is exp of the mean negative \
log-likelihood.")]
pub(crate) struct Eval {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// The text to predict, UTF-8.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// Compare with this model: divergence, agreement, and differences per position.
    #[arg(long, value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Tokens of a window; 512, or the model's context where that is shorter, where not given.
    #[arg(short, long, value_name = "TOKENS")]
    pub(crate) window: Option<NonZeroUsize>,
    /// Tokens from window to window; half a window where not given.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) stride: Option<NonZeroUsize>,
    /// Read only so many tokens of the text.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<NonZeroUsize>,
    /// List every scored token in the JSON report.
    #[arg(long)]
    pub(crate) positions: bool,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}
