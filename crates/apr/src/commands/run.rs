//! `apr run`: a prompt in, text out.

use super::generation::{self, Generator, Loaded, finish_reason, millis, token_text};
use super::grammar::AnswerGrammar;
use super::{text, verbose};
use crate::args::Run;
use crate::error::CommandError;
use crate::{interrupt, model, output};
use apr_engine::{FinishReason, Hooks, Message, SamplerSpec, Session, TextGeneration, generate_text};
use apr_report::{ExitCode, PositionLogprobs, Report, RunReport, RunTimes, TokenLogprob};
use std::time::Instant;

pub(super) fn run(args: &Run, json: bool) -> Result<ExitCode, CommandError> {
    let verbose = |line: &dyn Fn() -> String| {
        if args.verbose {
            eprintln!("{}", line());
        }
    };
    let sampler = generation::sampler(&args.generation.sampling)?;
    let prompt = prompt(args)?;

    let started = Instant::now();
    verbose(&|| verbose::title(&args.model));
    let source = model::locate(&args.model)?;
    verbose(&|| verbose::loading(source.len_bytes()));
    let loaded = Loaded::new(&args.model, &source, &args.generation.device, args.generation.chat_template.as_deref())?;
    let generator = &loaded.generator;
    let grammar = AnswerGrammar::new(&args.generation, &generator.tokenizer)?;
    let session_options = generation::session_options(&args.generation);
    let mut session = Session::new(&generator.model, session_options)
        .map_err(|e| CommandError { code: ExitCode::Usage, ..CommandError::from(e) })?;
    let prompt_ids = prompt_ids(generator, args, &prompt)?;
    let load_ms = millis(started.elapsed());
    verbose(&|| verbose::loaded(&loaded, load_ms));
    if !sampler.is_greedy() {
        verbose(&|| format!("Sampler: temperature {}, seed {}", sampler.temperature, sampler.seed));
    }
    verbose(&|| "Output:".to_owned());

    let options = generation::text_options(&args.generation, sampler, &generator.tokenizer, args.logprobs);
    let mut constraint = grammar.as_ref().map(AnswerGrammar::constraint);
    let hooks = Hooks {
        cancelled: Some(&|| interrupt::asked().is_break()),
        constraint: constraint.as_mut().map(|constraint| constraint.as_mut() as _),
    };
    let answer = generate_text(&mut session, &generator.tokenizer, &prompt_ids, &options, hooks, |piece| {
        if !json {
            output::print_text(piece);
        }
    })?;
    if !json && !answer.text.ends_with('\n') {
        output::print_text("\n");
    }
    let reason = answer.generation.finish_reason;
    verbose(&|| verbose::completed(started.elapsed(), &answer.generation));
    match reason {
        FinishReason::Context => eprintln!("note: the context of {} tokens is full", session.context_limit()),
        FinishReason::Cancelled => eprintln!("{}", verbose::interrupted(load_ms, prompt_ids.len(), &answer.generation)),
        FinishReason::Stop | FinishReason::Complete | FinishReason::Length => {}
    }

    let settings = Settings {
        system: args.generation.system.clone(),
        sampler,
        kv_cache: session_options.cache_dtype.name(),
        constraint: grammar.map(|grammar| grammar.name.to_owned()),
        logprobs: args.logprobs.is_some(),
    };
    let report = report(loaded, settings, prompt, prompt_ids, answer, load_ms);
    if json {
        output::print_json(&report);
    } else if let Some(logprobs) = &report.logprobs {
        output::print_text(&logprob_table(logprobs));
    }
    Ok(if reason == FinishReason::Cancelled { ExitCode::Interrupted } else { ExitCode::Ok })
}

fn prompt(args: &Run) -> Result<String, CommandError> {
    let prompt = args.prompt_text.as_deref().or(args.prompt.as_deref());
    text::given(prompt, args.file.as_deref())?.ok_or_else(|| {
        CommandError::new(ExitCode::Usage, "no prompt was given")
            .hint("apr run MODEL \"What is 2+2?\", or - to read it from standard input, or -f FILE")
    })
}

fn prompt_ids(generator: &Generator, args: &Run, prompt: &str) -> Result<Vec<u32>, CommandError> {
    match &args.generation.system {
        None => generator.prompt_ids(prompt, &args.mode),
        Some(_) if args.mode.raw => Err(CommandError::new(
            ExitCode::Usage,
            "--system is part of a conversation and --raw gives the prompt alone",
        )
        .hint("leave out one of them")),
        Some(system) => {
            generator.conversation_ids(&[Message::new("system", system.as_str()), Message::new("user", prompt)])
        }
    }
}

/// What was asked for.
struct Settings {
    system: Option<String>,
    sampler: SamplerSpec,
    kv_cache: &'static str,
    constraint: Option<String>,
    logprobs: bool,
}

fn report(
    loaded: Loaded,
    settings: Settings,
    prompt: String,
    prompt_ids: Vec<u32>,
    answer: TextGeneration,
    load_ms: f64,
) -> RunReport {
    let (generation, generator) = (&answer.generation, &loaded.generator);
    let timings = &generation.timings;
    let sampler = &settings.sampler;
    let logprobs = answer.logprobs.iter().map(|position| logprobs(generator, position)).collect::<Vec<_>>();
    RunReport {
        schema: RunReport::SCHEMA.to_owned(),
        n_prompt_tokens: prompt_ids.len() as u64,
        n_generated_tokens: generation.tokens.len() as u64,
        prompt,
        system: settings.system,
        prompt_ids,
        tokens: generation.tokens.iter().map(|&id| generator.token(id)).collect(),
        text: answer.text,
        finish_reason: finish_reason(generation.finish_reason).to_owned(),
        stop_id: generation.stop_id,
        stop_text: answer.stop_text,
        logprobs: settings.logprobs.then_some(logprobs),
        constraint: settings.constraint,
        numerics: "exact".to_owned(),
        isa: loaded.isa.to_string(),
        threads: loaded.threads,
        kv_cache: settings.kv_cache.to_owned(),
        times: RunTimes { load_ms, prefill_ms: millis(timings.prefill), decode_ms: millis(timings.decode) },
        decode_tokens_per_second: generation::decode_rate(timings),
        logits_digest: generation.digest.as_ref().map(ToString::to_string),
        seed: (!sampler.is_greedy()).then_some(sampler.seed),
        sampler: generation::sampler_facts(sampler),
        model: loaded.summary,
        backend: loaded.backend,
    }
}

fn logprobs(generator: &Generator, position: &apr_engine::PositionLogprobs) -> PositionLogprobs {
    let named = |token: &apr_engine::TokenLogprob| TokenLogprob {
        id: token.id,
        text: token_text(&generator.tokenizer, token.id),
        logprob: token.logprob,
    };
    PositionLogprobs { chosen: named(&position.chosen), top: position.top.iter().map(named).collect() }
}

/// A row per position: what was chosen, then the most probable tokens.
fn logprob_table(positions: &[PositionLogprobs]) -> String {
    let of = |token: &TokenLogprob| format!("{:?} {:.4}", token.text, token.logprob);
    let rows = positions.iter().enumerate().map(|(index, position)| {
        let (chosen, top) = (&position.chosen, position.top.iter().map(of).collect::<Vec<_>>());
        let logprob = format!("{:.6}", chosen.logprob);
        vec![index.to_string(), chosen.id.to_string(), format!("{:?}", chosen.text), logprob, top.join("  ")]
    });
    format!("\n{}", output::table(&["pos", "id", "token", "logprob", "most probable"], rows))
}
