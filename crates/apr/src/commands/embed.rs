//! `apr embed`: texts as vectors.

use super::generation::{Generator, Loaded};
use super::text;
use crate::args::{Embed, PoolingArg};
use crate::error::CommandError;
use crate::{interrupt, model, output};
use apr_engine::{Session, SessionError, SessionOptions};
use apr_report::{EmbedReport, Embedding, ExitCode, Report};

pub(super) fn run(args: &Embed, json: bool) -> Result<ExitCode, CommandError> {
    let given = text::given(args.text.text.as_deref(), args.text.file.as_deref())?.ok_or_else(|| {
        CommandError::new(ExitCode::Usage, "no text was given")
            .hint("apr embed MODEL \"some text\", or - to read it from standard input, or -f FILE")
    })?;
    let texts: Vec<&str> = if args.lines { given.lines().collect() } else { vec![&given] };
    let source = model::locate(&args.model)?;
    let loaded = Loaded::new(&args.model, &source, &args.device, None)?;
    let options = SessionOptions {
        cache_dtype: args.kv_cache.dtype(),
        context_limit: args.ctx_size,
        ..SessionOptions::default()
    };
    let mut embeddings = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        if interrupt::asked().is_break() {
            return Err(CommandError::new(ExitCode::Interrupted, "interrupted"));
        }
        let ids = loaded.generator.encode(text, !args.no_special)?;
        let states = states(&loaded.generator, options, &ids, args.pooling).map_err(|error| {
            let code = match &error {
                SessionError::ContextLimit { .. } | SessionError::EmptyPrompt => ExitCode::Usage,
                _ => ExitCode::InferenceFailed,
            };
            let place = if args.lines { format!("line {}: ", index + 1) } else { String::new() };
            CommandError::new(code, format!("{place}{error}"))
        })?;
        let width = loaded.generator.model.spec().hidden_size as usize;
        embeddings.push(Embedding { text: text.to_owned(), ids, values: pooled(&states, width, args.normalize) });
    }
    let report = EmbedReport {
        schema: EmbedReport::SCHEMA.to_owned(),
        pooling: pooling_name(args.pooling).to_owned(),
        normalized: args.normalize,
        dimension: loaded.generator.model.spec().hidden_size.into(),
        numerics: "exact".to_owned(),
        isa: loaded.isa.to_string(),
        threads: loaded.threads,
        model: loaded.summary,
        embeddings,
    };
    output::print(json, &report, render);
    Ok(ExitCode::Ok)
}

fn pooling_name(pooling: PoolingArg) -> &'static str {
    match pooling {
        PoolingArg::Mean => "mean",
        PoolingArg::Last => "last",
        PoolingArg::First => "first",
    }
}

/// States after the final norm, `[n, hidden]`, of the tokens that the pooling needs.
fn states(
    generator: &Generator,
    options: SessionOptions,
    ids: &[u32],
    pooling: PoolingArg,
) -> Result<Vec<f32>, SessionError> {
    let mut session = Session::new(&generator.model, options)?;
    match pooling {
        PoolingArg::Mean => {
            let mut states = Vec::new();
            session.states_each(ids, |_, state| states.extend_from_slice(state))?;
            Ok(states)
        }
        PoolingArg::Last => session.last_state(ids),
        PoolingArg::First => {
            // A token sees only those before it: the others need not be computed, but must fit.
            let held = ids.len().min(1);
            let state = session.last_state(&ids[..held])?;
            if ids.len() > session.context_limit() {
                session.last_state(&ids[held..])?;
            }
            Ok(state)
        }
    }
}

/// The mean of the rows of `states`, with length 1 where `normalize` asks for it.
///
/// In binary64, rounded to binary32 once at the end: each column is added by ascending position and divided by the
/// number of rows; the squares are added by ascending column, and each value is divided by the root of their sum. A
/// vector of zeros stays one.
fn pooled(states: &[f32], width: usize, normalize: bool) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in states.chunks_exact(width) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    let n_rows = (states.len() / width) as f64;
    let mut values: Vec<f64> = sums.into_iter().map(|sum| sum / n_rows).collect();
    let length = values.iter().fold(0.0, |sum, value| sum + value * value).sqrt();
    if normalize && length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// One vector per line.
fn render(report: &EmbedReport) -> String {
    let line = |embedding: &Embedding| {
        let values: Vec<String> = embedding.values.iter().map(f32::to_string).collect();
        values.join(" ") + "\n"
    };
    report.embeddings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_averaged_and_scaled() {
        assert_eq!(pooled(&[1.0, 2.0, 5.0, 6.0], 2, false), [3.0, 4.0]);
        assert_eq!(pooled(&[1.0, 2.0, 5.0, 6.0], 2, true), [0.6, 0.8]);
        assert_eq!(pooled(&[0.0, 0.0], 2, true), [0.0, 0.0]);
        let large = f32::MAX;
        assert_eq!(pooled(&[large, 0.0, large, 0.0], 2, false), [large, 0.0], "sums don't overflow");
        assert_eq!(pooled(&[large, 0.0], 2, true), [1.0, 0.0]);
    }
}
