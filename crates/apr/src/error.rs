//! Errors of the command: one function maps each to its exit status.

use crate::output;
use apr_engine::{GenerateError, ModelError, SessionError};
use apr_formats::{OpenError, OpenErrorKind, WriteError};
use apr_hub::HubError;
use apr_report::{ErrorReport, ExitCode, Report};
use std::io::ErrorKind;
use std::path::Path;

/// A failure as the user sees it.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) path: Option<String>,
}

impl CommandError {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, path: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn about(mut self, path: &Path) -> Self {
        self.path = Some(path.display().to_string());
        self
    }

    /// Says what went wrong, on stderr and, with `--json`, as a report on stdout.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        self.say(json.then_some(output::print_json))
    }

    /// The same, with the report as one line of JSON.
    pub(crate) fn report_line(self, json: bool) -> ExitCode {
        self.say(json.then_some(output::print_json_line))
    }

    fn say(self, print: Option<fn(&ErrorReport)>) -> ExitCode {
        eprintln!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {hint}");
        }
        if let Some(print) = print {
            let mut report = ErrorReport::new(self.code, self.message);
            report.schema = ErrorReport::SCHEMA.to_owned();
            report.error.hint = self.hint;
            report.error.path = self.path;
            print(&report);
        }
        self.code
    }
}

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        let code = match &error.kind {
            OpenErrorKind::NotFound => ExitCode::NotFound,
            OpenErrorKind::Io(_) => ExitCode::Io,
            OpenErrorKind::NotAModel { .. } | OpenErrorKind::Malformed { .. } => ExitCode::InvalidFormat,
            OpenErrorKind::Unsupported { .. } => ExitCode::LoadFailed,
        };
        let path = error.path.clone();
        let message = match error.kind {
            // The path stands in front of every other message; a missing file is best asked for by name.
            OpenErrorKind::NotFound => format!("{}: no such file or directory", path.display()),
            _ => error.to_string(),
        };
        CommandError::new(code, message).about(&path)
    }
}

impl From<WriteError> for CommandError {
    fn from(error: WriteError) -> Self {
        let (code, path) = match &error {
            WriteError::Exists { path } => (ExitCode::Io, Some(path)),
            WriteError::Io { path, error } if error.kind() == ErrorKind::NotFound => (ExitCode::NotFound, Some(path)),
            WriteError::Io { path, .. } => (ExitCode::Io, Some(path)),
            WriteError::Cannot { path, .. } => (ExitCode::Usage, Some(path)),
            WriteError::UnknownArchitecture { .. } => (ExitCode::LoadFailed, None),
            WriteError::Tensor { .. } => (ExitCode::Mismatch, None),
            WriteError::Interrupted => (ExitCode::Interrupted, None),
        };
        let mut result = CommandError::new(code, error.to_string());
        result.path = path.map(|path| path.display().to_string());
        result
    }
}

impl From<HubError> for CommandError {
    fn from(error: HubError) -> Self {
        let code = match &error {
            HubError::Usage(_) => ExitCode::Usage,
            HubError::NotCached(_) => ExitCode::NotFound,
            HubError::Io { .. } | HubError::Blocked(_) => ExitCode::Io,
            HubError::Remote(_) => ExitCode::RemoteNotFound,
            HubError::Network(_) | HubError::Refused(_) => ExitCode::Network,
            HubError::Unavailable(_) => ExitCode::Unavailable,
            HubError::Interrupted => ExitCode::Interrupted,
        };
        let result = CommandError::new(code, error.to_string());
        match &error {
            HubError::Io { path, .. } => result.about(path),
            _ => result,
        }
    }
}

impl From<ModelError> for CommandError {
    fn from(error: ModelError) -> Self {
        CommandError::new(ExitCode::LoadFailed, error.to_string())
    }
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> Self {
        CommandError::new(ExitCode::InferenceFailed, error.to_string())
    }
}

impl From<GenerateError> for CommandError {
    fn from(error: GenerateError) -> Self {
        let code = match &error {
            GenerateError::Sampler(_) => ExitCode::Usage,
            GenerateError::Session(_) => ExitCode::InferenceFailed,
            GenerateError::Constraint(_) => ExitCode::InferenceFailed,
        };
        CommandError::new(code, error.to_string())
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        CommandError::new(ExitCode::Io, error.to_string())
    }
}
