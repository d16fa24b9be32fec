//! `apr run`: a prompt in, text out.

use super::generation::{self, Generator, isa_title};
use crate::args::{CacheArg, Run};
use crate::error::CommandError;
use crate::{interrupt, model, output};
use apr_engine::{
    CacheDType, FinishReason, GenerateOptions, Generation, SamplerSpec, Session, SessionOptions, TextStream, generate,
};
use apr_report::{BackendUsed, ExitCode, GeneratedToken, ModelSummary, Report, RunReport, RunTimes};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

/// What `--verbose` says, on stderr. The wording follows F-UX-027 … 040.
struct Verbose(bool);

impl Verbose {
    fn say(&self, text: impl FnOnce() -> String) {
        if self.0 {
            eprintln!("{}", text());
        }
    }
}

pub(super) fn run(args: &Run, json: bool) -> Result<ExitCode, CommandError> {
    let verbose = Verbose(args.verbose);
    let prompt = prompt(args)?;
    let (backend, used) = generation::backend(&args.device)?;
    let isa = backend.isa();
    let threads = backend.n_threads();

    let started = Instant::now();
    verbose.say(|| "=== APR Run ===".to_owned());
    verbose.say(|| format!("Source: {}", args.model.display()));
    let (source, checkpoint) = model::open(&args.model)?;
    verbose.say(|| format!("Using mmap for {}MB model", source.len_bytes() / 1_000_000));
    verbose.say(|| "Loading model: ...".to_owned());
    let generator = Generator::new(&checkpoint, backend)?;
    let cache_dtype = match args.kv_cache {
        CacheArg::F32 => CacheDType::F32,
        CacheArg::F16 => CacheDType::F16,
    };
    let options = SessionOptions { cache_dtype, context_limit: args.ctx_size, ..SessionOptions::default() };
    let mut session = Session::new(&generator.model, options)
        .map_err(|e| CommandError { code: ExitCode::Usage, ..CommandError::from(e) })?;
    let prompt_ids = generator.prompt_ids(&prompt, &args.mode)?;
    let load = started.elapsed();

    let spec = &checkpoint.spec;
    let main_dtype = checkpoint.main_dtype().map_or("none", apr_tensor::DType::name);
    verbose.say(|| {
        let (title, id) = (spec.arch.title, spec.arch.id);
        let (layers, vocab) = (spec.n_layers, spec.vocab_size);
        format!("Architecture: {title} [{}: {id}] ({layers} layers, vocab_size={vocab})", source.format)
    });
    verbose.say(|| {
        let (hidden, context) = (spec.hidden_size, spec.context_length);
        format!("Config: hidden_size={hidden}, context_length={context}, quant={main_dtype}, threads={threads}")
    });
    verbose.say(|| format!("Model loaded in {:.1}ms", millis(load)));
    verbose.say(|| format!("Backend: CPU ({}, {}, exact numerics)", used.device, isa_title(isa)));
    let sampler = SamplerSpec {
        temperature: args.sampling.temp,
        top_k: args.sampling.top_k,
        top_p: args.sampling.top_p,
        min_p: args.sampling.min_p,
        repeat_penalty: args.sampling.repeat_penalty,
        seed: args.sampling.seed,
        ..SamplerSpec::default()
    };
    if !sampler.is_greedy() {
        verbose.say(|| format!("Sampler: temperature {}, seed {}", sampler.temperature, sampler.seed));
    }
    verbose.say(|| "Output:".to_owned());

    let stop_ids = generator.tokenizer.special().stop.clone();
    let options = GenerateOptions { max_tokens: args.max_tokens, sampler, stop_ids };
    let mut stream = TextStream::continuing(true);
    let mut text = String::new();
    let mut show = |piece: String| {
        if !json {
            output::print_text(&piece);
        }
        text.push_str(&piece);
    };
    let generation = generate(&mut session, &prompt_ids, &options, |event| {
        show(stream.push(&generator.tokenizer, event.id));
        interrupt::asked()
    })?;
    show(stream.finish());
    if !json && !text.ends_with('\n') {
        output::print_text("\n");
    }
    let reason = finish_reason(generation.finish_reason);
    verbose.say(|| {
        let n = generation.tokens.len();
        format!("Completed in {:.2}s ({n} tokens, {reason})", started.elapsed().as_secs_f64())
    });
    match generation.finish_reason {
        FinishReason::Context => eprintln!("note: the context of {} tokens is full", session.context_limit()),
        FinishReason::Cancelled => eprintln!("note: interrupted after {} tokens", generation.tokens.len()),
        FinishReason::Stop | FinishReason::Length => {}
    }

    if json {
        let summary = ModelSummary {
            path: args.model.display().to_string(),
            format: source.format.name().to_owned(),
            architecture: spec.arch.id.to_owned(),
            n_tensors: checkpoint.tensors.len() as u64,
            n_parameters: checkpoint.n_parameters(),
            main_dtype: main_dtype.to_owned(),
            file_bytes: source.len_bytes(),
        };
        let facts =
            Facts { model: summary, backend: used, isa: isa.to_string(), threads, load, cache: cache_dtype.name() };
        output::print_json(&report(facts, &generator, prompt, prompt_ids, &generation, text, sampler));
    }
    Ok(if generation.finish_reason == FinishReason::Cancelled { ExitCode::Failed } else { ExitCode::Ok })
}

fn prompt(args: &Run) -> Result<String, CommandError> {
    let given = args.prompt_text.as_deref().or(args.prompt.as_deref());
    match given {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| {
                CommandError::new(ExitCode::Io, format!("standard input: {e}")).hint("the prompt must be UTF-8 text")
            })?;
            Ok(text)
        }
        Some(text) => Ok(text.to_owned()),
        None => Err(CommandError::new(ExitCode::Usage, "no prompt was given")
            .hint("apr run MODEL \"What is 2+2?\", or - to read it from standard input")),
    }
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Context => "context",
        FinishReason::Cancelled => "cancelled",
    }
}

/// What is known before generation starts.
struct Facts {
    model: ModelSummary,
    backend: BackendUsed,
    isa: String,
    threads: usize,
    load: Duration,
    cache: &'static str,
}

fn report(
    facts: Facts,
    generator: &Generator,
    prompt: String,
    prompt_ids: Vec<u32>,
    generation: &Generation,
    text: String,
    sampler: SamplerSpec,
) -> RunReport {
    let timings = &generation.timings;
    let decode_s = timings.decode.as_secs_f64();
    let steps = timings.n_decoded;
    RunReport {
        schema: RunReport::SCHEMA.to_owned(),
        model: facts.model,
        n_prompt_tokens: prompt_ids.len() as u64,
        n_generated_tokens: generation.tokens.len() as u64,
        prompt,
        prompt_ids,
        tokens: tokens(generator, &generation.tokens),
        text,
        finish_reason: finish_reason(generation.finish_reason).to_owned(),
        numerics: "exact".to_owned(),
        isa: facts.isa,
        threads: facts.threads,
        kv_cache: facts.cache.to_owned(),
        backend: facts.backend,
        times: RunTimes {
            load_ms: millis(facts.load),
            prefill_ms: millis(timings.prefill),
            decode_ms: millis(timings.decode),
        },
        decode_tokens_per_second: (steps > 0 && decode_s > 0.0).then(|| steps as f64 / decode_s),
        logits_digest: generation.digest.as_ref().map(ToString::to_string),
        seed: (!sampler.is_greedy()).then_some(sampler.seed),
        sampler: sampler_facts(sampler),
    }
}

/// The settings that had a say.
fn sampler_facts(sampler: SamplerSpec) -> BTreeMap<String, serde_json::Value> {
    let name = if sampler.is_greedy() { "greedy" } else { "seeded" };
    let mut facts = BTreeMap::from([("name".to_owned(), serde_json::json!(name))]);
    let mut add = |key: &str, value: serde_json::Value| facts.insert(key.to_owned(), value);
    add("repeat_penalty", serde_json::json!(sampler.repeat_penalty));
    if !sampler.is_greedy() {
        add("temperature", serde_json::json!(sampler.temperature));
        add("top_k", serde_json::json!(sampler.top_k));
        add("top_p", serde_json::json!(sampler.top_p));
        add("min_p", serde_json::json!(sampler.min_p));
        add("generator", serde_json::json!("ChaCha8"));
    }
    facts
}

/// Ids with their texts.
pub(super) fn tokens(generator: &Generator, ids: &[u32]) -> Vec<GeneratedToken> {
    let text = |id: u32| match generator.tokenizer.token_bytes(id) {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => String::new(),
    };
    ids.iter().map(|&id| GeneratedToken { id, text: text(id) }).collect()
}
