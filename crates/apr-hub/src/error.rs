//! What can go wrong, by who can act on it.

use std::path::{Path, PathBuf};

/// Why a model of the hub is not there.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What the caller asked for can't be understood, or names several things.
    #[error("{0}")]
    Usage(String),
    /// It is not in the cache, or only a part of it is.
    #[error("{0}")]
    NotCached(String),
    /// Reading or writing failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The disk or the cache is not in a state to go on: no room, a file in the way, another process at work.
    #[error("{0}")]
    Blocked(String),
    /// The server does not have it, or does not give it out.
    #[error("{0}")]
    Remote(String),
    /// The network failed.
    #[error("{0}")]
    Network(String),
    /// The server sent something else than it announced, or something that is refused.
    #[error("{0}")]
    Refused(String),
    /// This machine lacks something.
    #[error("{0}")]
    Unavailable(String),
    /// The user asked to stop.
    #[error("stopped; what is there already is kept, and the next pull goes on from it")]
    Interrupted,
}

impl HubError {
    /// An error of the system about `path`.
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        HubError::Io { path: path.to_owned(), error }
    }
}
