//! What is wrong, or worth saying, about a checkpoint.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth saying.
    Note,
    /// The model can't be used as it is.
    Error,
}

/// One observation, with the tensor or key it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code of the check (`missing-tensor`, `nan`, …).
    pub code: String,
    /// The tensor or key.
    pub subject: String,
    /// What was found and what was expected.
    pub detail: String,
}

impl Finding {
    /// An error.
    pub fn error(code: &str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code: code.to_owned(), subject: subject.into(), detail: detail.into() }
    }

    /// A note.
    pub fn note(code: &str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, subject, detail) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.subject, self.detail, self.code)
    }
}
