//! `--grammar` and `--json-schema`: what an answer is held to.

use crate::args;
use crate::error::CommandError;
use apr_engine::{Constraint, Tokenizer};
use apr_report::ExitCode;

/// A grammar that was asked for, compiled for the model's vocabulary.
pub(super) struct AnswerGrammar {
    /// `grammar` or `json_schema`.
    pub(super) name: &'static str,
    #[cfg(feature = "grammar")]
    grammar: apr_engine::Grammar,
}

impl AnswerGrammar {
    /// Reads and compiles what the arguments name.
    #[cfg(feature = "grammar")]
    pub(super) fn new(args: &args::Generation, tokenizer: &Tokenizer) -> Result<Option<Self>, CommandError> {
        use super::text;
        use apr_engine::{Grammar, GrammarSource};
        let (name, source) = match (&args.grammar, &args.json_schema) {
            (Some(path), _) => ("grammar", GrammarSource::Lark(text::read_file(path)?)),
            (None, Some(schema)) => {
                let inline = schema.trim_start().starts_with(['{', '[']) || ["true", "false"].contains(&schema.trim());
                let text = if inline { schema.clone() } else { text::read_file(schema.as_ref())? };
                let schema = serde_json::from_str(&text).map_err(|e| {
                    CommandError::new(ExitCode::Usage, format!("--json-schema is not JSON: {e}"))
                        .hint("give a file, or the schema itself: '{\"type\": \"object\"}'")
                })?;
                ("json_schema", GrammarSource::JsonSchema(schema))
            }
            (None, None) => return Ok(None),
        };
        let grammar =
            Grammar::new(&source, tokenizer).map_err(|e| CommandError::new(ExitCode::Usage, e.to_string()))?;
        Ok(Some(Self { name, grammar }))
    }

    /// Says that this build has none.
    #[cfg(not(feature = "grammar"))]
    pub(super) fn new(args: &args::Generation, _tokenizer: &Tokenizer) -> Result<Option<Self>, CommandError> {
        if args.grammar.is_none() && args.json_schema.is_none() {
            return Ok(None);
        }
        Err(CommandError::new(ExitCode::Unavailable, "this build can't hold an answer to a grammar or a JSON schema")
            .hint("build it with the feature `grammar`, which is on by default"))
    }

    /// The constraint on one answer.
    pub(super) fn constraint(&self) -> Box<dyn Constraint> {
        #[cfg(feature = "grammar")]
        return Box::new(self.grammar.constraint());
        #[cfg(not(feature = "grammar"))]
        unreachable!("without the feature there is no value of this type");
    }
}
