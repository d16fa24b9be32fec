//! The chat templates of a model: one that is used unless another one is asked for, and others by name.

use crate::tokenizer::shorten;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name under which every format knows the template that is used where none is named.
pub const DEFAULT_TEMPLATE: &str = "default";

/// Longest name of a template in bytes: far above any model's, and it must fit into a GGUF key and a file's name.
const MAX_NAME_BYTES: usize = 200;

/// Jinja chat templates.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChatTemplates {
    /// Used where none is named.
    pub default: Option<String>,
    /// The others by name (`tool_use`, `rag`): used where they are asked for.
    pub named: BTreeMap<String, String>,
}

/// Why a template can't be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatTemplatesError {
    /// Two different templates have one name.
    #[error("two chat templates are called {0:?}")]
    Twice(String),
    /// A name that is empty or too long.
    #[error("the name of a chat template has {0} bytes, expected 1 to {MAX_NAME_BYTES}")]
    Name(usize),
    /// `chat_template` of a tokenizer_config.json is something else than text, or texts with names.
    #[error("chat_template is {0}, expected a text, or a list of objects with a name and a template")]
    Form(String),
}

impl ChatTemplates {
    /// A model's only template.
    pub fn only(text: impl Into<String>) -> Self {
        Self { default: Some(text.into()), named: BTreeMap::new() }
    }

    /// Reads `chat_template` of a tokenizer_config.json: a text, a list of `{name, template}`, or an object of texts.
    pub fn from_hf(value: &Value) -> Result<Self, ChatTemplatesError> {
        let wrong = |value: &Value| ChatTemplatesError::Form(shorten(&value.to_string()));
        let mut templates = Self::default();
        match value {
            Value::Null => {}
            Value::String(text) => templates.default = Some(text.clone()),
            Value::Array(list) => {
                for entry in list {
                    let (Some(name), Some(text)) = (entry["name"].as_str(), entry["template"].as_str()) else {
                        return Err(wrong(entry));
                    };
                    templates.insert(name, text.to_owned())?;
                }
            }
            Value::Object(texts) => {
                for (name, text) in texts {
                    templates.insert(name, text.as_str().ok_or_else(|| wrong(text))?.to_owned())?;
                }
            }
            Value::Bool(_) | Value::Number(_) => return Err(wrong(value)),
        }
        Ok(templates)
    }

    /// `chat_template` of a tokenizer_config.json; None where there are no templates.
    pub fn to_hf(&self) -> Option<Value> {
        match (&self.default, self.named.is_empty()) {
            (None, true) => None,
            (Some(text), true) => Some(Value::from(text.as_str())),
            _ => Some(self.iter().map(|(name, template)| json!({"name": name, "template": template})).collect()),
        }
    }

    /// Adds a template under its name. The same template may be stated twice.
    pub fn insert(&mut self, name: &str, text: String) -> Result<(), ChatTemplatesError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(ChatTemplatesError::Name(name.len()));
        }
        if self.get(name).is_some_and(|known| known != text) {
            return Err(ChatTemplatesError::Twice(name.to_owned()));
        }
        if name == DEFAULT_TEMPLATE {
            self.default = Some(text);
        } else {
            self.named.insert(name.to_owned(), text);
        }
        Ok(())
    }

    /// The template of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == DEFAULT_TEMPLATE { self.default.as_deref() } else { self.named.get(name).map(String::as_str) }
    }

    /// Name and text of each, the default first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let default = self.default.as_deref().map(|text| (DEFAULT_TEMPLATE, text));
        default.into_iter().chain(self.named.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    /// Whether the model has none.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.named.is_empty()
    }
}
