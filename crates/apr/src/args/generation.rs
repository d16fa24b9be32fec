//! Arguments that every generating command takes.

use apr_engine::CacheDType;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `run` and `chat` take alike.
#[derive(Args)]
pub(crate) struct Generation {
    /// Most tokens to generate.
    #[arg(short = 'n', long, visible_alias = "predict", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// The system message of the conversation; needs a chat template.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Another chat template than the model's default one: the name of one that the model has, or a file in Jinja.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) chat_template: Option<String>,
    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Hold the answer to a grammar in Lark, as llguidance reads it.
    #[arg(long, value_name = "FILE", conflicts_with = "json_schema")]
    pub(crate) grammar: Option<PathBuf>,
    /// Hold the answer to a JSON schema, given as a file or as the schema itself.
    #[arg(long, value_name = "FILE|SCHEMA")]
    pub(crate) json_schema: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Longest context in tokens; the model's own where not given.
    #[arg(short, long, value_name = "TOKENS")]
    pub(crate) ctx_size: Option<usize>,
    /// Dtype of the key-value cache.
    #[arg(long, value_enum, default_value_t = CacheArg::F32)]
    pub(crate) kv_cache: CacheArg,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
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

impl CacheArg {
    pub(crate) fn dtype(self) -> CacheDType {
        match self {
            CacheArg::F32 => CacheDType::F32,
            CacheArg::F16 => CacheDType::F16,
        }
    }
}

#[derive(Args)]
pub(crate) struct Sampling {
    /// 0 takes the most likely token; higher is more random.
    #[arg(long, visible_alias = "temperature", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temp: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f32,
    /// Keep tokens at least this many times as likely as the most likely one.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) min_p: f32,
    /// Make tokens seen lately less likely; 1 does nothing.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) repeat_penalty: f32,
    /// How many of the last tokens count as seen lately.
    #[arg(long, default_value_t = 64, allow_negative_numbers = true)]
    pub(crate) repeat_last_n: usize,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) seed: u64,
}
