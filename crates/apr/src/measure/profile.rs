//! A profile: prefill and decode, once as they run and once with every stage timed.

use super::passes::{Timed, millis, random_ids, total_ms};
use super::stages::{Attribution, StageClock};
use super::statistics::{latency, mean, spread};
use super::{Stopped, passes, rooflines, unless_interrupted};
use apr_engine::{Model, Session, SessionError, SessionOptions, Stage, StageCost, Work};
use apr_report::{Latency, OperationTime, PhaseProfile, Rooflines};
use std::time::Duration;

/// How much to run.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) n_prompt: usize,
    /// Tokens that a pass decodes.
    pub(crate) n_tokens: usize,
    pub(crate) n_warmup: usize,
    pub(crate) n_passes: usize,
    pub(crate) seed: u64,
}

impl Amount {
    /// The prompt, and the tokens to decode after it.
    fn ids(&self, model: &Model) -> (Vec<u32>, Vec<u32>) {
        let mut ids = random_ids(self.seed, self.n_prompt + self.n_tokens, model.spec().vocab_size);
        let decoded = ids.split_off(self.n_prompt);
        (ids, decoded)
    }
}

/// What was measured.
pub(crate) struct Profile {
    pub(crate) rooflines: Rooflines,
    pub(crate) prefill: PhaseProfile,
    pub(crate) decode: PhaseProfile,
    pub(crate) latency: Latency,
}

/// The time of each decoded token, in milliseconds, without looking at stages.
pub(crate) fn token_times(model: &Model, options: SessionOptions, amount: Amount) -> Result<Vec<f64>, Stopped> {
    let (prompt, ids) = amount.ids(model);
    let mut session = session(model, options, amount)?;
    passes::feed(&mut session, &prompt)?;
    let passes = passes::decode(&mut session, &ids, amount.n_warmup, amount.n_passes)?;
    unless_interrupted()?;
    Ok(passes.iter().flatten().map(Timed::ms).collect())
}

/// Times both phases without and with an observer.
pub(crate) fn measure(model: &Model, options: SessionOptions, amount: Amount) -> Result<Profile, Stopped> {
    let (prompt, ids) = amount.ids(model);
    let (n_warmup, n_passes) = (amount.n_warmup, amount.n_passes);
    let before = rooflines::rooflines(model);

    let mut plain = session(model, options, amount)?;
    let plain_prefill = passes::prefill(&mut plain, &prompt, n_warmup, n_passes)?;
    passes::feed(&mut plain, &prompt)?;
    let plain_decode = passes::decode(&mut plain, &ids, n_warmup, n_passes)?;
    drop(plain);

    let mut clock = StageClock::default();
    let (prefill, decode) = {
        let mut observed = session(model, options, amount)?;
        observed.observe(&mut clock);
        let prefill = passes::prefill(&mut observed, &prompt, n_warmup, n_passes)?;
        passes::feed(&mut observed, &prompt)?;
        (prefill, passes::decode(&mut observed, &ids, n_warmup, n_passes)?)
    };

    unless_interrupted()?;
    let rooflines = before.best(rooflines::rooflines(model));

    let costs = model.costs();
    let n_chunk = options.chunk_tokens.get();
    let n_prompt = prompt.len();
    let prefill = Phase {
        n_tokens: n_prompt,
        depth: 0,
        attribution: clock.attribute(prefill.iter().copied()),
        passes_ms: prefill.iter().map(Timed::ms).collect(),
        plain_work: model.prompt_work(0..n_prompt, n_chunk, options.cache_dtype),
        plain_ms: plain_prefill.iter().map(Timed::ms).collect(),
    };
    let decode = Phase {
        n_tokens: ids.len(),
        depth: n_prompt,
        attribution: clock.attribute(decode.iter().flatten().copied()),
        passes_ms: decode.iter().map(|tokens| total_ms(tokens)).collect(),
        plain_work: (n_prompt..n_prompt + ids.len()).map(|p| model.decode_work(p, options.cache_dtype)).sum(),
        plain_ms: plain_decode.iter().map(|tokens| total_ms(tokens)).collect(),
    };
    let cache = options.cache_dtype;
    let token_ms: Vec<f64> = plain_decode.iter().flatten().map(Timed::ms).collect();
    Ok(Profile {
        prefill: prefill.profile(&costs, &rooflines, |cost| cost.observed().prompt(0..n_prompt, n_chunk, cache)),
        decode: decode.profile(&costs, &rooflines, |cost| {
            (n_prompt..n_prompt + ids.len()).map(|position| cost.chunk(position..position + 1, cache)).sum()
        }),
        latency: latency(&token_ms),
        rooflines,
    })
}

/// An empty context with room for prompt and tokens, or the error that names the limit.
fn session<'m>(model: &'m Model, options: SessionOptions, amount: Amount) -> Result<Session<'m>, SessionError> {
    let session = Session::new(model, options)?;
    let (new, limit) = (amount.n_prompt + amount.n_tokens, session.context_limit());
    if new > limit {
        return Err(SessionError::ContextOverflow { new, held: 0, limit, context_length: limit });
    }
    Ok(session)
}

/// The operation that a stage belongs to. Products of the same vectors may be computed at once, whatever the order in
/// which an observer sees them, so they are one operation.
fn operation(stage: Stage) -> &'static str {
    match stage {
        Stage::Query | Stage::Key | Stage::Value => "attn_qkv",
        Stage::QueryNorm | Stage::KeyNorm => "attn_qk_norm",
        Stage::QueryRope | Stage::KeyRope => "rope",
        Stage::Gate | Stage::Up => "mlp_gate_up",
        stage => stage.name(),
    }
}

/// An operation in a layer, or over all.
#[derive(Clone, Copy)]
struct Part {
    operation: &'static str,
    layer: Option<u32>,
    duration: Duration,
    work: Work,
}

/// Adds to the part of the same operation and layer, or at the end.
fn add(parts: &mut Vec<Part>, part: Part) {
    match parts.iter_mut().find(|other| (other.operation, other.layer) == (part.operation, part.layer)) {
        Some(other) => {
            other.duration += part.duration;
            other.work = other.work + part.work;
        }
        None => parts.push(part),
    }
}

/// The times of one phase.
struct Phase {
    n_tokens: usize,
    depth: usize,
    attribution: Attribution,
    passes_ms: Vec<f64>,
    plain_ms: Vec<f64>,
    /// The work of a pass without an observer, which may be less than that of its parts with one.
    plain_work: Work,
}

impl Phase {
    fn profile(self, costs: &[StageCost], rooflines: &Rooflines, work: impl Fn(&StageCost) -> Work) -> PhaseProfile {
        let n_passes = self.passes_ms.len();
        let mean_ms = mean(&self.passes_ms);
        let per_pass = |duration: Duration| millis(duration) / n_passes as f64;
        let time = |Part { operation, layer, duration, work }| {
            let ms = per_pass(duration);
            OperationTime {
                operation: String::from(operation),
                layer,
                mean_ms: ms,
                percent: 100.0 * ms / mean_ms,
                n_bytes: work.n_bytes,
                n_flops: 2 * work.n_multiply_adds,
                roofline: rooflines.share(work.n_bytes, work.n_multiply_adds, ms),
            }
        };
        // Stages in the order of the pass; one without an account has no work to compare with.
        let mut seen: Vec<_> = self.attribution.stages.iter().map(|(&place, &duration)| (place, duration)).collect();
        seen.sort_by_key(|&((stage, layer), _)| (stage >= Stage::OutputNorm, layer, stage));
        let (mut stages, mut operations) = (Vec::new(), Vec::new());
        for ((stage, layer), duration) in seen {
            let cost = costs.iter().find(|cost| (cost.stage, cost.layer) == (stage, layer));
            let work = cost.map_or_else(Work::default, &work);
            let part = Part { operation: operation(stage), layer, duration, work };
            add(&mut stages, part);
            add(&mut operations, Part { layer: None, ..part });
        }
        operations.sort_by_key(|part: &Part| std::cmp::Reverse(part.duration));

        let (pass, plain) = (spread(&self.passes_ms), spread(&self.plain_ms));
        let (pass, plain) = pass.zip(plain).expect("there is at least one pass of each kind");
        PhaseProfile {
            n_tokens: self.n_tokens as u64,
            depth: self.depth as u64,
            n_passes: n_passes as u64,
            pass_ms: pass,
            unobserved_pass_ms: plain,
            observer_percent: 100.0 * (pass.median / plain.median - 1.0),
            tokens_per_second: self.n_tokens as f64 / (plain.median / 1e3),
            roofline: rooflines.share(self.plain_work.n_bytes, self.plain_work.n_multiply_adds, plain.median),
            mean_ms,
            unattributed_ms: per_pass(self.attribution.unattributed),
            operations: operations.into_iter().map(time).collect(),
            stages: stages.into_iter().map(time).collect(),
        }
    }
}
