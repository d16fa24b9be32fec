//! What every generating command shares: backend, tokenizer, template and model, resolved once.

use crate::args::{BackendArg, DeviceArgs, Mode};
use crate::error::CommandError;
use apr_engine::{ChatTemplate, Message, Model, Tokenizer};
use apr_kernels::{Backend, Isa, IsaError, KernelSet};
use apr_model::Checkpoint;
use apr_report::{BackendUsed, ExitCode};

/// A model that can answer.
pub(super) struct Generator {
    pub(super) model: Model,
    pub(super) tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
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
        let load = |message: String| CommandError::new(ExitCode::LoadFailed, message);
        let spec = checkpoint.tokenizer.as_ref().ok_or_else(|| {
            load("the model has no tokenizer, so it can't read text".to_owned()).hint(
                "convert again from the source that has one; for SafeTensors put tokenizer.json beside the weights",
            )
        })?;
        let tokenizer = Tokenizer::new(spec).map_err(|e| load(format!("tokenizer: {e}")))?;
        let template = match &checkpoint.chat_template {
            None => None,
            Some(text) => {
                let template = ChatTemplate::new(text).map_err(|e| load(format!("chat template: {e}")))?;
                Some(template.with_special_tokens(spec))
            }
        };
        Ok(Self { model: Model::new(checkpoint, backend)?, tokenizer, template })
    }

    /// Token ids of a prompt: through the chat template if it is asked for, or there is one and nothing was said.
    pub(super) fn prompt_ids(&self, prompt: &str, mode: &Mode) -> Result<Vec<u32>, CommandError> {
        let failed = |message: String| CommandError::new(ExitCode::InferenceFailed, message);
        match &self.template {
            Some(template) if !mode.raw => {
                let text = template
                    .render(&[Message::new("user", prompt)], None, true)
                    .map_err(|e| failed(format!("chat template: {e}")))?;
                // The template writes the special tokens itself; adding them again would double the first one.
                self.tokenizer.encode(&text, false).map_err(|e| failed(format!("tokenizer: {e}")))
            }
            None if mode.chat => Err(CommandError::new(ExitCode::LoadFailed, "the model has no chat template")
                .hint("leave out --chat to continue the prompt as it is")),
            _ => self.tokenizer.encode(prompt, true).map_err(|e| failed(format!("tokenizer: {e}"))),
        }
    }
}
