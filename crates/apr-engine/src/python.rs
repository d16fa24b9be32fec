//! Values of a template as Python writes them.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

/// Arguments of `json.dumps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonStyle {
    /// Everything outside ASCII as `\u....`.
    pub(crate) ensure_ascii: bool,
    /// What each level is indented with; None writes one line.
    pub(crate) indent: Option<String>,
    /// Between items, and between key and value.
    pub(crate) separators: (String, String),
    /// Keys in ascending order instead of insertion order.
    pub(crate) sort_keys: bool,
}

/// Deepest nesting that is written; a message's own JSON can't be deeper.
const MAX_DEPTH: usize = 128;

/// `json.dumps(value)`.
pub(crate) fn json_dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn error(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

fn write_value(out: &mut String, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(error(format!("tojson: nested deeper than {MAX_DEPTH} levels")));
    }
    match value.kind() {
        ValueKind::Map => {
            let mut entries: Vec<(String, Value)> = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                entries.push((key_text(&key)?, item));
            }
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            write_items(out, style, depth, ['{', '}'], entries, |out, (key, item)| {
                write_text(out, &key, style.ensure_ascii);
                out.push_str(&style.separators.1);
                write_value(out, &item, style, depth + 1)
            })
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(out, style, depth, ['[', ']'], items, |out, item| write_value(out, &item, style, depth + 1))
        }
        ValueKind::String => {
            write_text(out, value.as_str().unwrap_or_default(), style.ensure_ascii);
            Ok(())
        }
        _ => {
            out.push_str(&scalar(value)?);
            Ok(())
        }
    }
}

fn write_items<T>(
    out: &mut String,
    style: &JsonStyle,
    depth: usize,
    [open, close]: [char; 2],
    items: Vec<T>,
    mut write: impl FnMut(&mut String, T) -> Result<(), Error>,
) -> Result<(), Error> {
    let is_empty = items.is_empty();
    let new_line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent.as_ref().filter(|_| !is_empty) {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    };
    out.push(open);
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push_str(&style.separators.0);
        }
        new_line(out, depth + 1);
        write(out, item)?;
    }
    new_line(out, depth);
    out.push(close);
    Ok(())
}

/// A value that is neither text nor a container.
fn scalar(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number => match f64::try_from(value.clone())? {
            value if value.is_nan() => Ok("NaN".to_owned()),
            f64::INFINITY => Ok("Infinity".to_owned()),
            f64::NEG_INFINITY => Ok("-Infinity".to_owned()),
            value => Ok(float_repr(value)),
        },
        other => Err(error(format!("tojson: a value of type {other} is not JSON serializable"))),
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => scalar(key),
    }
}

/// `repr(value)` of a float: the shortest digits that give the same number, with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase(); // inf, -inf, nan
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) || value == 0.0 {
        return format!("{value:?}"); // in this range, written without an exponent and with a decimal point
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn write_text(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..' ' => write_escape(out, character),
            '\u{7f}'.. if ensure_ascii => write_escape(out, character),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn write_escape(out: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}"); // writing to a String can't fail
    }
}
