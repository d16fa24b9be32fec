//! The command line, as clap reads it.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Convert, verify and run language models in GGUF, SafeTensors and APR, without losing anything on the way.
#[derive(Parser)]
#[command(name = "apr", version, max_term_width = 100, after_help = exit_codes())]
pub(crate) struct Cli {
    /// Print the result as JSON on stdout, also when the command fails.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate text from a prompt.
    Run(Box<Run>),
    /// Show what a model file says about itself.
    Inspect(Inspect),
    /// Check that a model is sound: structure, checksums, and every value.
    Validate(Validate),
    /// Convert between formats and compare models.
    #[command(subcommand)]
    Rosetta(Rosetta),
    /// List commands, formats, dtypes, architectures and devices of this build.
    Capabilities,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
pub(crate) enum Rosetta {
    /// Convert a model; the way back gives the same files.
    Convert(Convert),
    /// Convert through several formats in turn.
    Chain(Chain),
    /// Show what a model file says about itself.
    Inspect(Inspect),
    /// Compare every value, the tokenizer and the hyper-parameters of two models.
    Verify(Pair),
    /// Compare the logits and the generated tokens of two models.
    CompareInference(CompareInference),
    /// Compare names, shapes and dtypes of the tensors of two models.
    DiffTensors(DiffTensors),
}

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

#[derive(Args)]
pub(crate) struct Run {
    /// File, directory, or `builtin:tiny`.
    pub(crate) model: PathBuf,
    /// The prompt; standard input where it is `-`.
    pub(crate) prompt_text: Option<String>,
    /// The prompt, as an option.
    #[arg(short, long, conflicts_with = "prompt_text")]
    pub(crate) prompt: Option<String>,
    /// Most tokens to generate.
    #[arg(short = 'n', long, visible_alias = "predict", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    #[command(flatten)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Longest context in tokens; the model's own where not given.
    #[arg(short, long, value_name = "TOKENS")]
    pub(crate) ctx_size: Option<usize>,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    /// Say on stderr what is loaded, what runs it, and how long it takes.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// How the prompt reaches the model. Without either flag the chat template is used where the model has one.
#[derive(Args)]
pub(crate) struct Mode {
    /// Put the prompt into the model's chat template.
    #[arg(long, conflicts_with = "raw")]
    pub(crate) chat: bool,
    /// Give the prompt to the model as it is.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Args)]
pub(crate) struct DeviceArgs {
    /// Run on the GPU; an error where there is none.
    #[arg(long, conflicts_with_all = ["no_gpu", "backend"])]
    pub(crate) gpu: bool,
    /// Run on the CPU.
    #[arg(long, visible_alias = "cpu", conflicts_with = "backend")]
    pub(crate) no_gpu: bool,
    /// What runs the model.
    #[arg(long, visible_alias = "device", value_enum, default_value_t = BackendArg::Auto)]
    pub(crate) backend: BackendArg,
    /// Threads; one per processor that may be used where not given.
    #[arg(short, long)]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    Auto,
    Cpu,
    Gpu,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheArg {
    F32,
    F16,
}

#[derive(Args)]
pub(crate) struct Sampling {
    /// 0 takes the most likely token; higher is more random.
    #[arg(long, visible_alias = "temperature", default_value_t = 0.0)]
    pub(crate) temp: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Keep tokens at least this many times as likely as the most likely one.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Make tokens seen lately less likely; 1 does nothing.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repeat_penalty: f32,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// The clap definition, for completions and `capabilities`.
pub fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

fn exit_codes() -> String {
    let rows = apr_report::EXIT_CODES.iter().map(|row| format!("  {:>2}  {}", row.code.code(), row.meaning));
    format!("Exit status:\n{}", rows.collect::<Vec<_>>().join("\n"))
}
