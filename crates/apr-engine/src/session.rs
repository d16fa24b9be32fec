//! A session: one context that grows token by token.

use crate::forward::{LOGIT_ROWS, Scratch};
use crate::kv_cache::KvCache;
use crate::{CacheDType, Model, Observer};
use apr_kernels::{KvLayout, RopeTable};
use std::num::NonZeroUsize;

/// How a session runs. Only [`SessionOptions::cache_dtype`] can change a logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// How keys and values are stored.
    pub cache_dtype: CacheDType,
    /// Most tokens in the context; `None` means the model's own context length, which it may not exceed.
    pub context_limit: Option<usize>,
    /// Tokens of a prompt that pass through the layers together. More share the unpacking of a weight, at the price
    /// of scratch memory.
    pub chunk_tokens: NonZeroUsize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        const CHUNK: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
        Self { cache_dtype: CacheDType::default(), context_limit: None, chunk_tokens: CHUNK }
    }
}

/// Why a session did not run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The asked-for limit is more than the model was made for, or zero.
    #[error("context limit of {asked} tokens, expected between 1 and the model's context of {context_length} tokens")]
    ContextLimit {
        /// What was asked for.
        asked: usize,
        /// What the model was made for.
        context_length: usize,
    },
    /// The tokens don't fit in the context.
    #[error("{}", overflow_text(*.new, *.held, *.limit, *.context_length))]
    ContextOverflow {
        /// Tokens to add.
        new: usize,
        /// Tokens already in the context.
        held: usize,
        /// The session's limit.
        limit: usize,
        /// What the model was made for.
        context_length: usize,
    },
    /// There is nothing to compute logits from.
    #[error("no tokens in the prompt, expected at least one; a model without a begin-of-text token needs some text")]
    EmptyPrompt,
    /// A token id has no row in the embedding.
    #[error(
        "token id {id} at position {position}, expected less than the vocabulary's {vocab_size}; was the text encoded with another model's tokenizer?"
    )]
    UnknownToken {
        /// The id.
        id: u32,
        /// Where in the context.
        position: usize,
        /// Rows of the embedding.
        vocab_size: u32,
    },
    /// The forward pass gave something that is not a number.
    #[error(
        "inference failed: the {what} {index} at position {position} is {value}, expected a finite number; check the weights for NaN, infinite or damaged values"
    )]
    NotFinite {
        /// Where in the context.
        position: usize,
        /// What was asked for.
        what: Output,
        /// The first token with such a logit, or the first such unit of the state.
        index: usize,
        /// The number.
        value: f32,
    },
}

fn overflow_text(new: usize, held: usize, limit: usize, context_length: usize) -> String {
    let held = if held > 0 { format!(" + {held} tokens already in the context") } else { String::new() };
    let whose = if limit == context_length {
        format!("the model's context of {limit} tokens; shorten the prompt")
    } else {
        format!(
            "the session's limit of {limit} tokens; shorten the prompt or raise the limit (the model's context is {context_length} tokens)"
        )
    };
    format!("prompt of {new} tokens{held} exceeds {whose}")
}

/// One context on a model: its tokens, their keys and values, and the scratch memory of the forward pass.
///
/// A call that fails leaves the context as it was before the call.
pub struct Session<'m> {
    pub(crate) model: &'m Model,
    pub(crate) cache: KvCache,
    /// One for each of the plan's.
    pub(crate) ropes: Vec<RopeTable>,
    pub(crate) scratch: Scratch,
    pub(crate) observer: Option<&'m mut dyn Observer>,
    tokens: Vec<u32>,
    limit: usize,
    chunk: usize,
}

impl<'m> Session<'m> {
    /// An empty context.
    pub fn new(model: &'m Model, options: SessionOptions) -> Result<Self, SessionError> {
        let spec = &model.spec;
        let context_length = spec.longest_context() as usize;
        let limit = options.context_limit.unwrap_or(context_length);
        if limit == 0 || limit > context_length {
            return Err(SessionError::ContextLimit { asked: limit, context_length });
        }
        let chunk = options.chunk_tokens.get().min(limit);
        let layout = KvLayout { n_kv_heads: spec.n_kv_heads as usize, head_dim: spec.head_dim as usize };
        let ropes = model.plan.ropes.iter();
        Ok(Self {
            model,
            cache: KvCache::new(options.cache_dtype, model.plan.layers.len(), layout, limit),
            ropes: ropes.map(crate::plan::Rope::table).collect(),
            scratch: Scratch::new(spec, chunk),
            observer: None,
            tokens: Vec::new(),
            limit,
            chunk,
        })
    }

    /// Shows every activation from now on to `observer`.
    pub fn observe(&mut self, observer: &'m mut dyn Observer) {
        self.observer = Some(observer);
    }

    /// The model it runs on.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// Tokens in the context.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens the context takes.
    pub fn context_limit(&self) -> usize {
        self.limit
    }

    /// How keys and values are stored.
    pub fn cache_dtype(&self) -> CacheDType {
        self.cache.dtype()
    }

    /// Bytes allocated for keys and values.
    pub fn cache_bytes(&self) -> usize {
        self.cache.n_bytes()
    }

    /// Forgets all but the first `n_tokens` tokens; memory is kept for reuse.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.cache.truncate(n_tokens);
    }

    /// Keeps what the context has in common with the beginning of `ids`, but not all of `ids`, so that logits remain
    /// to be computed. Gives the number of tokens kept; the logits that follow are those of an empty context.
    pub fn keep_common_prefix(&mut self, ids: &[u32]) -> usize {
        let common = self.tokens.iter().zip(ids).take_while(|(held, id)| held == id).count();
        self.truncate(common.min(ids.len().saturating_sub(1)));
        self.tokens.len()
    }

    /// Adds tokens to the context and gives the logits after the last one, `[vocab]`.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<&[f32], SessionError> {
        self.run(ids, Wanted::LAST_LOGITS, || false, |_, _| ())?;
        Ok(self.logits())
    }

    /// Adds tokens to the context chunk by chunk until all are there or `stop`, asked before each further chunk, says
    /// so; gives how many were added. There are logits only where all were.
    pub fn prefill_until(&mut self, ids: &[u32], stop: impl FnMut() -> bool) -> Result<usize, SessionError> {
        self.run(ids, Wanted::LAST_LOGITS, stop, |_, _| ())
    }

    /// The logits of the position computed last, `[vocab]`; zeros before the first.
    pub fn logits(&self) -> &[f32] {
        let logits = &self.scratch.logits;
        &logits[logits.len() - self.model.spec.vocab_size as usize..]
    }

    /// Adds one token to the context and gives the logits after it, `[vocab]`.
    pub fn decode(&mut self, id: u32) -> Result<&[f32], SessionError> {
        self.prefill(&[id])
    }

    /// Adds tokens to the context and hands the logits after each to `sink`, with the token's position.
    pub fn prefill_each(&mut self, ids: &[u32], sink: impl FnMut(usize, &[f32])) -> Result<(), SessionError> {
        self.run(ids, Wanted { each: true, output: Output::Logit }, || false, sink).map(|_| ())
    }

    /// Adds tokens to the context and hands the state after the final norm of each, `[hidden]`, to `sink`, with the
    /// token's position. The vocabulary is left alone.
    pub fn states_each(&mut self, ids: &[u32], sink: impl FnMut(usize, &[f32])) -> Result<(), SessionError> {
        self.run(ids, Wanted { each: true, output: Output::State }, || false, sink).map(|_| ())
    }

    /// Adds tokens to the context and gives the state after the final norm of the last one, `[hidden]`.
    pub fn last_state(&mut self, ids: &[u32]) -> Result<Vec<f32>, SessionError> {
        let mut state = Vec::new();
        self.run(ids, Wanted { each: false, output: Output::State }, || false, |_, values| state = values.to_vec())?;
        Ok(state)
    }

    /// Adds tokens to the context and gives the logits after each, `[ids.len(), vocab]`.
    pub fn forward_all(&mut self, ids: &[u32]) -> Result<Vec<f32>, SessionError> {
        let mut all = Vec::new();
        self.prefill_each(ids, |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// Checks, then runs the chunks until `stop` says so, and gives the number of tokens that went through; takes the
    /// tokens back where a logit is not finite.
    fn run(
        &mut self,
        ids: &[u32],
        wanted: Wanted,
        mut stop: impl FnMut() -> bool,
        mut sink: impl FnMut(usize, &[f32]),
    ) -> Result<usize, SessionError> {
        let held = self.tokens.len();
        self.check(ids)?;
        self.model.bring_in();
        self.ropes.iter_mut().for_each(|rope| rope.grow(held + ids.len()));
        let n_chunks = ids.len().div_ceil(self.chunk);
        for (index, chunk) in ids.chunks(self.chunk).enumerate() {
            if index > 0 && stop() {
                break;
            }
            let first = self.tokens.len();
            let rows = match wanted.each {
                true => 0..chunk.len(),
                false if index + 1 == n_chunks => chunk.len() - 1..chunk.len(),
                false => chunk.len()..chunk.len(),
            };
            self.forward(chunk, first, rows.clone());
            self.tokens.extend_from_slice(chunk);
            for start in rows.clone().step_by(LOGIT_ROWS) {
                let rows = start..rows.end.min(start + LOGIT_ROWS);
                let values = match wanted.output {
                    Output::State => self.output_norm(rows.clone(), first),
                    Output::Logit => {
                        self.head(rows.clone(), first);
                        &self.scratch.logits
                    }
                };
                for (row, values) in rows.clone().zip(values.chunks_exact(values.len() / rows.len())) {
                    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                        let position = first + row;
                        let error =
                            SessionError::NotFinite { position, what: wanted.output, index, value: values[index] };
                        self.truncate(held);
                        return Err(error);
                    }
                    sink(first + row, values);
                }
            }
        }
        Ok(self.tokens.len() - held)
    }

    fn check(&self, ids: &[u32]) -> Result<(), SessionError> {
        let (new, held, vocab_size) = (ids.len(), self.tokens.len(), self.model.spec.vocab_size);
        if ids.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if new > self.limit - held {
            let context_length = self.model.spec.longest_context() as usize;
            return Err(SessionError::ContextOverflow { new, held, limit: self.limit, context_length });
        }
        match ids.iter().position(|&id| id >= vocab_size) {
            Some(index) => Err(SessionError::UnknownToken { id: ids[index], position: held + index, vocab_size }),
            None => Ok(()),
        }
    }
}

/// What of a chunk's end is computed.
#[derive(Clone, Copy)]
struct Wanted {
    /// Of each position, rather than of the last one.
    each: bool,
    output: Output,
}

impl Wanted {
    const LAST_LOGITS: Wanted = Wanted { each: false, output: Output::Logit };
}

/// A number that a forward pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Of a token of the vocabulary.
    Logit,
    /// After the final norm.
    State,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Output::Logit => "logit of token",
            Output::State => "unit of the state",
        })
    }
}
