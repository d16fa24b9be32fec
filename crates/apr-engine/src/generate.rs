//! Generation: prompt in, tokens out, and what it took.

use crate::{
    Constraint, ConstraintError, LogitsDigest, LogitsHasher, Sampler, SamplerError, SamplerSpec, Session, SessionError,
};
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
    /// The model chose a stop id, or a stop text is complete.
    Stop,
    /// The constraint allows nothing more.
    Complete,
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
    /// The constraint could not be followed.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// What looks into a generation from outside.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Asked after each chunk of the prompt and before each token; `true` ends generation.
    pub cancelled: Option<&'a dyn Fn() -> bool>,
    /// Which tokens may be generated; all where there is none.
    pub constraint: Option<&'a mut dyn Constraint>,
}

/// Continues `prompt_ids`, calling `on_token` with each token; a break ends generation after that token.
///
/// `prompt_ids` is the whole context. What the session holds of it already is reused, the rest of what it holds is
/// forgotten; neither changes a bit of the result.
pub fn generate(
    session: &mut Session<'_>,
    prompt_ids: &[u32],
    options: &GenerateOptions,
    on_token: impl FnMut(&TokenEvent<'_>) -> ControlFlow<()>,
) -> Result<Generation, GenerateError> {
    generate_with(session, prompt_ids, options, Hooks::default(), on_token)
}

/// [`generate`], under a constraint and until it is cancelled. A prompt that is cancelled stays in the session as far
/// as it went.
pub fn generate_with(
    session: &mut Session<'_>,
    prompt_ids: &[u32],
    options: &GenerateOptions,
    mut hooks: Hooks<'_>,
    mut on_token: impl FnMut(&TokenEvent<'_>) -> ControlFlow<()>,
) -> Result<Generation, GenerateError> {
    let mut sampler = Sampler::new(options.sampler)?;
    let backend = session.model().backend();
    let cancelled = || hooks.cancelled.is_some_and(|cancelled| cancelled());
    let start = Instant::now();
    let n_reused = session.keep_common_prefix(prompt_ids);
    let n_prefilled = session.prefill_until(&prompt_ids[n_reused..], cancelled)?;
    let prefill = start.elapsed();

    let mut hasher = LogitsHasher::default();
    let (mut tokens, mut stop_id, mut n_decoded) = (Vec::new(), None, 0);
    let finish_reason = loop {
        if n_reused + n_prefilled < prompt_ids.len() || cancelled() {
            break FinishReason::Cancelled;
        }
        if tokens.len() == options.max_tokens {
            break FinishReason::Length;
        }
        let allowed = match &mut hooks.constraint {
            None => None,
            Some(constraint) => match constraint.allowed()? {
                None => break FinishReason::Complete,
                allowed => allowed,
            },
        };
        hasher.update(session.logits());
        let id = sampler.sample_allowed(backend, session.logits(), session.tokens(), allowed.as_ref());
        let id = id.ok_or(ConstraintError::NoToken { n_tokens: tokens.len() })?;
        if options.stop_ids.contains(&id) {
            stop_id = Some(id);
            break FinishReason::Stop;
        }
        if let Some(constraint) = &mut hooks.constraint {
            constraint.accept(id)?;
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
    let timings = Timings { prefill, decode, n_prefilled, n_reused, n_decoded };
    let digest = (!tokens.is_empty() || stop_id.is_some()).then(|| hasher.digest());
    Ok(Generation { tokens, finish_reason, stop_id, timings, digest })
}
