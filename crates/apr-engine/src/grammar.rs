//! Generation held to a grammar or a JSON schema, by the crate llguidance.

use crate::{Constraint, ConstraintError, TokenSet, Tokenizer};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource {
    /// A grammar in llguidance's variant of Lark; its rule `start` is the whole answer.
    Lark(String),
    /// A JSON schema: the answer is JSON that it accepts. Unless the schema has llguidance's `x-guidance`, a run of
    /// whitespace between its parts is at most 16 long: small models would go on with it for ever.
    JsonSchema(serde_json::Value),
}

impl GrammarSource {
    fn what(&self) -> &'static str {
        match self {
            GrammarSource::Lark(_) => "grammar",
            GrammarSource::JsonSchema(_) => "JSON schema",
        }
    }
}

/// A grammar compiled for one vocabulary.
pub struct Grammar {
    fresh: Matcher,
}

/// llguidance's tree of tokens is at most 1024 bytes deep; a longer token is never allowed.
const MAX_TOKEN_BYTES: usize = 1000;

/// It has at most 2^22 nodes, and a byte of a token needs at most one.
const MAX_TREE_BYTES: usize = (1 << 22) - 1;

impl Grammar {
    /// Compiles a grammar for a tokenizer. Once the text may end, the tokenizer's stop ids are allowed.
    pub fn new(source: &GrammarSource, tokenizer: &Tokenizer) -> Result<Self, ConstraintError> {
        let rejected = |detail: String| ConstraintError::Source { what: source.what(), detail: one_line(&detail) };
        let grammar = match source {
            GrammarSource::Lark(text) if text.contains("::=") => {
                return Err(rejected("it is written in GBNF (::=), expected Lark, where a rule is `name: ...`".into()));
            }
            GrammarSource::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            GrammarSource::JsonSchema(schema) => TopLevelGrammar::from_json_schema(with_short_whitespace(schema)),
        };
        let words = words(tokenizer);
        let n_bytes: usize = words.iter().map(Vec::len).sum();
        if n_bytes > MAX_TREE_BYTES {
            let detail = format!("the vocabulary's tokens take {n_bytes} bytes, expected at most {MAX_TREE_BYTES}");
            return Err(rejected(detail));
        }
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(token_tree(tokenizer, &words)));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| rejected(e.to_string()))?;
        factory.quiet().limits_mut().verbose_errors = false;
        let fresh = Matcher::new(factory.create_parser(grammar));
        match fresh.get_error() {
            Some(error) => Err(rejected(error)),
            None => Ok(Grammar { fresh }),
        }
    }

    /// A constraint on one answer from its beginning.
    pub fn constraint(&self) -> impl Constraint + use<> {
        Answer { matcher: self.fresh.deep_clone() }
    }
}

fn with_short_whitespace(schema: &serde_json::Value) -> serde_json::Value {
    let options = serde_json::json!({ "whitespace_pattern": "[ \\t\\r\\n]{1,16}" });
    let mut schema = match schema {
        // `true` accepts everything, as an empty schema does.
        serde_json::Value::Bool(true) => serde_json::json!({}),
        schema => schema.clone(),
    };
    if let Some(object) = schema.as_object_mut() {
        object.entry("x-guidance").or_insert(options);
    }
    schema
}

/// The vocabulary as llguidance wants it: the bytes of each token, control tokens marked by a byte that no text has.
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let stop = &tokenizer.special().stop;
    let word = |id: u32| {
        let control = tokenizer.is_special(id) || stop.contains(&id);
        match tokenizer.token_bytes(id) {
            Some(bytes) if bytes.len() > MAX_TOKEN_BYTES => Vec::new(),
            Some(bytes) if control => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_ref()].concat(),
            Some(bytes) => bytes.into_owned(),
            None => Vec::new(),
        }
    };
    (0..tokenizer.n_tokens()).map(word).collect()
}

fn token_tree(tokenizer: &Tokenizer, words: &[Vec<u8>]) -> TokTrie {
    let stop = &tokenizer.special().stop;
    let ends: Vec<u32> = stop.iter().copied().filter(|&id| (id as usize) < words.len()).collect();
    let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let tree = TokTrie::from(&info, words);
    if ends.is_empty() { tree } else { tree.with_eos_tokens(&ends) }
}

struct Answer {
    matcher: Matcher,
}

impl Constraint for Answer {
    fn allowed(&mut self) -> Result<Option<TokenSet>, ConstraintError> {
        if self.matcher.is_stopped() && self.matcher.get_error().is_none() {
            return Ok(None);
        }
        match self.matcher.compute_mask() {
            Ok(mask) => Ok(Some(TokenSet::from_words(mask.as_slice().to_vec()))),
            // An empty set is an error there; here the sampler says it.
            Err(e) if e.to_string().contains("NoExtensionBias") => Ok(Some(TokenSet::default())),
            Err(e) => Err(parser_error(&e.to_string())),
        }
    }

    fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.matcher.consume_token(id).map_err(|e| parser_error(&e.to_string()))
    }
}

fn parser_error(detail: &str) -> ConstraintError {
    ConstraintError::Parser(one_line(detail))
}

/// An error of several lines as one, of a length that can be read.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
