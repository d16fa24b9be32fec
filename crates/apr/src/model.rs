//! Opening what the user named: a file, a directory, or a model inside the command.

use crate::builtin;
use crate::error::CommandError;
use apr_formats::{Limits, Source, open_source};
use apr_model::Checkpoint;
use apr_report::{ExitCode, FileEntry};
use std::path::Path;

/// Finds the files of a model.
pub(crate) fn locate(path: &Path) -> Result<Source, CommandError> {
    if let Some(source) = builtin::source(path) {
        return Ok(source?);
    }
    if path.to_string_lossy().starts_with(builtin::SCHEME) {
        let known: Vec<_> = builtin::MODELS.iter().map(|(name, _)| *name).collect();
        let message = format!("{}: no such model inside the command", path.display());
        return Err(CommandError::new(ExitCode::NotFound, message).hint(format!("there is {}", known.join(", "))));
    }
    Ok(Source::locate(path)?)
}

/// Finds and opens a model.
pub(crate) fn open(path: &Path) -> Result<(Source, Checkpoint), CommandError> {
    open_with(path, None)
}

/// [`open`] with the config.json of a SafeTensors file that has none beside it.
pub(crate) fn open_with(path: &Path, config: Option<&Path>) -> Result<(Source, Checkpoint), CommandError> {
    let source = locate(path)?;
    let source = match config {
        Some(config) => source.with_config(config)?,
        None => source,
    };
    let checkpoint = open_source(&source, &Limits::default())?;
    Ok((source, checkpoint))
}

/// The files of a source for a report.
pub(crate) fn file_entries(source: &Source) -> Vec<FileEntry> {
    source.files.iter().map(|f| FileEntry { name: f.name.clone(), bytes: f.bytes.len() as u64 }).collect()
}
