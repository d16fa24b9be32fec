//! Opening what the user named: a file, a directory, a model inside the command, or one in the cache of the Hugging Face
//! hub.

use crate::builtin;
use crate::error::CommandError;
use apr_formats::{Limits, Source, Summary, open_source};
use apr_hub::{Cache, Process, Reference};
use apr_model::Checkpoint;
use apr_report::{ExitCode, FileEntry, TensorEntry};
use std::path::{Path, PathBuf};

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
    match cached(path)? {
        Some(path) => Ok(Source::locate(&path)?),
        None => Ok(Source::locate(path)?),
    }
}

/// Where the cache of the hub has a model, if `path` is a reference to one and not the path of something. Nothing is
/// fetched.
fn cached(path: &Path) -> Result<Option<PathBuf>, CommandError> {
    let Some(text) = path.to_str() else { return Ok(None) };
    let explicit = text.starts_with("hf://");
    let Some(reference) = Reference::parse_if_meant(text).filter(|_| explicit || !path.exists()) else {
        return Ok(None);
    };
    let reference = reference?;
    let error = match Cache::new(&Process).and_then(|cache| apr_hub::resolve(&cache, &reference)) {
        Ok(path) => return Ok(Some(path)),
        Err(error) => error,
    };
    let is_missing = matches!(error, apr_hub::HubError::NotCached(_));
    let mut error = CommandError::from(error);
    if !explicit && is_missing {
        error.message = format!("{text}: no such file or directory, and {}", error.message);
    }
    // Only that command uses the network, where it was built in.
    Err(if is_missing && cfg!(feature = "net") {
        error.hint(format!("`apr pull {reference}` fetches it"))
    } else {
        error
    })
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

/// The tensors of a container for a report, in file order: those whose name contains `filter`.
pub(crate) fn tensor_entries(summary: &Summary, filter: Option<&str>) -> Vec<TensorEntry> {
    let entries = summary.tensors.iter().map(|t| TensorEntry {
        name: t.name.clone(),
        stored_name: t.stored_name.clone(),
        dtype: t.dtype.name().to_owned(),
        shape: t.shape.dims().iter().map(|&d| d as u64).collect(),
        offset: t.range.start as u64,
        bytes: t.range.len() as u64,
        file: t.file.clone(),
    });
    let wanted =
        |entry: &TensorEntry| filter.is_none_or(|text| entry.name.contains(text) || entry.stored_name.contains(text));
    entries.filter(wanted).collect()
}

/// [`tensor_entries`], or why there are none: a filter that matches nothing is a mistake.
pub(crate) fn filtered_tensors(summary: &Summary, filter: Option<&str>) -> Result<Vec<TensorEntry>, CommandError> {
    let entries = tensor_entries(summary, filter);
    match filter {
        Some(text) if entries.is_empty() => {
            let message = format!("no tensor's name contains {text:?}; there are {} tensors", summary.tensors.len());
            Err(CommandError::new(ExitCode::Usage, message))
        }
        _ => Ok(entries),
    }
}
