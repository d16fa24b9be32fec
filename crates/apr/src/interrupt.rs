//! Ctrl-C and termination: a flag that long work looks at, so that it can clean up and end by itself.

use apr_report::ExitCode;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether nothing is being done that would have to be reported.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Catches SIGINT and SIGTERM; a second one ends the process at once.
pub(crate) fn install() {
    let installed = ctrlc::try_set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) || IDLE.load(Ordering::SeqCst) {
            std::process::exit(ExitCode::Interrupted.code().into());
        }
    });
    // Where another handler is in place, as in a process that embeds the command, that one decides.
    drop(installed);
}

/// Whether the user asked to stop.
pub(crate) fn asked() -> ControlFlow<()> {
    if ASKED.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether the user asked to stop since this was called last: what was asked is done, and the program goes on.
pub(crate) fn take() -> bool {
    ASKED.swap(false, Ordering::SeqCst)
}

/// Does `wait`, during which an interrupt ends the process at once.
pub(crate) fn ending_at_once<T>(wait: impl FnOnce() -> T) -> T {
    IDLE.store(true, Ordering::SeqCst);
    let result = wait();
    IDLE.store(false, Ordering::SeqCst);
    result
}
