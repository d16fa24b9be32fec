//! Exit statuses of both commands, each with one meaning, and the report of an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an `apr` command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Ok = 0,
    /// An assertion was missed, or an error without a status of its own.
    Failed = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// A file named by the user is not there.
    NotFound = 3,
    /// The bytes are not a model of a known format.
    InvalidFormat = 4,
    /// Two models differ, or a model does not pass its checks.
    Mismatch = 5,
    /// The model is well-formed and can't be loaded.
    LoadFailed = 6,
    /// Reading or writing failed.
    Io = 7,
    /// The forward pass failed.
    InferenceFailed = 8,
    /// A feature or device that was asked for is not there.
    Unavailable = 9,
    /// The network failed, or sent something else than was announced.
    Network = 10,
    /// The remote does not have what was asked for, or does not give it out.
    RemoteNotFound = 11,
    /// The user asked to stop: 128 and the number of SIGINT, as shells count it.
    Interrupted = 130,
}

/// One row of the table of exit statuses.
#[derive(Clone, Copy, Debug)]
pub struct ExitRow {
    /// The status.
    pub code: ExitCode,
    /// Its name in JSON.
    pub kind: &'static str,
    /// What it says, for help texts and docs.
    pub meaning: &'static str,
}

const fn row(code: ExitCode, kind: &'static str, meaning: &'static str) -> ExitRow {
    ExitRow { code, kind, meaning }
}

/// Every exit status of `apr`, ascending.
pub const EXIT_CODES: &[ExitRow] = &[
    row(ExitCode::Ok, "ok", "done"),
    row(ExitCode::Failed, "failed", "an assertion was missed (`profile --ci`, `bench`), or any other failure"),
    row(ExitCode::Usage, "usage", "the command line can't be understood"),
    row(ExitCode::NotFound, "not_found", "a file named on the command line does not exist"),
    row(ExitCode::InvalidFormat, "invalid_format", "the file is not a valid GGUF, SafeTensors or APR model"),
    row(ExitCode::Mismatch, "mismatch", "two models differ, or a model does not pass its checks"),
    row(ExitCode::LoadFailed, "load_failed", "the model is well-formed and this version can't load it"),
    row(ExitCode::Io, "io", "reading or writing failed"),
    row(ExitCode::InferenceFailed, "inference_failed", "the forward pass failed"),
    row(ExitCode::Unavailable, "unavailable", "a feature or device that was asked for is not there"),
    row(ExitCode::Network, "network", "the network failed, or sent something else than was announced"),
    row(
        ExitCode::RemoteNotFound,
        "remote_not_found",
        "the remote does not have what was asked for, or does not give it out",
    ),
    row(
        ExitCode::Interrupted,
        "interrupted",
        "stopped by Ctrl-C, SIGTERM or SIGHUP; what was done until then is reported",
    ),
];

impl ExitCode {
    /// The table row of this status.
    pub fn row(self) -> &'static ExitRow {
        EXIT_CODES.iter().find(|row| row.code == self).expect("every status has a row; see the test below")
    }

    /// The number given to the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status with this number.
    pub fn from_code(code: i32) -> Option<Self> {
        EXIT_CODES.iter().map(|row| row.code).find(|c| i32::from(c.code()) == code)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

/// How an `apr-qa` command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum QaExitCode {
    /// Certified, or passed.
    Passed = 0,
    /// Something was falsified, or the score is BLOCKED.
    Falsified = 1,
    /// The command line, a playbook or an evidence file can't be understood.
    Usage = 2,
    /// The machine or the harness failed; nothing is said about the model.
    Infrastructure = 3,
}

/// One row of the table of `apr-qa`'s exit statuses.
#[derive(Clone, Copy, Debug)]
pub struct QaExitRow {
    /// The status.
    pub code: QaExitCode,
    /// What it says.
    pub meaning: &'static str,
}

/// Every exit status of `apr-qa`, ascending.
pub const QA_EXIT_CODES: &[QaExitRow] = &[
    QaExitRow { code: QaExitCode::Passed, meaning: "certified, or passed" },
    QaExitRow { code: QaExitCode::Falsified, meaning: "something was falsified, or the score is BLOCKED" },
    QaExitRow {
        code: QaExitCode::Usage,
        meaning: "the command line, a playbook or an evidence file can't be understood",
    },
    QaExitRow {
        code: QaExitCode::Infrastructure,
        meaning: "the machine or the harness failed; nothing is said about the model",
    },
];

impl QaExitCode {
    /// The number given to the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<QaExitCode> for std::process::ExitCode {
    fn from(code: QaExitCode) -> Self {
        code.code().into()
    }
}

/// What `--json` prints, on stdout, when a command fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// `apr.error/1`.
    pub schema: String,
    /// Always `false`.
    pub ok: bool,
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// The exit status of the process.
    pub code: u8,
    /// The status by name ([`ExitRow::kind`]).
    pub kind: String,
    /// What was found and what was expected.
    pub message: String,
    /// What to do next, where something can be done.
    pub hint: Option<String>,
    /// The file it is about.
    pub path: Option<String>,
}

impl ErrorReport {
    /// An error without hint and path.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        ErrorReport {
            schema: <Self as crate::Report>::SCHEMA.to_owned(),
            ok: false,
            error: ErrorDetail {
                code: code.code(),
                kind: code.row().kind.to_owned(),
                message: message.into(),
                hint: None,
                path: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones_and_rows_are_complete() {
        let numbers: Vec<u8> = EXIT_CODES.iter().map(|row| row.code.code()).collect();
        assert_eq!(numbers, (0..=11).chain([130]).collect::<Vec<_>>());
        for row in EXIT_CODES {
            assert_eq!(ExitCode::from_code(row.code.code().into()), Some(row.code));
            assert_eq!(serde_json::to_value(row.code).unwrap(), row.kind);
        }
        assert_eq!(ExitCode::from_code(-1), None);
        assert_eq!(QA_EXIT_CODES.iter().map(|row| row.code.code()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
