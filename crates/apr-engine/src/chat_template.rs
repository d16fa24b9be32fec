//! Chat templates, rendered as Transformers renders them.
//!
//! Transformers runs a template in Jinja2 with `trim_blocks`, `lstrip_blocks` and loop controls, adds `raise_exception`,
//! `strftime_now` and a `tojson` that is Python's `json.dumps`, and gives it the messages, the tools and the texts of
//! the special tokens. A template comes with a model and is not trusted: it runs under a limit of steps, of recursion
//! and of output.

use crate::python::{JsonStyle, float_repr, json_dumps};
use apr_model::TokenizerSpec;
use jiff::Zoned;
use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// One message of a conversation. Where a message has more than text (tool calls, parts), pass a
/// [`serde_json::Value`] instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template.
///
/// ```
/// use apr_engine::{ChatTemplate, Message};
/// let template = ChatTemplate::new("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}").unwrap();
/// assert_eq!(template.render(&[Message::new("user", "Hi")], None, true).unwrap(), "<user>Hi");
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Variables for the texts of special tokens: `bos_token`, `eos_token`, ...
    special_tokens: BTreeMap<&'static str, String>,
}

/// Why a template can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The source is not a template.
    #[error("chat template, line {line}: {detail}")]
    Syntax {
        /// Line in the source, from 1; 0 where unknown.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template refuses the conversation by `raise_exception`.
    #[error("the chat template refuses the messages: {0}")]
    Refused(String),
    /// The template asked for more than a template may use.
    #[error("chat template: {0}; a template may take {FUEL} steps and write {MAX_OUTPUT_BYTES} bytes")]
    Limit(&'static str),
    /// Rendering failed.
    #[error("chat template, line {line}: {detail}")]
    Render {
        /// Line in the source, from 1; 0 where unknown.
        line: usize,
        /// What went wrong.
        detail: String,
    },
}

/// Steps that one rendering may take. A message takes some tens.
const FUEL: u64 = 500_000;

/// Stack of the thread that renders. A step can nest a list by one level, and the template engine prints, compares and
/// drops lists recursively: 60,000 levels were measured to need between 8 and 32 MiB, so this holds [`FUEL`] levels.
const STACK_BYTES: usize = 512 << 20;

/// Depth of nested calls.
const MAX_RECURSION: usize = 200;

/// Longest prompt that a template may write.
const MAX_OUTPUT_BYTES: usize = 1 << 26;

const NAME: &str = "chat template";

impl ChatTemplate {
    /// Compiles the source of a template.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| syntax_error(&e))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, state, value| {
            if value.kind() == ValueKind::Number && !value.is_integer() {
                return Ok(out.write_str(&float_repr(f64::try_from(value.clone())?))?);
            }
            minijinja::escape_formatter(out, state, value)
        });
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|e| syntax_error(&e))?;
        let mut template = ChatTemplate { environment, special_tokens: BTreeMap::new() };
        template.set_clock(|| Zoned::now().datetime());
        Ok(template)
    }

    /// Gives the template the texts of the special tokens as variables.
    pub fn with_special_tokens(mut self, spec: &TokenizerSpec) -> Self {
        let special = &spec.special;
        let ids = [
            ("bos_token", special.bos),
            ("eos_token", special.eos),
            ("unk_token", special.unk),
            ("pad_token", special.pad),
        ];
        let text = |(name, id): (_, Option<u32>)| Some((name, spec.vocab.get(id?)?.0.to_owned()));
        self.special_tokens = ids.into_iter().filter_map(text).collect();
        self
    }

    /// Lets `strftime_now` say this time instead of the system's, so that a prompt can be made again.
    pub fn with_time(mut self, now: DateTime) -> Self {
        self.set_clock(move || now);
        self
    }

    fn set_clock(&mut self, now: impl Fn() -> DateTime + Send + Sync + 'static) {
        self.environment.add_function("strftime_now", move |format: &str| {
            jiff::fmt::strtime::format(format, now())
                .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
        });
    }

    /// The prompt for a conversation. `tools` is a list of tool descriptions; `add_generation_prompt` ends the prompt
    /// with the begin of the assistant's answer.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("tools", tools.map_or(Value::from(()), |tools| Value::from(Serde(tools))));
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        context.extend(self.special_tokens.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
        // Values are dropped where they were made, on the stack that is deep enough.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let rendering = thread.spawn_scoped(scope, || self.render_context(context));
            let failed = |detail: String| Err(TemplateError::Render { line: 0, detail });
            match rendering.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(rendered)) => rendered,
                Ok(Err(_)) => failed("the template engine panicked".to_owned()),
                Err(e) => failed(format!("no thread with a stack of {STACK_BYTES} bytes: {e}")),
            }
        })
    }

    fn render_context(&self, context: BTreeMap<&str, Value>) -> Result<String, TemplateError> {
        let mut prompt = Prompt(Vec::new());
        let template = self.environment.get_template(NAME).map_err(|e| syntax_error(&e))?;
        template.render_captured_to(context, &mut prompt).map_err(|e| render_error(&e))?;
        String::from_utf8(prompt.0).map_err(|e| TemplateError::Render { line: 0, detail: e.to_string() })
    }
}

/// Takes text up to the limit.
struct Prompt(Vec<u8>);

impl io::Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template says by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let raised = Raised(message.to_string());
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(raised))
}

fn syntax_error(e: &Error) -> TemplateError {
    TemplateError::Syntax { line: e.line().unwrap_or(0), detail: detail(e) }
}

fn render_error(e: &Error) -> TemplateError {
    let causes = std::iter::successors(Some(e as &dyn std::error::Error), |e| e.source());
    for cause in causes {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        if cause.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::Limit("it takes too many steps");
        }
        if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::FileTooLarge) {
            return TemplateError::Limit("it writes too much");
        }
    }
    TemplateError::Render { line: e.line().unwrap_or(0), detail: detail(e) }
}

fn detail(e: &Error) -> String {
    match e.detail() {
        Some(detail) => format!("{}: {detail}", e.kind()),
        None => e.kind().to_string(),
    }
}

/// `tojson` of Transformers: `json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn to_json(value: &Value, given: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let argument = |place: usize, name: &str| match given.get(place) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let flag = |place, name| argument(place, name).map(|value| value.is_some_and(|value| value.is_true()));
    let ensure_ascii = flag(0, "ensure_ascii")?;
    let indent = match argument(1, "indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?.clamp(0, 64)).unwrap_or(0)),
        }),
    };
    let separators = match argument(2, "separators")?.filter(|separators| !separators.is_none()) {
        Some(pair) => {
            let texts: Vec<String> = pair.try_iter()?.map(|text| text.to_string()).collect();
            let [item, key] = <[String; 2]>::try_from(texts)
                .map_err(|_| Error::new(ErrorKind::InvalidOperation, "tojson: separators are not a pair"))?;
            (item, key)
        }
        // With an indent each item has its own line, and Python leaves out the space at its end.
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = JsonStyle { ensure_ascii, indent, separators, sort_keys: flag(3, "sort_keys")? };
    named.assert_all_used()?;
    json_dumps(value, &style)
}

/// `source` with the tags `generation` and `endgeneration`, by which Transformers notes what an assistant wrote when it
/// makes training data, as a condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let word_len = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (word, after) = inner.split_at(word_len);
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        let ends = after.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
        match replacement.filter(|_| ends) {
            Some(replacement) => {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(replacement);
                rest = after;
            }
            None => rest = tag,
        }
    }
    out.push_str(rest);
    out
}
