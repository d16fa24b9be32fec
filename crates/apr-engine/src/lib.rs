//! Floor 2: from a checkpoint to tokens.
//!
//! *In:* a [`Checkpoint`](apr_model::Checkpoint) with its tensors mapped, and text or token ids. *Out:* logits, tokens,
//! their text, and a digest of the logits.
//! *Afterwards:* the logits are the same 32 bits for equal decoded weights, ids and hyper-parameters, whatever the file
//! format and stored dtype, instruction set, number of threads, cutting of the prompt and reuse of the cache; only the
//! dtype of the cache, which a report names, may change them.
//! *Absent on purpose:* file I/O, file formats, a copy of any weight matrix, code per architecture (the plan resolves
//! a row of a table once), and any arithmetic that is not an operation of `apr-kernels`, except sampling's ordered sums.
#![forbid(unsafe_code)]

mod feed_forward;
mod norm;
mod plan;
mod weight;

mod cost;

mod session;

mod forward;
mod kv_cache;
mod trace;

mod constraint;
#[cfg(feature = "grammar")]
mod grammar;
mod logprobs;
mod sampler;

mod digest;
mod generate;
mod likelihood;

mod bpe;
mod stop_text;
mod text_generation;
mod text_stream;
mod tokenizer;

mod chat_template;
mod python;

pub use chat_template::{ChatTemplate, Message, TemplateError};
pub use constraint::{Constraint, ConstraintError, TokenSet};
pub use cost::{StageCost, Work};
pub use digest::{LogitsDigest, LogitsHasher};
pub use generate::{
    FinishReason, GenerateError, GenerateOptions, Generation, Hooks, Timings, TokenEvent, generate, generate_with,
};
#[cfg(feature = "grammar")]
pub use grammar::{Grammar, GrammarSource};
pub use kv_cache::CacheDType;
pub use likelihood::{kl_divergence, log_sum_exp, most_likely, negative_log_likelihood};
pub use logprobs::{PositionLogprobs, TokenLogprob, log_probabilities};
pub use plan::{Model, ModelError};
pub use sampler::{Sampler, SamplerError, SamplerSpec};
pub use session::{Output, Session, SessionError, SessionOptions};
pub use stop_text::StopTexts;
pub use text_generation::{TextGeneration, TextOptions, generate_text};
pub use text_stream::TextStream;
pub use tokenizer::{TokenizeError, Tokenizer};
pub use trace::{Activation, Observer, Stage};
