//! The chat templates of a Transformers directory.

use crate::source::template_name;
use crate::{ParseError, Source};
use apr_model::{ChatTemplates, DEFAULT_TEMPLATE};

const JINJA: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";

/// Templates that are files of their own; where there are none, those of tokenizer_config.json, which Transformers then
/// leaves unread.
pub(super) fn read(source: &Source) -> Result<ChatTemplates, ParseError> {
    let mut templates = ChatTemplates::default();
    for file in &source.files {
        let name = if file.name == JINJA { Some(DEFAULT_TEMPLATE) } else { template_name(&file.name) };
        let Some(name) = name else { continue };
        let in_file = |detail: String| ParseError::new(format!("{}: {detail}", file.name));
        let text = std::str::from_utf8(&file.bytes).map_err(|e| in_file(e.to_string()))?;
        templates.insert(name, text.to_owned()).map_err(|e| in_file(e.to_string()))?;
    }
    let config = source.companion(CONFIG).filter(|_| templates.is_empty());
    let Some(text) = config else { return Ok(templates) };
    let in_config = |detail: String| ParseError::new(format!("{CONFIG}: {detail}"));
    let config: serde_json::Value = serde_json::from_slice(text).map_err(|e| in_config(e.to_string()))?;
    ChatTemplates::from_hf(&config["chat_template"]).map_err(|e| in_config(e.to_string()))
}
