//! `apr rosetta compare-inference`: the same prompt to two models, logits compared bit by bit.

use super::generation::{self, Generator};
use crate::args::CompareInference;
use crate::error::CommandError;
use crate::{interrupt, model, output};
use apr_engine::{
    GenerateOptions, LogitsHasher, SamplerSpec, Session, SessionOptions, TextStream, generate, kl_divergence,
    most_likely,
};
use apr_report::{CompareInferenceReport, ExitCode, LogitComparison, Report};
use std::fmt::Write;
use std::path::Path;

struct Answer {
    generator: Generator,
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    text: String,
}

pub(super) fn run(args: &CompareInference, json: bool) -> Result<ExitCode, CommandError> {
    let a = answer(args, &args.pair.a)?;
    let b = answer(args, &args.pair.b)?;
    let longer = a.ids.len().max(b.ids.len());
    let mismatches: Vec<usize> = (0..longer).filter(|&i| a.ids.get(i) != b.ids.get(i)).collect();
    let logits = if a.prompt_ids == b.prompt_ids { compare_logits(&a, &b)? } else { None };
    let mut report = CompareInferenceReport {
        schema: CompareInferenceReport::SCHEMA.to_owned(),
        a: args.pair.a.display().to_string(),
        b: args.pair.b.display().to_string(),
        prompt: args.prompt.clone(),
        tokens_a: a.ids.iter().map(|&id| a.generator.token(id)).collect(),
        tokens_b: b.ids.iter().map(|&id| b.generator.token(id)).collect(),
        n_tokens_compared: longer as u64,
        n_token_mismatches: mismatches.len() as u64,
        first_mismatch: mismatches.first().map(|&i| i as u64),
        passed: !a.ids.is_empty()
            && !b.ids.is_empty()
            && mismatches.is_empty()
            && logits.as_ref().is_some_and(|l| l.bits_equal && l.n_compared > 0),
        logits,
        prompt_ids_a: a.prompt_ids,
        prompt_ids_b: b.prompt_ids,
        text_a: a.text,
        text_b: b.text,
        diagnosis: None,
    };
    report.diagnosis = diagnosis(&report);
    output::print(json, &report, text);
    Ok(if report.passed { ExitCode::Ok } else { ExitCode::Mismatch })
}

fn answer(args: &CompareInference, path: &Path) -> Result<Answer, CommandError> {
    let (_, checkpoint) = model::open(path)?;
    let (backend, _) = generation::backend(&args.device)?;
    let generator = Generator::new(&checkpoint, backend)?;
    let prompt_ids = generator.prompt_ids(&args.prompt, &args.mode)?;
    let stop_ids = generator.tokenizer.special().stop.clone();
    let options = GenerateOptions { max_tokens: args.max_tokens, sampler: SamplerSpec::default(), stop_ids };
    let mut text = String::new();
    let generation = {
        let mut session = Session::new(&generator.model, SessionOptions::default())?;
        let mut stream = TextStream::continuing(true);
        let generation = generate(&mut session, &prompt_ids, &options, |event| {
            text.push_str(&stream.push(&generator.tokenizer, event.id));
            interrupt::asked()
        })?;
        text.push_str(&stream.finish());
        generation
    };
    if interrupt::asked().is_break() {
        return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
    }
    Ok(Answer { generator, prompt_ids, ids: generation.tokens, text })
}

/// Feeds prompt and answer of the first model to both and compares the logits of every position.
fn compare_logits(a: &Answer, b: &Answer) -> Result<Option<LogitComparison>, CommandError> {
    let mut ids = a.prompt_ids.clone();
    ids.extend(&a.ids);
    let all = |answer: &Answer| -> Result<Vec<f32>, CommandError> {
        Ok(Session::new(&answer.generator.model, SessionOptions::default())?.forward_all(&ids)?)
    };
    let (x, y) = (all(a)?, all(b)?);
    let vocab = x.len() / ids.len().max(1);
    if x.is_empty() || x.len() != y.len() {
        return Ok(None);
    }
    let digest = |logits: &[f32]| {
        let mut hasher = LogitsHasher::default();
        logits.chunks_exact(vocab).for_each(|position| hasher.update(position));
        hasher.digest().to_string()
    };
    let mut found = LogitComparison {
        positions: ids.len() as u64,
        n_compared: x.len() as u64,
        n_different: 0,
        max_abs: Some(0.0),
        kl_max: Some(0.0),
        argmax_equal: 0,
        bits_equal: true,
        digest_a: digest(&x),
        digest_b: digest(&y),
    };
    for (p, q) in x.chunks_exact(vocab).zip(y.chunks_exact(vocab)) {
        let different = p.iter().zip(q).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64;
        found.n_different += different;
        let max = p.iter().zip(q).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, f64::max);
        found.max_abs = found.max_abs.filter(|_| max.is_finite()).map(|m| m.max(max));
        let kl = if different == 0 { 0.0 } else { kl_divergence(p, q) };
        found.kl_max = found.kl_max.filter(|_| kl.is_finite()).map(|m| m.max(kl));
        found.argmax_equal += u64::from(most_likely(p) == most_likely(q));
    }
    found.bits_equal = found.n_different == 0;
    Ok(Some(found))
}

/// The likely cause of a difference, by what differs first.
fn diagnosis(report: &CompareInferenceReport) -> Option<String> {
    if report.passed {
        return None;
    }
    let text = if report.prompt_ids_a != report.prompt_ids_b {
        "the prompt has other token ids: tokenizer, special tokens or chat template differ; see `apr rosetta verify`"
    } else if report.tokens_a.is_empty() && report.tokens_b.is_empty() {
        "neither model generated a token: nothing was compared"
    } else if report.tokens_a.is_empty() || report.tokens_b.is_empty() {
        "one model produced no output: an inference bug (layout, kernel, or load issue)"
    } else if report.logits.is_none() {
        "the vocabularies have other sizes: these are not the same model"
    } else if report.n_token_mismatches == 0 {
        "the same tokens from other logits: a weight or a hyper-parameter differs slightly; \
         `apr rosetta verify` names it"
    } else {
        "other logits from the same token ids: weights or hyper-parameters differ; `apr rosetta verify` names them"
    };
    Some(text.to_owned())
}

fn text(report: &CompareInferenceReport) -> String {
    let mut out = String::new();
    let longer = report.tokens_a.len().max(report.tokens_b.len());
    let rows = (0..longer).map(|i| {
        let (a, b) = (report.tokens_a.get(i), report.tokens_b.get(i));
        let id = |t: Option<&apr_report::GeneratedToken>| t.map_or("-".to_owned(), |t| t.id.to_string());
        let word = |t: Option<&apr_report::GeneratedToken>| t.map_or(String::new(), |t| format!("{:?}", t.text));
        let status = if a.map(|t| t.id) == b.map(|t| t.id) { "same" } else { "MISMATCH" };
        vec![i.to_string(), id(a), word(a), id(b), word(b), status.to_owned()]
    });
    out.push_str(&output::table(&["pos", "id a", "text a", "id b", "text b", "status"], rows));
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    if let Some(l) = &report.logits {
        let number = |x: Option<f64>| x.map_or("not finite".to_owned(), |x| format!("{x:.3e}"));
        line(format!(
            "logits: {} of {} differ over {} positions, max {}, KL {}, argmax equal at {}",
            l.n_different,
            l.n_compared,
            l.positions,
            number(l.max_abs),
            number(l.kl_max),
            l.argmax_equal
        ));
    }
    match (&report.diagnosis, report.passed) {
        (Some(diagnosis), _) => line(format!("DIFFERENT: {diagnosis}")),
        (None, _) => line(format!("the same in every bit: {} tokens", report.n_tokens_compared)),
    }
    out
}
