//! `apr chat`: one turn, and a saved conversation.

use crate::{GeneratedToken, ModelSummary};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One turn of a conversation. `apr chat --json` prints one per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatTurnReport {
    /// `apr.chat-turn/1`.
    pub schema: String,
    /// The path of the model.
    pub model: String,
    /// Number of the turn since the program began, from 1.
    pub turn: u64,
    /// The message of the user.
    pub message: String,
    /// Ids of the whole conversation up to the begin of this answer.
    pub prompt_ids: Vec<u32>,
    /// How many of them the session still held from former turns.
    pub n_reused_tokens: u64,
    /// Generated tokens, the stop token excluded.
    pub tokens: Vec<GeneratedToken>,
    /// The answer.
    pub text: String,
    /// Why it ended, as in `apr.run/1`.
    pub finish_reason: String,
    /// The stop token that ended it.
    pub stop_id: Option<u32>,
    /// The stop text that ended it.
    pub stop_text: Option<String>,
    /// Tokens in the context after the turn.
    pub n_context_tokens: u64,
    /// Most tokens that the context takes.
    pub context_limit: u64,
    /// Feeding what is new in the prompt.
    pub prefill_ms: f64,
    /// All later steps.
    pub decode_ms: f64,
    /// Decode steps per second; absent where fewer than one step was timed.
    pub decode_tokens_per_second: Option<f64>,
    /// Name of the numerics (`exact`).
    pub numerics: String,
    /// BLAKE3 over the logits of every sampled position, as in `apr.run/1`.
    pub logits_digest: Option<String>,
    /// Seed of the sampler, which begins anew with each turn; absent for greedy decoding.
    pub seed: Option<u64>,
    /// Name of the sampler and its settings.
    pub sampler: BTreeMap<String, serde_json::Value>,
}

/// A saved conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// `apr.conversation/1`.
    pub schema: String,
    /// The model that answered.
    pub model: ModelSummary,
    /// A system message where there is one, then user and assistant in turn.
    pub messages: Vec<ChatMessage>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}
