//! Errors, grouped by who can act: the path's owner, the file's author, or the caller.

use apr_model::{Format, Spec};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a model can't be opened.
#[derive(Debug)]
pub struct OpenError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: OpenErrorKind,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum OpenErrorKind {
    /// Nothing is there.
    NotFound,
    /// The system refused.
    Io(io::Error),
    /// It is not a model in a format that is read here.
    NotAModel {
        /// What was found instead, with the next step.
        detail: String,
    },
    /// It breaks the rules of its format.
    Malformed {
        /// The format whose rules it breaks.
        format: Format,
        /// Where.
        offset_bytes: Option<u64>,
        /// What was found and what was expected.
        detail: String,
    },
    /// It is well formed and needs something that this version does not do.
    Unsupported {
        /// What it needs.
        detail: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => OpenErrorKind::NotFound,
            _ => OpenErrorKind::Io(error),
        };
        Self { path: path.to_owned(), kind }
    }

    pub(crate) fn not_a_model(path: &Path, detail: impl Into<String>) -> Self {
        Self { path: path.to_owned(), kind: OpenErrorKind::NotAModel { detail: detail.into() } }
    }

    pub(crate) fn unsupported(path: &Path, detail: impl Into<String>) -> Self {
        Self { path: path.to_owned(), kind: OpenErrorKind::Unsupported { detail: detail.into() } }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.kind {
            OpenErrorKind::NotFound => f.write_str("no such file or directory"),
            OpenErrorKind::Io(error) => write!(f, "{error}"),
            OpenErrorKind::NotAModel { detail } => write!(f, "not a model: {detail}"),
            OpenErrorKind::Malformed { format, offset_bytes: Some(offset), detail } => {
                write!(f, "malformed {format} at byte {offset}: {detail}")
            }
            OpenErrorKind::Malformed { format, offset_bytes: None, detail } => {
                write!(f, "malformed {format}: {detail}")
            }
            OpenErrorKind::Unsupported { detail } => write!(f, "not supported: {detail}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            OpenErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A broken rule inside a file, before the file's path is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where, in bytes from the start of the file.
    pub offset_bytes: Option<u64>,
    /// What was found and what was expected.
    pub detail: String,
    /// Whether the file is well formed and merely asks for something that is not done here.
    pub unsupported: bool,
}

impl ParseError {
    pub(crate) fn at(offset_bytes: u64, detail: impl Into<String>) -> Self {
        Self { offset_bytes: Some(offset_bytes), detail: detail.into(), unsupported: false }
    }

    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self { offset_bytes: None, detail: detail.into(), unsupported: false }
    }

    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self { unsupported: true, ..Self::new(detail) }
    }

    pub(crate) fn in_file(self, path: &Path, format: Format) -> OpenError {
        let kind = if self.unsupported {
            OpenErrorKind::Unsupported { detail: self.detail }
        } else {
            OpenErrorKind::Malformed { format, offset_bytes: self.offset_bytes, detail: self.detail }
        };
        OpenError { path: path.to_owned(), kind }
    }
}

/// Why a model can't be written.
#[derive(Debug)]
pub enum WriteError {
    /// Something is there already.
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The target format or path can't hold this model.
    Cannot {
        /// The target.
        path: PathBuf,
        /// Why, with the next step.
        detail: String,
    },
    /// A tensor holds a value that can't be written as asked.
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Another dtype was asked for, and no table says which tensors may have it.
    UnknownArchitecture {
        /// What the source calls it.
        name: String,
    },
    /// The caller asked to stop.
    Interrupted,
}

impl WriteError {
    pub(crate) fn unknown(spec: &Spec) -> Self {
        Self::UnknownArchitecture { name: spec.architecture().to_owned() }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Exists { path } => {
                write!(f, "{}: exists already; choose another target or pass --force", path.display())
            }
            WriteError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            WriteError::Cannot { path, detail } => write!(f, "{}: {detail}", path.display()),
            WriteError::Tensor { name, detail } => write!(f, "tensor {name}: {detail}"),
            WriteError::UnknownArchitecture { name } => write!(
                f,
                "architecture {name} is not in the table: its tensors are carried as they are, and in no other dtype"
            ),
            WriteError::Interrupted => f.write_str("interrupted; nothing was written"),
        }
    }
}

impl std::error::Error for WriteError {}
