//! `apr tokenize`: the tokens of a text, or the text of tokens.

use super::generation::{self, token_text};
use super::text;
use crate::args::Tokenize;
use crate::error::CommandError;
use crate::{model, output};
use apr_engine::Tokenizer;
use apr_report::{ExitCode, Report, TextToken, TokenizeReport};

pub(super) fn run(args: &Tokenize, json: bool) -> Result<ExitCode, CommandError> {
    let given = text::given(args.text.text.as_deref(), args.text.file.as_deref())?;
    if given.is_none() && args.decode.is_empty() {
        return Err(CommandError::new(ExitCode::Usage, "no text was given").hint(
            "apr tokenize MODEL \"some text\", or - to read it from standard input, or -f FILE, or --decode IDS",
        ));
    }
    let (_, checkpoint) = model::open(&args.model)?;
    let tokenizer = generation::tokenizer(&checkpoint)?;
    let (direction, text, ids) = match given {
        Some(text) => {
            let ids = tokenizer
                .encode(&text, !args.no_special)
                .map_err(|e| CommandError::new(ExitCode::InferenceFailed, format!("tokenizer: {e}")))?;
            ("encode", text, ids)
        }
        None => {
            if let Some(id) = args.decode.iter().find(|&&id| id >= tokenizer.n_tokens()) {
                let message = format!("--decode {id}: expected an id less than {}", tokenizer.n_tokens());
                return Err(CommandError::new(ExitCode::Usage, message));
            }
            ("decode", tokenizer.decode(&args.decode, args.no_special), args.decode.clone())
        }
    };
    let report = TokenizeReport {
        schema: TokenizeReport::SCHEMA.to_owned(),
        model: args.model.display().to_string(),
        direction: direction.to_owned(),
        n_tokens: ids.len() as u64,
        n_bytes: text.len() as u64,
        tokens: ids.iter().map(|&id| token(&tokenizer, id)).collect(),
        text,
        ids,
        special: !args.no_special,
    };
    output::print(json, &report, render);
    Ok(ExitCode::Ok)
}

fn token(tokenizer: &Tokenizer, id: u32) -> TextToken {
    TextToken {
        id,
        piece: tokenizer.token_text(id).unwrap_or_default().to_owned(),
        text: token_text(tokenizer, id),
        special: tokenizer.is_special(id),
    }
}

fn render(report: &TokenizeReport) -> String {
    if report.direction == "decode" {
        let end = if report.text.ends_with('\n') { "" } else { "\n" };
        return format!("{}{end}", report.text);
    }
    let rows = report.tokens.iter().enumerate().map(|(position, token)| {
        let kind = if token.special { "control" } else { "" };
        vec![position.to_string(), token.id.to_string(), token.piece.clone(), format!("{:?}", token.text), kind.into()]
    });
    let table = output::table(&["pos", "id", "piece", "text", ""], rows);
    format!("{table}{} tokens, {} bytes\n", report.n_tokens, report.n_bytes)
}
