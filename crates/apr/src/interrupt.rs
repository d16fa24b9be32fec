//! Ctrl-C and termination: a flag that long work looks at, so that it can clean up and end by itself.

use apr_report::ExitCode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::ops::ControlFlow;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals that ask a process to end.
const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether nothing is being done that would have to be reported.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Lets a signal set the flag; a second one ends the process at once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        on_interrupt(|| {
            if ASKED.swap(true, Ordering::SeqCst) || IDLE.load(Ordering::SeqCst) {
                std::process::exit(ExitCode::Interrupted.code().into());
            }
        });
    });
}

/// Calls `handler`, on a thread of its own, whenever SIGINT, SIGTERM or SIGHUP asks the process to end. To be called
/// once in a process.
///
/// Whoever starts a process with one of them ignored, as `nohup` and a shell's background jobs do, wants it to outlive
/// that signal, so it stays ignored. One that can't be caught is named on stderr.
pub fn on_interrupt(handler: impl FnMut() + Send + 'static) {
    let ignored = ignored_signals();
    let wanted = || SIGNALS.iter().filter(|(signal, _)| ignored & (1 << (signal - 1)) == 0);
    let not_caught = |name: &str, error: &io::Error| {
        eprintln!("warning: {name} can't be caught, so it ends the process without a report: {error}");
    };
    match listen(handler) {
        Ok(signals) => {
            for (signal, name) in wanted() {
                if let Err(error) = signals.add_signal(*signal) {
                    not_caught(name, &error);
                }
            }
        }
        Err(error) => wanted().for_each(|(_, name)| not_caught(name, &error)),
    }
}

/// The thread that calls `handler`. It runs before the first signal is caught: one that is caught and that nobody
/// hears would be lost.
fn listen(mut handler: impl FnMut() + Send + 'static) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new(std::iter::empty::<i32>())?;
    let handle = signals.handle();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(|_| handler()))?;
    Ok(handle)
}

/// The signals that this process ignores; the lowest bit is signal 1. Where the system does not say (only Linux does,
/// in proc(5)), none: all of them are caught then.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
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
