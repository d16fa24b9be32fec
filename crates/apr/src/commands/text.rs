//! Text that the user gives: an argument, standard input, or a file.

use crate::error::CommandError;
use apr_report::ExitCode;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The text of an argument, of standard input where it is `-`, or of a file; `None` where nothing was given.
pub(super) fn given(text: Option<&str>, file: Option<&Path>) -> Result<Option<String>, CommandError> {
    match (text, file) {
        (Some("-"), _) => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|e| CommandError::new(ExitCode::Io, format!("standard input: {e}")))?;
            utf8("standard input", bytes).map(Some)
        }
        (Some(text), _) => Ok(Some(text.to_owned())),
        (None, Some(path)) => read_file(path).map(Some),
        (None, None) => Ok(None),
    }
}

/// The content of a text file, to its last byte.
pub(super) fn read_file(path: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(path).map_err(|e| {
        let code = if e.kind() == ErrorKind::NotFound { ExitCode::NotFound } else { ExitCode::Io };
        CommandError::new(code, format!("{}: {e}", path.display())).about(path)
    })?;
    utf8(&path.display().to_string(), bytes).map_err(|e| e.about(path))
}

fn utf8(what: &str, bytes: Vec<u8>) -> Result<String, CommandError> {
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let byte = e.as_bytes()[offset];
        let message = format!("{what}: byte {byte:#04x} at offset {offset} is not UTF-8, expected UTF-8 text");
        CommandError::new(ExitCode::Io, message).hint("convert it, for example with iconv -t UTF-8")
    })
}
