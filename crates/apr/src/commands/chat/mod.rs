//! `apr chat`: a conversation on one session. Answers go to stdout; prompts, notes and what commands say do not.

mod conversation;
mod input;

use super::generation::{self, Loaded, finish_reason, millis};
use super::grammar::AnswerGrammar;
use crate::args::Chat;
use crate::error::CommandError;
use crate::interrupt::{self, Wish};
use crate::{model, output};
use apr_engine::{FinishReason, Hooks, Message, Session, TextGeneration, TextOptions, generate_text};
use apr_report::{ChatTurnReport, ExitCode, Report};
use conversation::Messages;
use input::{Event, Input};
use std::path::Path;

const HELP: &str = "\
/system TEXT   set the system message; without TEXT show it
/clear         forget the conversation, keep the system message
/save FILE     write the conversation to a file
/load FILE     go on with a saved conversation
/stats         tokens, reuse and speed
/help          this list
/quit          end, as Ctrl-D does
A line that ends in \\ goes on in the next one; \"\"\" begins and ends a message of several lines.
Ctrl-C stops an answer.";

pub(super) fn run(args: &Chat, json: bool) -> Result<ExitCode, CommandError> {
    let sampler = generation::sampler(&args.generation.sampling)?;
    let source = model::locate(&args.model)?;
    let chat_template = args.generation.chat_template.as_deref();
    let loaded = Loaded::new(&args.model, &source, &args.generation.device, chat_template)?;
    // A model without a template is refused before anything is typed.
    loaded.generator.conversation_ids(&[Message::new("user", "Hi")])?;
    let grammar = AnswerGrammar::new(&args.generation, &loaded.generator.tokenizer)?;
    let session = Session::new(&loaded.generator.model, generation::session_options(&args.generation))
        .map_err(|e| CommandError { code: ExitCode::Usage, ..CommandError::from(e) })?;
    let mut input = Input::new(!args.no_history)?;
    if input.is_terminal() {
        let model = &loaded.summary;
        eprintln!("{} ({}, {}); /help lists commands, Ctrl-D ends", model.path, model.architecture, model.main_dtype);
    }
    let mut chat = Conversing {
        options: generation::text_options(&args.generation, sampler, &loaded.generator.tokenizer, None),
        loaded: &loaded,
        grammar,
        session,
        messages: Messages { system: args.generation.system.clone(), turns: Vec::new() },
        n_turns: 0,
        last: None,
        json,
    };
    chat.converse(&mut input)
}

/// A conversation in progress.
struct Conversing<'m> {
    options: TextOptions,
    loaded: &'m Loaded,
    grammar: Option<AnswerGrammar>,
    session: Session<'m>,
    messages: Messages,
    n_turns: u64,
    last: Option<ChatTurnReport>,
    json: bool,
}

impl Conversing<'_> {
    /// Takes messages until the end. On a terminal an error is said and the conversation goes on; from a pipe it goes
    /// on too, and the first error is the status.
    fn converse(&mut self, input: &mut Input) -> Result<ExitCode, CommandError> {
        let (mut status, mut was_interrupted) = (ExitCode::Ok, false);
        loop {
            let message = match input.next()? {
                Event::Message(message) => message,
                Event::Interrupted if was_interrupted => break,
                Event::Interrupted => {
                    eprintln!("(Ctrl-C again or Ctrl-D ends)");
                    was_interrupted = true;
                    continue;
                }
                Event::End => break,
            };
            was_interrupted = false;
            // A Ctrl-C that came too late for the last answer is not meant for this one.
            if input.is_terminal() && interrupt::take() == Some(Wish::End) {
                return Ok(ExitCode::Interrupted);
            }
            let done = match message.strip_prefix('/') {
                Some(command) if command.trim() == "quit" => break,
                Some(command) => self.command(command),
                None => self.turn(&message),
            };
            let code = match done {
                Ok(code) => code,
                Err(error) => error.report_line(self.json),
            };
            if !input.is_terminal() && status == ExitCode::Ok {
                status = code;
            }
            match interrupt::take() {
                Some(Wish::Stop) if input.is_terminal() => {}
                Some(_) => return Ok(ExitCode::Interrupted),
                None => {}
            }
        }
        Ok(status)
    }

    /// Answers a message.
    fn turn(&mut self, message: &str) -> Result<ExitCode, CommandError> {
        self.messages.turns.push(Message::new("user", message));
        let answered = self.answer();
        let (prompt_ids, answer) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                self.messages.turns.pop();
                return Err(error);
            }
        };
        let reason = answer.generation.finish_reason;
        if reason == FinishReason::Cancelled && answer.generation.tokens.is_empty() {
            self.messages.turns.pop();
        } else {
            self.messages.turns.push(Message::new("assistant", answer.text.as_str()));
        }
        self.n_turns += 1;
        let report = self.report(message, prompt_ids, answer);
        if self.json {
            output::print_json_line(&report);
        } else if !report.text.ends_with('\n') {
            output::print_text("\n");
        }
        match reason {
            FinishReason::Context => eprintln!("note: the context of {} tokens is full; {FULL}", report.context_limit),
            FinishReason::Cancelled => eprintln!("note: stopped after {} tokens", report.tokens.len()),
            FinishReason::Stop | FinishReason::Complete | FinishReason::Length => {}
        }
        self.last = Some(report);
        Ok(ExitCode::Ok)
    }

    /// Generates the next answer. What the conversation has in common with the last turn is still in the session.
    fn answer(&mut self) -> Result<(Vec<u32>, TextGeneration), CommandError> {
        let generator = &self.loaded.generator;
        let prompt_ids = generator.conversation_ids(&self.messages.all())?;
        let mut constraint = self.grammar.as_ref().map(AnswerGrammar::constraint);
        let hooks = Hooks {
            cancelled: Some(&|| interrupt::asked().is_break()),
            constraint: constraint.as_mut().map(|constraint| constraint.as_mut() as _),
        };
        let json = self.json;
        let show = |piece: &str| {
            if !json {
                output::print_text(piece);
            }
        };
        let n_free = self.session.context_limit();
        let answer = generate_text(&mut self.session, &generator.tokenizer, &prompt_ids, &self.options, hooks, show)
            .map_err(|error| {
                let error = CommandError::from(error);
                if prompt_ids.len() > n_free { error.hint(FULL) } else { error }
            })?;
        Ok((prompt_ids, answer))
    }

    fn report(&self, message: &str, prompt_ids: Vec<u32>, answer: TextGeneration) -> ChatTurnReport {
        let (generation, sampler) = (answer.generation, &self.options.tokens.sampler);
        let timings = &generation.timings;
        ChatTurnReport {
            schema: ChatTurnReport::SCHEMA.to_owned(),
            model: self.loaded.summary.path.clone(),
            turn: self.n_turns,
            message: message.to_owned(),
            prompt_ids,
            n_reused_tokens: timings.n_reused as u64,
            tokens: generation.tokens.iter().map(|&id| self.loaded.generator.token(id)).collect(),
            text: answer.text,
            finish_reason: finish_reason(generation.finish_reason).to_owned(),
            stop_id: generation.stop_id,
            stop_text: answer.stop_text,
            n_context_tokens: self.session.tokens().len() as u64,
            context_limit: self.session.context_limit() as u64,
            prefill_ms: millis(timings.prefill),
            decode_ms: millis(timings.decode),
            decode_tokens_per_second: generation::decode_rate(timings),
            numerics: "exact".to_owned(),
            logits_digest: generation.digest.as_ref().map(ToString::to_string),
            seed: (!sampler.is_greedy()).then_some(sampler.seed),
            sampler: generation::sampler_facts(sampler),
        }
    }

    /// Does what a line that begins with `/` asks for, and says so on stderr.
    fn command(&mut self, line: &str) -> Result<ExitCode, CommandError> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let file = || match rest {
            "" => Err(CommandError::new(ExitCode::Usage, format!("/{name} needs the name of a file"))),
            path => Ok(Path::new(path)),
        };
        match name {
            "system" if rest.is_empty() => match &self.messages.system {
                Some(system) => eprintln!("{system}"),
                None => eprintln!("there is no system message but the chat template's own"),
            },
            "system" => self.messages.system = Some(rest.to_owned()),
            "clear" => self.messages.turns.clear(),
            "save" => {
                let path = file()?;
                self.messages.save(path, &self.loaded.summary)?;
                eprintln!("saved {} messages to {}", self.messages.all().len(), path.display());
            }
            "load" => {
                let (messages, model) = Messages::load(file()?)?;
                eprintln!("{} messages, held with {}", messages.all().len(), model.path);
                let here = &self.loaded.summary;
                if (&model.architecture, model.n_parameters) != (&here.architecture, here.n_parameters) {
                    eprintln!("note: that is another model than {}", here.path);
                }
                self.messages = messages;
            }
            "stats" => eprintln!("{}", self.stats()),
            "help" => eprintln!("{HELP}"),
            _ => {
                let message = format!("/{name} is no command, expected one of those that /help lists");
                return Err(CommandError::new(ExitCode::Usage, message));
            }
        }
        Ok(ExitCode::Ok)
    }

    fn stats(&self) -> String {
        let Some(last) = &self.last else { return "nothing was asked yet".to_owned() };
        let rate = last.decode_tokens_per_second.map_or(String::new(), |rate| format!(", {rate:.1} tokens/s"));
        let n_prompt = last.prompt_ids.len() as u64;
        format!(
            "{} turns; {} of {} tokens in the context\n\
             last turn: {n_prompt} prompt tokens, {} of them reused, {} read in {:.0} ms; {} generated in {:.0} ms{rate}",
            self.n_turns,
            last.n_context_tokens,
            last.context_limit,
            last.n_reused_tokens,
            n_prompt - last.n_reused_tokens,
            last.prefill_ms,
            last.tokens.len(),
            last.decode_ms,
        )
    }
}

/// What to do when the context is full.
const FULL: &str =
    "/save FILE keeps the conversation, /clear begins anew, --ctx-size raises the limit up to the model's";
