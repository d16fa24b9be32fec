//! Measuring: loops that run a session, look at the clock, and print nothing.
//!
//! *In:* a model, token ids, how often. *Out:* times and sums, as the reports hold them. The ids are random numbers
//! below the vocabulary's size: none of them ends anything or means anything here.

pub(crate) mod load;
pub(crate) mod passes;
pub(crate) mod perplexity;
pub(crate) mod profile;
pub(crate) mod rooflines;
pub(crate) mod stages;
pub(crate) mod statistics;

use crate::error::CommandError;
use crate::interrupt;
use apr_engine::SessionError;
use apr_report::ExitCode;

/// Why a measurement ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The session could not go on.
    Session(SessionError),
    /// The user asked to stop.
    Interrupted,
}

impl From<SessionError> for Stopped {
    fn from(error: SessionError) -> Self {
        Stopped::Session(error)
    }
}

impl From<Stopped> for CommandError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Session(error) => error.into(),
            Stopped::Interrupted => {
                CommandError::new(ExitCode::Interrupted, "interrupted before everything was measured")
            }
        }
    }
}

/// An error if the user asked to stop.
fn unless_interrupted() -> Result<(), Stopped> {
    if interrupt::asked().is_break() { Err(Stopped::Interrupted) } else { Ok(()) }
}
