//! What a tokenizer.json does to text before and after merging, recognised as one of the ways that are implemented.

use super::hf_read::unsupported;
use super::{PRE_TOKENIZERS, PreTokenizer, SpacePrefix, TokenizerError};
use serde_json::Value;

pub(super) fn type_of(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

/// The steps of a `Sequence`, in order; a single step is a sequence of one.
pub(super) fn flatten<'a>(value: Option<&'a Value>, list: &str) -> Vec<&'a Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(step) if type_of(step) == "Sequence" => {
            let steps = step.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            steps.iter().flat_map(|step| flatten(Some(step), list)).collect()
        }
        Some(step) => vec![step],
    }
}

fn is_true(step: &Value, key: &str, default: bool) -> bool {
    step.get(key).and_then(Value::as_bool).unwrap_or(default)
}

pub(super) fn pre_tokenizer(
    normalizers: &[&Value],
    steps: &[&Value],
    ignore_merges: bool,
) -> Result<&'static PreTokenizer, TokenizerError> {
    let nfc = match normalizers {
        [] => false,
        [step] if type_of(step) == "NFC" => true,
        _ => return Err(unsupported("tokenizer.json: normalizer", json(normalizers), "none or NFC")),
    };
    let regex_of = |split: &Value| split.get("pattern")?.get("Regex")?.as_str().map(str::to_owned);
    let is_byte_level = |step: &Value, use_regex: bool| {
        type_of(step) == "ByteLevel"
            && is_true(step, "use_regex", true) == use_regex
            && !is_true(step, "add_prefix_space", true)
    };
    let regex = match steps {
        [bytes] if is_byte_level(bytes, true) => None,
        [split, bytes]
            if is_byte_level(bytes, false)
                && type_of(split) == "Split"
                && split.get("behavior").and_then(Value::as_str) == Some("Isolated")
                && !is_true(split, "invert", false)
                && regex_of(split).is_some() =>
        {
            regex_of(split)
        }
        _ => {
            let expected =
                "ByteLevel, or Split by a regex (isolated) and ByteLevel without one, both without prefix space";
            return Err(unsupported("tokenizer.json: pre_tokenizer", json(steps), expected));
        }
    };
    let is_row =
        |row: &&PreTokenizer| row.regex == regex.as_deref() && row.nfc == nfc && row.ignore_merges == ignore_merges;
    PRE_TOKENIZERS.iter().find(is_row).ok_or_else(|| {
        let known: Vec<&str> = PRE_TOKENIZERS.iter().map(|row| row.gguf).collect();
        let found = format!("splitting by {regex:?} with nfc {nfc} and ignore_merges {ignore_merges}");
        unsupported("tokenizer.json: pre_tokenizer", found, &format!("one of {}", known.join(", ")))
    })
}

/// The two ways in which Transformers writes a SentencePiece model: normalizers that spell spaces as `▁`, or a
/// `Metaspace` pre-tokenizer.
pub(super) fn space_prefix(normalizers: &[&Value], steps: &[&Value]) -> Result<SpacePrefix, TokenizerError> {
    let is_prepend = |step: &Value| step.get("prepend").and_then(Value::as_str) == Some("▁");
    let is_replace = |step: &Value| {
        step.get("content").and_then(Value::as_str) == Some("▁")
            && step.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str) == Some(" ")
    };
    let is_metaspace = |step: &Value| {
        type_of(step) == "Metaspace"
            && step.get("replacement").and_then(Value::as_str) == Some("▁")
            && !is_true(step, "split", true)
    };
    match (normalizers, steps) {
        ([prepend, replace], []) if is_prepend(prepend) && is_replace(replace) => Ok(SpacePrefix::Always),
        ([replace], []) if is_replace(replace) => Ok(SpacePrefix::Never),
        ([], [step]) if is_metaspace(step) => match step.get("prepend_scheme").and_then(Value::as_str) {
            Some("never") => Ok(SpacePrefix::Never),
            Some("first") => Ok(SpacePrefix::MetaspaceFirst),
            Some("always") => Ok(SpacePrefix::MetaspaceAlways),
            other => Err(unsupported("tokenizer.json: prepend_scheme", format!("{other:?}"), "never, first or always")),
        },
        _ => {
            let found = format!("{} with normalizer {}", json(steps), json(normalizers));
            let expected = "ByteLevel, Metaspace without split, or the normalizers Prepend and Replace of \"▁\"";
            Err(unsupported("tokenizer.json: pre_tokenizer", found, expected))
        }
    }
}

pub(super) type Ends = (Option<String>, Option<String>);

/// Texts of the tokens that the post-processor puts before and after a single text.
pub(super) fn template(post_processor: Option<&Value>) -> Result<Option<Ends>, TokenizerError> {
    let mut found = None;
    for step in flatten(post_processor, "processors") {
        match type_of(step) {
            "ByteLevel" => {} // trims offsets, adds nothing
            "TemplateProcessing" if found.is_none() => found = Some(template_ends(step)?),
            _ => {
                let expected = "ByteLevel, or one TemplateProcessing";
                return Err(unsupported("tokenizer.json: post_processor", json(&[step]), expected));
            }
        }
    }
    Ok(found)
}

fn template_ends(step: &Value) -> Result<Ends, TokenizerError> {
    let text = |piece: &Value| Some(piece.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
    let pieces = step.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_text = |piece: &Value| piece.get("Sequence").is_some();
    match pieces {
        [a] if is_text(a) => Ok((None, None)),
        [first, a] if is_text(a) && text(first).is_some() => Ok((text(first), None)),
        [a, last] if is_text(a) && text(last).is_some() => Ok((None, text(last))),
        [first, a, last] if is_text(a) && text(first).is_some() && text(last).is_some() => {
            Ok((text(first), text(last)))
        }
        _ => {
            let expected = "at most one special token before and one after the text";
            Err(unsupported("tokenizer.json: post_processor.single", json(&[step]), expected))
        }
    }
}

fn json(values: &[&Value]) -> String {
    serde_json::to_string(values).unwrap_or_else(|e| e.to_string())
}
