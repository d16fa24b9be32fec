//! What every generating command shares: backend, model, tokenizer, template and settings, resolved once.

use super::text;
use crate::args::{self, BackendArg, DeviceArgs, Mode, Sampling};
use crate::error::CommandError;
use crate::output::Waiting;
use apr_engine::{
    ChatTemplate, FinishReason, GenerateOptions, Message, Model, SamplerSpec, SessionOptions, TextOptions, Timings,
    Tokenizer,
};
use apr_formats::{Limits, Source, open_to_run};
use apr_kernels::{Backend, Isa, IsaError, KernelSet};
use apr_model::{ChatTemplates, Checkpoint};
use apr_report::{BackendUsed, ExitCode, GeneratedToken, ModelSummary};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A model that can answer.
pub(super) struct Generator {
    pub(super) model: Model,
    pub(super) tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Those of a model that has none for the case that none is named.
    unused_templates: ChatTemplates,
}

/// A generator, and the facts of how it came to be.
pub(super) struct Loaded {
    pub(super) generator: Generator,
    pub(super) summary: ModelSummary,
    pub(super) backend: BackendUsed,
    pub(super) isa: Isa,
    pub(super) threads: usize,
}

impl Loaded {
    /// Opens a model that was found, with another chat template where one is given.
    pub(super) fn new(
        path: &Path,
        source: &Source,
        device: &DeviceArgs,
        chat_template: Option<&str>,
    ) -> Result<Self, CommandError> {
        let _waiting = Waiting::new("loading the model");
        let (backend, used) = backend(device)?;
        let (isa, threads) = (backend.isa(), backend.n_threads());
        let mut checkpoint = open_to_run(source, &Limits::default())?;
        if let Some(choice) = chat_template {
            checkpoint.chat_templates = chosen(&checkpoint.chat_templates, choice)?;
        }
        let generator = Generator::new(&checkpoint, backend)?;
        let summary = summary(path, source, &checkpoint);
        Ok(Self { generator, summary, backend: used, isa, threads })
    }
}

/// The template that was asked for: the model's one of that name, else what the file of that name holds.
fn chosen(templates: &ChatTemplates, choice: &str) -> Result<ChatTemplates, CommandError> {
    if let Some(text) = templates.get(choice) {
        return Ok(ChatTemplates::only(text));
    }
    let path = Path::new(choice);
    if path.exists() {
        return Ok(ChatTemplates::only(text::read_file(path)?));
    }
    let message = format!("--chat-template {choice}: there is no such file, and {}", names(templates));
    Err(CommandError::new(ExitCode::NotFound, message))
}

/// Which templates there are, in words.
fn names(templates: &ChatTemplates) -> String {
    if templates.is_empty() {
        return "the model has no chat templates".to_owned();
    }
    let names: Vec<&str> = templates.iter().map(|(name, _)| name).collect();
    format!("the model's chat templates are {}", names.join(", "))
}

/// A model in short.
pub(super) fn summary(path: &Path, source: &Source, checkpoint: &Checkpoint) -> ModelSummary {
    ModelSummary {
        path: path.display().to_string(),
        format: source.format.name().to_owned(),
        architecture: checkpoint.spec.architecture().to_owned(),
        n_tensors: checkpoint.tensors.len() as u64,
        n_parameters: checkpoint.n_parameters(),
        main_dtype: checkpoint.main_dtype().map_or("none", apr_tensor::DType::name).to_owned(),
        file_bytes: source.len_bytes(),
    }
}

/// What runs the model, as a fact: a GPU that was asked for and is not there is an error, never the CPU.
pub(super) fn backend(args: &DeviceArgs) -> Result<(Backend, BackendUsed), CommandError> {
    let requested = match (args.gpu, args.no_gpu, args.backend) {
        (true, ..) | (_, _, BackendArg::Gpu) => "gpu",
        (_, true, _) | (_, _, BackendArg::Cpu) => "cpu",
        (_, _, BackendArg::Auto) => "auto",
    };
    if requested == "gpu" {
        let message = "a GPU was asked for, and this build has no GPU backend";
        return Err(CommandError::new(ExitCode::Unavailable, message).hint("run without --gpu to use the CPU"));
    }
    let backend = match args.threads {
        Some(n) => Backend::new(KernelSet::detect().map_err(detect_error)?, n.get()),
        None => Backend::detect().map_err(detect_error)?,
    };
    let reason = match requested {
        "cpu" => "the CPU was asked for",
        _ => "this build has no GPU backend",
    };
    let used = BackendUsed {
        requested: requested.to_owned(),
        used: "cpu".to_owned(),
        device: cpu_name(),
        reason: reason.to_owned(),
    };
    Ok((backend, used))
}

pub(super) fn detect_error(error: IsaError) -> CommandError {
    CommandError::new(ExitCode::Unavailable, error.to_string())
}

/// The instruction set as people write it.
pub(super) fn isa_title(isa: Isa) -> &'static str {
    match isa {
        Isa::Scalar => "scalar",
        Isa::Avx2 => "AVX2",
        Isa::Avx512 => "AVX-512",
    }
}

/// What the processor calls itself.
pub(super) fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

impl Generator {
    pub(super) fn new(checkpoint: &Checkpoint, backend: Backend) -> Result<Self, CommandError> {
        let model = Model::new(checkpoint, backend)?;
        let tokenizer = tokenizer(checkpoint)?;
        let templates = &checkpoint.chat_templates;
        let template = match (&templates.default, &checkpoint.tokenizer) {
            (Some(text), Some(spec)) => {
                let template = ChatTemplate::new(text)
                    .map_err(|e| CommandError::new(ExitCode::LoadFailed, format!("chat template: {e}")))?;
                Some(template.with_special_tokens(spec))
            }
            _ => None,
        };
        let unused_templates = if template.is_none() { templates.clone() } else { ChatTemplates::default() };
        Ok(Self { model, tokenizer, template, unused_templates })
    }

    /// Token ids of a prompt: through the chat template if it is asked for, or there is one and nothing was said.
    pub(super) fn prompt_ids(&self, prompt: &str, mode: &Mode) -> Result<Vec<u32>, CommandError> {
        match &self.template {
            Some(_) if !mode.raw => self.conversation_ids(&[Message::new("user", prompt)]),
            None if !mode.raw && !self.unused_templates.is_empty() => Err(self.no_template("")),
            None if mode.chat => Err(self.no_template("leave out --chat to continue the prompt as it is")),
            _ => self.encode(prompt, true),
        }
    }

    /// Token ids of a conversation up to the begin of the next answer.
    pub(super) fn conversation_ids(&self, messages: &[Message]) -> Result<Vec<u32>, CommandError> {
        let template = self.template.as_ref().ok_or_else(|| self.no_template("give one with --chat-template FILE"))?;
        let text = template
            .render(messages, None, true)
            .map_err(|e| CommandError::new(ExitCode::InferenceFailed, format!("chat template: {e}")))?;
        // The template writes the special tokens itself; adding them again would double the first one.
        self.encode(&text, false)
    }

    fn no_template(&self, hint: &str) -> CommandError {
        if self.unused_templates.is_empty() {
            return CommandError::new(ExitCode::LoadFailed, "the model has no chat template").hint(hint);
        }
        let message = format!("none of the model's chat templates is its default: {}", names(&self.unused_templates));
        CommandError::new(ExitCode::Usage, message).hint("name one with --chat-template NAME")
    }

    /// Token ids of text as it is.
    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, CommandError> {
        let failed = |e| CommandError::new(ExitCode::InferenceFailed, format!("tokenizer: {e}"));
        self.tokenizer.encode(text, add_special).map_err(failed)
    }

    /// An id with its text.
    pub(super) fn token(&self, id: u32) -> GeneratedToken {
        GeneratedToken { id, text: token_text(&self.tokenizer, id) }
    }
}

/// The text that a token adds; a part of a character is U+FFFD.
pub(super) fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.token_bytes(id).map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The tokenizer of a model.
pub(super) fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer, CommandError> {
    let load = |message: String| CommandError::new(ExitCode::LoadFailed, message);
    let spec = checkpoint.tokenizer.as_ref().ok_or_else(|| {
        load("the model has no tokenizer, so it can't read text".to_owned())
            .hint("convert again from the source that has one; for SafeTensors put tokenizer.json beside the weights")
    })?;
    Tokenizer::new(Arc::clone(spec)).map_err(|e| load(format!("tokenizer: {e}")))
}

/// The sampler that was asked for. A value out of range is an error that names its option.
pub(super) fn sampler(args: &Sampling) -> Result<SamplerSpec, CommandError> {
    let spec = SamplerSpec {
        repeat_penalty: args.repeat_penalty,
        repeat_last_n: args.repeat_last_n,
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        seed: args.seed,
    };
    spec.validate().map_err(|e| {
        let option = if e.name == "temperature" { "temp".to_owned() } else { e.name.replace('_', "-") };
        CommandError::new(ExitCode::Usage, format!("--{option} is {}, expected {}", e.found, e.expected))
    })?;
    Ok(spec)
}

/// The settings that had a say.
pub(super) fn sampler_facts(sampler: &SamplerSpec) -> BTreeMap<String, serde_json::Value> {
    let name = if sampler.is_greedy() { "greedy" } else { "seeded" };
    let mut facts = BTreeMap::from([("name".to_owned(), serde_json::json!(name))]);
    let mut add = |key: &str, value: serde_json::Value| facts.insert(key.to_owned(), value);
    add("repeat_penalty", serde_json::json!(sampler.repeat_penalty));
    if sampler.repeat_penalty != 1.0 {
        add("repeat_last_n", serde_json::json!(sampler.repeat_last_n));
    }
    if !sampler.is_greedy() {
        add("temperature", serde_json::json!(sampler.temperature));
        add("top_k", serde_json::json!(sampler.top_k));
        add("top_p", serde_json::json!(sampler.top_p));
        add("min_p", serde_json::json!(sampler.min_p));
        add("generator", serde_json::json!("ChaCha8"));
    }
    facts
}

/// How a session runs.
pub(super) fn session_options(args: &args::Generation) -> SessionOptions {
    SessionOptions { cache_dtype: args.kv_cache.dtype(), context_limit: args.ctx_size, ..SessionOptions::default() }
}

/// What to generate.
pub(super) fn text_options(
    args: &args::Generation,
    sampler: SamplerSpec,
    tokenizer: &Tokenizer,
    n_logprobs: Option<usize>,
) -> TextOptions {
    TextOptions {
        tokens: GenerateOptions { max_tokens: args.max_tokens, sampler, stop_ids: tokenizer.special().stop.clone() },
        stop_texts: args.stop.clone(),
        n_logprobs,
    }
}

/// Why generation ended, as reports say it.
pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Complete => "complete",
        FinishReason::Length => "length",
        FinishReason::Context => "context",
        FinishReason::Cancelled => "cancelled",
    }
}

/// Decode steps per second; `None` where fewer than one was timed.
pub(super) fn decode_rate(timings: &Timings) -> Option<f64> {
    let seconds = timings.decode.as_secs_f64();
    (timings.n_decoded > 0 && seconds > 0.0).then(|| timings.n_decoded as f64 / seconds)
}

pub(super) fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
