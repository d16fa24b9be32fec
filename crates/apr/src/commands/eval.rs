//! `apr eval`: the perplexity of a text, and the distance from a reference.

use super::generation::{Generator, Loaded};
use super::text;
use crate::args::Eval;
use crate::error::CommandError;
use crate::measure::perplexity::{Cut, ReferenceScores, Scores, score};
use crate::measure::statistics::{P99_SAMPLES, mean, percentile, spread, standard_error};
use crate::{model, output};
use apr_engine::SessionOptions;
use apr_report::{
    Delta, Divergence, EvalPosition, EvalReport, ExitCode, Figure, ModelSummary, ReferenceComparison, Report,
};
use std::fmt::Write;
use std::path::Path;

/// Windows are this long where the user says nothing and the model's context allows it.
const WINDOW: usize = 512;

/// A model that reads text, and what a report says of it.
struct Reader {
    generator: Generator,
    summary: ModelSummary,
}

impl Reader {
    fn open(path: &Path, args: &Eval) -> Result<Self, CommandError> {
        let Loaded { generator, summary, .. } = Loaded::new(path, &model::locate(path)?, &args.device, None)?;
        Ok(Self { generator, summary })
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, CommandError> {
        let ids = self.generator.tokenizer.encode(text, true);
        ids.map_err(|e| CommandError::new(ExitCode::InferenceFailed, format!("tokenizer: {e}")))
    }

    fn context_length(&self) -> usize {
        self.generator.model.spec().context_length as usize
    }
}

pub(super) fn run(args: &Eval, json: bool) -> Result<ExitCode, CommandError> {
    let text = text::read_file(&args.file)?;
    let reader = Reader::open(&args.model, args)?;
    let reference = args.reference.as_ref().map(|path| Reader::open(path, args)).transpose()?;
    let mut ids = reader.ids(&text)?;
    if let Some(reference) = &reference {
        same_vocabulary(&reader, reference, &ids, &reference.ids(&text)?)?;
    }
    let n_tokens = ids.len();
    ids.truncate(args.max_tokens.map_or(usize::MAX, std::num::NonZeroUsize::get));
    let longest = [Some(&reader), reference.as_ref()].into_iter().flatten().map(Reader::context_length).min();
    let cut = cut(args, longest.unwrap_or(WINDOW))?;
    if ids.len() < 2 {
        let message = format!("{}: {} tokens, none of which has a token before it", args.file.display(), ids.len());
        return Err(CommandError::new(ExitCode::Failed, message)
            .hint("the first token is never scored: give a text of at least two tokens")
            .about(&args.file));
    }

    let options = SessionOptions { cache_dtype: args.kv_cache.dtype(), ..SessionOptions::default() };
    let mut progress = output::Progress::counting("tokens");
    let models = (&reader.generator.model, reference.as_ref().map(|reference| &reference.generator.model));
    let scores = score(models.0, models.1, options, &ids, cut, |done, total| {
        progress.update(done as u64, total as u64);
    })?;
    drop(progress);
    let report = report(args, reader.summary, reference.map(|r| r.summary), (n_tokens, &ids), cut, &scores);
    output::print(json, &report, summary);
    Ok(if report.interrupted { ExitCode::Interrupted } else { ExitCode::Ok })
}

/// Scores of two models can be compared where both read the same tokens and choose among the same ones.
fn same_vocabulary(model: &Reader, reference: &Reader, ids: &[u32], other: &[u32]) -> Result<(), CommandError> {
    let [a, b] = [model, reference].map(|reader| reader.generator.model.spec().vocab_size);
    let message = if a != b {
        format!("the model has {a} token ids and the reference {b}")
    } else if ids != other {
        let same = ids.iter().zip(other).take_while(|(x, y)| x == y).count();
        format!("model and reference read the text as other tokens, from token {same} on")
    } else {
        return Ok(());
    };
    Err(CommandError::new(ExitCode::Mismatch, message).hint("a reference needs the same tokenizer"))
}

fn cut(args: &Eval, longest: usize) -> Result<Cut, CommandError> {
    let usage = |message: String| CommandError::new(ExitCode::Usage, message);
    let window = args.window.map_or(WINDOW.min(longest), std::num::NonZeroUsize::get);
    let stride = args.stride.map_or((window / 2).max(1), std::num::NonZeroUsize::get);
    if window < 2 || window > longest {
        return Err(usage(format!(
            "windows of {window} tokens, expected between 2 and the context of {longest} tokens"
        )));
    }
    if stride > window {
        return Err(usage(format!("a stride of {stride} tokens would leave out text between windows of {window}")));
    }
    Ok(Cut { window, stride })
}

fn report(
    args: &Eval,
    model: ModelSummary,
    reference: Option<ModelSummary>,
    (n_tokens, ids): (usize, &[u32]),
    cut: Cut,
    scores: &Scores,
) -> EvalReport {
    let mean_nll = mean(&scores.nll);
    let error = standard_error(&scores.nll);
    let perplexity = mean_nll.exp();
    let ReferenceScores { nll: reference_nll, kl, .. } = &scores.reference;
    let positions = scores.positions.iter().enumerate().map(|(i, &position)| EvalPosition {
        position: position as u64,
        id: ids[position],
        nll: scores.nll[i],
        reference_nll: reference_nll.get(i).copied(),
        kl: kl.get(i).copied(),
    });
    EvalReport {
        schema: EvalReport::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        numerics: "exact".to_owned(),
        kv_cache: args.kv_cache.dtype().name().to_owned(),
        model,
        file: args.file.display().to_string(),
        n_tokens: n_tokens as u64,
        n_tokens_read: ids.len() as u64,
        interrupted: scores.interrupted,
        window: cut.window as u64,
        stride: cut.stride as u64,
        n_windows: scores.n_windows as u64,
        n_scored: scores.nll.len() as u64,
        n_unscored: (ids.len() - scores.nll.len()) as u64,
        mean_nll,
        perplexity,
        perplexity_standard_error: match error.value {
            Some(error) => Figure::of(perplexity * error),
            None => error.clone(),
        },
        mean_nll_standard_error: error,
        reference: reference.and_then(|model| comparison(model, scores)),
        positions: args.positions.then(|| positions.collect()),
    }
}

fn comparison(model: ModelSummary, scores: &Scores) -> Option<ReferenceComparison> {
    let ReferenceScores { nll, kl, n_same_top, n_bits_equal } = &scores.reference;
    let delta: Vec<f64> = scores.nll.iter().zip(nll).map(|(model, reference)| model - reference).collect();
    let (deltas, divergences) = (spread(&delta)?, spread(kl)?);
    let p99 = match percentile(kl, 99) {
        Some(p99) if kl.len() >= P99_SAMPLES => Figure::of(p99),
        _ => Figure::absent(format!("99 % needs ≥ {P99_SAMPLES} positions, have {}", kl.len())),
    };
    let squares: Vec<f64> = delta.iter().map(|delta| delta * delta).collect();
    Some(ReferenceComparison {
        model,
        mean_nll: mean(nll),
        perplexity: mean(nll).exp(),
        kl: Divergence { mean: mean(kl), median: divergences.median, p99, max: divergences.max },
        n_same_top: *n_same_top as u64,
        same_top_percent: 100.0 * *n_same_top as f64 / nll.len() as f64,
        delta_nll: Delta { mean: mean(&delta), rms: mean(&squares).sqrt(), min: deltas.min, max: deltas.max },
        n_bits_equal: *n_bits_equal as u64,
    })
}

fn summary(report: &EvalReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let plus_minus = |error: &Figure, digits: usize| match (error.value, &error.absent) {
        (Some(error), _) => format!(" ± {error:.digits$}"),
        (None, reason) => format!(" ({})", reason.as_deref().unwrap_or("no error known")),
    };
    line(format!("{}: {} on {}", report.model.path, report.model.main_dtype, report.file));
    line(format!(
        "  {} of {} tokens scored, in {} windows of {}, one every {} tokens",
        report.n_scored, report.n_tokens, report.n_windows, report.window, report.stride
    ));
    if report.interrupted {
        line("  interrupted: the figures are those of the tokens scored until then".to_owned());
    }
    line(format!("  perplexity   {:.4}{}", report.perplexity, plus_minus(&report.perplexity_standard_error, 4)));
    line(format!(
        "  mean nll     {:.6}{} nats per token",
        report.mean_nll,
        plus_minus(&report.mean_nll_standard_error, 6)
    ));
    if let Some(reference) = &report.reference {
        let (n, kl, delta) = (report.n_scored, &reference.kl, &reference.delta_nll);
        line(format!("against {}: {}", reference.model.path, reference.model.main_dtype));
        line(format!("  perplexity   {:.4}, mean nll {:.6}", reference.perplexity, reference.mean_nll));
        line(format!(
            "  KL           mean {:.3e}, median {:.3e}, 99 % {}, max {:.3e} nats",
            kl.mean,
            kl.median,
            kl.p99.value.map_or_else(|| "-".to_owned(), |p99| format!("{p99:.3e}")),
            kl.max
        ));
        line(format!("  same top     {} of {n} ({:.2} %)", reference.n_same_top, reference.same_top_percent));
        line(format!(
            "  Δ nll        mean {:+.3e}, rms {:.3e}, from {:+.3e} to {:+.3e}",
            delta.mean, delta.rms, delta.min, delta.max
        ));
        line(format!("  equal bits   at {} of {n} positions", reference.n_bits_equal));
    }
    out
}
