//! Mutants of files: bytes are changed without understanding them.

use apr_formats::{Limits, Source, summarize};
use std::fs;
use std::path::{Path, PathBuf};

/// The tensor whose data is moved.
const MOVED: &str = "model.layers.0.mlp.down_proj.weight";

/// The file with the weights.
fn weights(path: &Path) -> Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let entries = fs::read_dir(path).map_err(|error| error.to_string())?;
    let largest =
        entries.flatten().map(|entry| entry.path()).max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len()));
    largest.ok_or_else(|| format!("{} is empty", path.display()))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let mut bytes = fs::read(path).map_err(|error| error.to_string())?;
    change(&mut bytes)?;
    fs::write(path, bytes).map_err(|error| error.to_string())
}

/// Makes the file what a writer leaves whose offset of one tensor is 32 bytes too small.
pub(super) fn offset_32(path: &Path) -> Result<(), String> {
    let (file, range) = {
        let source = Source::locate(path).map_err(|error| error.to_string())?;
        let summary = summarize(&source, &Limits::default()).map_err(|error| error.to_string())?;
        let tensor = summary.tensors.into_iter().find(|tensor| tensor.name == MOVED);
        let tensor = tensor.ok_or_else(|| format!("the model has no tensor {MOVED}"))?;
        let file = if path.is_dir() { path.join(&tensor.file) } else { path.to_owned() };
        (file, tensor.range)
    };
    edit(&file, |bytes| {
        let end = range.end.min(bytes.len() - 32);
        bytes.copy_within(range.start + 32..end + 32, range.start);
        Ok(())
    })
}

/// Cuts the last third off.
pub(super) fn truncated(path: &Path) -> Result<(), String> {
    edit(&weights(path)?, |bytes| {
        bytes.truncate(bytes.len() * 2 / 3);
        Ok(())
    })
}

/// Flips the lowest bit of the last byte.
pub(super) fn last_bit(path: &Path) -> Result<(), String> {
    edit(&weights(path)?, |bytes| {
        *bytes.last_mut().ok_or("the file is empty")? ^= 1;
        Ok(())
    })
}

/// Removes the model.
pub(super) fn missing(path: &Path) -> Result<(), String> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|error| error.to_string())
}
