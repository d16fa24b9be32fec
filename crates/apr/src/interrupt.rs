//! Ctrl-C and termination: a flag that long work looks at, so that it can clean up and end by itself.

use apr_report::ExitCode;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Catches SIGINT and SIGTERM; a second one ends the process at once.
pub(crate) fn install() {
    let installed = ctrlc::try_set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
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
