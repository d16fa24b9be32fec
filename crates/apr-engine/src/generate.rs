//! Generation: prompt in, tokens out, and what it took.

use crate::{LogitsDigest, LogitsHasher, Sampler, SamplerError, SamplerSpec, Session, SessionError};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampler: SamplerSpec,
    /// Ids that end generation; they are not part of the generated tokens.
    pub stop_ids: Vec<u32>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model chose a stop id.
    Stop,
    /// The asked-for number of tokens is reached.
    Length,
    /// The context is full.
    Context,
    /// The caller asked to end.
    Cancelled,
}

/// One generated token, as soon as it is known.
#[derive(Clone, Copy, Debug)]
pub struct TokenEvent<'a> {
    /// Number of tokens generated before it.
    pub index: usize,
    /// Its id.
    pub id: u32,
    /// The logits it was chosen from, `[vocab]`.
    pub logits: &'a [f32],
}

/// Where the time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From the call to the logits after the prompt.
    pub prefill: Duration,
    /// From there to the end: forward passes, sampling, digest and the caller's handling of tokens.
    pub decode: Duration,
    /// Prompt tokens that went through the layers.
    pub n_prefilled: usize,
    /// Prompt tokens that the session still held.
    pub n_reused: usize,
    /// Generated tokens that went through the layers; the last one doesn't.
    pub n_decoded: usize,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Generated ids, without a stop id.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop id, where one ended it.
    pub stop_id: Option<u32>,
    /// Where the time went.
    pub timings: Timings,
    /// A digest of the logits of each step: one per token and one for a stop id. `None` without a step.
    pub digest: Option<LogitsDigest>,
}

/// Why generation failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// A sampling parameter is out of range.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The session could not run.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Continues `prompt_ids`, calling `on_token` with each token; a break ends generation after that token.
///
/// `prompt_ids` is the whole context. What the session holds of it already is reused, the rest of what it holds is
/// forgotten; neither changes a bit of the result.
pub fn generate(
    session: &mut Session<'_>,
    prompt_ids: &[u32],
    options: &GenerateOptions,
    mut on_token: impl FnMut(&TokenEvent<'_>) -> ControlFlow<()>,
) -> Result<Generation, GenerateError> {
    let mut sampler = Sampler::new(options.sampler)?;
    let backend = session.model().backend();
    let start = Instant::now();
    let n_reused = session.keep_common_prefix(prompt_ids);
    session.prefill(&prompt_ids[n_reused..])?;
    let prefill = start.elapsed();

    let mut hasher = LogitsHasher::default();
    let (mut tokens, mut stop_id, mut n_decoded) = (Vec::new(), None, 0);
    let finish_reason = loop {
        if tokens.len() == options.max_tokens {
            break FinishReason::Length;
        }
        hasher.update(session.logits());
        let id = sampler.sample(backend, session.logits(), session.tokens());
        if options.stop_ids.contains(&id) {
            stop_id = Some(id);
            break FinishReason::Stop;
        }
        let event = TokenEvent { index: tokens.len(), id, logits: session.logits() };
        tokens.push(id);
        if on_token(&event).is_break() {
            break FinishReason::Cancelled;
        }
        if tokens.len() == options.max_tokens {
            break FinishReason::Length;
        }
        if session.tokens().len() == session.context_limit() {
            break FinishReason::Context;
        }
        session.decode(id)?;
        n_decoded += 1;
    };
    let decode = start.elapsed() - prefill;
    let n_prefilled = prompt_ids.len() - n_reused;
    let timings = Timings { prefill, decode, n_prefilled, n_reused, n_decoded };
    let digest = (!tokens.is_empty() || stop_id.is_some()).then(|| hasher.digest());
    Ok(Generation { tokens, finish_reason, stop_id, timings, digest })
}
