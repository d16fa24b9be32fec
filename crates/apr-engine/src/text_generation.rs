//! Generation as people see it: text that can be shown, up to a stop text.

use crate::{
    FinishReason, GenerateError, GenerateOptions, Generation, Hooks, PositionLogprobs, Session, StopTexts, TextStream,
    Tokenizer, generate_with, log_probabilities,
};
use std::ops::ControlFlow;

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// How tokens are generated.
    pub tokens: GenerateOptions,
    /// Texts that end generation, also where they span tokens. They are not part of the text.
    pub stop_texts: Vec<String>,
    /// How many of the most probable tokens to report at each position; `None` reports nothing.
    pub n_logprobs: Option<usize>,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct TextGeneration {
    /// Its tokens. A stop text, and what followed it in its last token, is part of them.
    pub generation: Generation,
    /// Their text, up to the stop text.
    pub text: String,
    /// The stop text that ended it.
    pub stop_text: Option<String>,
    /// One entry per token where they were asked for.
    pub logprobs: Vec<PositionLogprobs>,
}

/// Continues `prompt_ids` and hands text to `on_text` as soon as its characters are complete and can't be the begin of
/// a stop text. See [`generate_with`].
pub fn generate_text(
    session: &mut Session<'_>,
    tokenizer: &Tokenizer,
    prompt_ids: &[u32],
    options: &TextOptions,
    hooks: Hooks<'_>,
    mut on_text: impl FnMut(&str),
) -> Result<TextGeneration, GenerateError> {
    let mut stream = TextStream::continuing(true);
    let mut stops = StopTexts::new(&options.stop_texts);
    let (mut text, mut stop_text, mut logprobs) = (String::new(), None, Vec::new());
    let mut show = |piece: &str| {
        if !piece.is_empty() {
            on_text(piece);
            text.push_str(piece);
        }
    };
    let mut generation = generate_with(session, prompt_ids, &options.tokens, hooks, |event| {
        if let Some(n) = options.n_logprobs {
            logprobs.push(log_probabilities(event.logits, event.id, n));
        }
        let (shown, stop) = stops.push(&stream.push(tokenizer, event.id));
        show(&shown);
        stop_text = stop.map(str::to_owned);
        if stop_text.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if stop_text.is_none() {
        // The rest of a character is text too, and may complete a stop text.
        let (shown, stop) = stops.push(&stream.finish());
        show(&shown);
        stop_text = stop.map(str::to_owned);
    }
    if stop_text.is_some() {
        generation.finish_reason = FinishReason::Stop;
    } else {
        show(&stops.finish());
    }
    Ok(TextGeneration { generation, text, stop_text, logprobs })
}
