//! Chat templates in metadata: `tokenizer.chat_template`, and `tokenizer.chat_template.NAME` for those that have a name
//! and are listed in `tokenizer.chat_templates`, as gguf-py writes them.

use super::container::{Pairs, kind};
use super::keys::Keys;
use super::{Array, Value};
use crate::ParseError;
use apr_model::{ChatTemplates, DEFAULT_TEMPLATE, Finding};

const DEFAULT_KEY: &str = "tokenizer.chat_template";
const NAMED_PREFIX: &str = "tokenizer.chat_template.";
const NAMES_KEY: &str = "tokenizer.chat_templates";

/// The templates of a file. What its list of names leaves out is a template nonetheless: llama.cpp doesn't read the list.
pub(super) fn read(keys: &Keys<'_, '_>) -> Result<ChatTemplates, ParseError> {
    let mut templates = ChatTemplates::default();
    let named = keys.0.pairs.iter().filter_map(|(key, _)| Some((*key, key.strip_prefix(NAMED_PREFIX)?)));
    for (key, name) in [(DEFAULT_KEY, DEFAULT_TEMPLATE)].into_iter().chain(named) {
        if let Some(text) = keys.string(key)? {
            templates
                .insert(name, text.to_owned())
                .map_err(|e| ParseError::new(format!("metadata key {key:?}: {e}")))?;
        }
    }
    Ok(templates)
}

/// Notes the names that are listed and have no template.
pub(super) fn notes(keys: &Keys<'_, '_>, templates: &ChatTemplates) -> Vec<Finding> {
    let Some(Value::Array(Array::Str(names))) = keys.0.get(NAMES_KEY) else { return Vec::new() };
    let missing = names.iter().filter(|name| templates.get(name).is_none());
    missing.map(|name| Finding::note("chat-template", name, format!("listed in {NAMES_KEY}, and not there"))).collect()
}

pub(super) fn write(pairs: &mut Pairs, templates: &ChatTemplates) {
    if !templates.named.is_empty() {
        pairs.array(NAMES_KEY, kind::STR, templates.named.keys(), |p, name| p.text(name));
    }
    for (name, text) in &templates.named {
        pairs.string(&format!("{NAMED_PREFIX}{name}"), text);
    }
    if let Some(text) = &templates.default {
        pairs.string(DEFAULT_KEY, text);
    }
}
