//! What is tried again, how often, and after how long.

use crate::{Event, HubError, Observer};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Attempts in a row that bring nothing before it is given up.
const MAX_ATTEMPTS: u32 = 5;
/// The longest wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// How an attempt failed.
#[derive(Debug)]
pub(crate) enum Fail {
    /// It may go well another time; the server may have said when.
    Passing { message: String, after: Option<Duration> },
    /// It won't.
    Lasting(HubError),
}

impl Fail {
    pub(crate) fn passing(message: String) -> Self {
        Fail::Passing { message, after: None }
    }
}

impl From<HubError> for Fail {
    fn from(error: HubError) -> Self {
        Fail::Lasting(error)
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts {
    failed: u32,
    first_wait: Duration,
}

impl Attempts {
    pub(crate) fn new(first_wait: Duration) -> Self {
        Self { failed: 0, first_wait }
    }

    /// The last attempt brought something: the count starts again.
    pub(crate) fn got_on(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or says why there is none.
    pub(crate) fn wait_after(&mut self, fail: Fail, observer: Observer<'_>) -> Result<(), HubError> {
        let (message, after) = match fail {
            Fail::Lasting(error) => return Err(error),
            Fail::Passing { message, after } => (message, after),
        };
        self.failed += 1;
        if self.failed >= MAX_ATTEMPTS {
            return Err(HubError::Network(format!("{message}; given up after {MAX_ATTEMPTS} attempts")));
        }
        if let Some(asked) = after.filter(|after| *after > MAX_WAIT) {
            return Err(HubError::Network(format!("{message}; it asks to come back in {} s", asked.as_secs())));
        }
        let wait = after.unwrap_or(self.first_wait * 2u32.pow(self.failed - 1));
        let left = MAX_ATTEMPTS - self.failed;
        let note = format!("{message}; trying again in {:.0} s, {left} attempts left", wait.as_secs_f64().ceil());
        let end = Instant::now() + wait;
        let mut answer = observer(Event::Note(&note));
        loop {
            if let ControlFlow::Break(()) = answer {
                return Err(HubError::Interrupted);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
            answer = observer(Event::Waiting);
        }
    }
}

/// Does `attempt` until it goes well, or until it can't.
pub(crate) fn until_well<T>(
    first_wait: Duration,
    observer: Observer<'_>,
    mut attempt: impl FnMut() -> Result<T, Fail>,
) -> Result<T, HubError> {
    let mut attempts = Attempts::new(first_wait);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(fail) => attempts.wait_after(fail, observer)?,
        }
    }
}
