//! What was said, and how it is kept in a file.

use crate::commands::text;
use crate::error::CommandError;
use apr_engine::Message;
use apr_report::{ChatMessage, Conversation, ExitCode, ModelSummary, Report, from_json};
use std::io::Write;
use std::path::Path;

/// The messages so far.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) system: Option<String>,
    /// User and assistant in turn.
    pub(super) turns: Vec<Message>,
}

impl Messages {
    /// All of them, the system message first.
    pub(super) fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text.as_str()));
        system.chain(self.turns.iter().cloned()).collect()
    }

    /// Writes them to a file, which is complete and on disk before it takes its name. Only a saved conversation is
    /// replaced.
    pub(super) fn save(&self, path: &Path, model: &ModelSummary) -> Result<(), CommandError> {
        if path.exists() && read(path).is_err() {
            let message = format!("{} exists and is no saved conversation; choose another name", path.display());
            return Err(CommandError::new(ExitCode::Io, message).about(path));
        }
        let messages = self.all().into_iter().map(|m| ChatMessage { role: m.role, content: m.content }).collect();
        let saved = Conversation { schema: Conversation::SCHEMA.to_owned(), model: model.clone(), messages };
        let mut text = serde_json::to_string_pretty(&saved).expect("a conversation is strings and counts");
        text.push('\n');
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = tempfile::Builder::new().suffix(".partial").tempfile_in(dir).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|e| e.error)
        });
        match written {
            Ok(_) => Ok(()),
            Err(e) => Err(CommandError::new(ExitCode::Io, format!("{}: {e}", path.display())).about(path)),
        }
    }

    /// Reads a saved conversation, and the model that it was held with.
    pub(super) fn load(path: &Path) -> Result<(Self, ModelSummary), CommandError> {
        let saved = read(path)?;
        let mut messages = Messages::default();
        for (index, message) in saved.messages.into_iter().enumerate() {
            match message.role.as_str() {
                "system" if index == 0 => messages.system = Some(message.content),
                "user" | "assistant" => messages.turns.push(Message::new(message.role, message.content)),
                role => {
                    let place = format!("{}: message {}", path.display(), index + 1);
                    let message =
                        format!("{place} is of {role:?}, expected user or assistant, or system at the beginning");
                    return Err(CommandError::new(ExitCode::Io, message).about(path));
                }
            }
        }
        Ok((messages, saved.model))
    }
}

fn read(path: &Path) -> Result<Conversation, CommandError> {
    from_json(&text::read_file(path)?)
        .map_err(|e| CommandError::new(ExitCode::Io, format!("{}: {e}", path.display())).about(path))
}
