//! Ctrl-C and termination: a flag that long work looks at, so that it can clean up and end by itself.

use apr_report::ExitCode;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// The signals that ask a process to end, or for a part of it.
const SIGNALS: [(i32, &str, Wish); 3] =
    [(SIGINT, "SIGINT", Wish::Stop), (SIGTERM, "SIGTERM", Wish::End), (SIGHUP, "SIGHUP", Wish::End)];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// SIGINT, Ctrl-C: to stop what is being done.
    Stop,
    /// SIGTERM and SIGHUP: to end the process.
    End,
}

/// What was asked since [`take`]: nothing, or a [`Wish`] by its place from one on.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// The wishes from this one on end the process at once, because nothing is being done that would have to be reported.
static IDLE_FOR: AtomicU8 = AtomicU8::new(NO_WISH);

const NO_WISH: u8 = 3;

/// How the terminal was before something changed it.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);

impl Wish {
    fn place(self) -> u8 {
        self as u8 + 1
    }
}

/// Lets a signal set the flag; a second one ends the process at once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        on_interrupt(|wish| {
            let before = ASKED.fetch_max(wish.place(), Ordering::SeqCst);
            // After Ctrl-C in a conversation comes another answer; to be told to end is news then.
            if before >= wish.place() || wish.place() >= IDLE_FOR.load(Ordering::SeqCst) {
                if let Ok(Some(modes)) = TERMINAL.lock().as_deref() {
                    // The process ends whether or not the terminal is still there.
                    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, modes);
                }
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
pub fn on_interrupt(handler: impl FnMut(Wish) + Send + 'static) {
    let ignored = ignored_signals();
    let wanted = || SIGNALS.iter().filter(|(signal, ..)| ignored & (1 << (signal - 1)) == 0);
    let not_caught = |name: &str, error: &io::Error| {
        eprintln!("warning: {name} can't be caught, so it ends the process without a report: {error}");
    };
    match listen(handler) {
        Ok(signals) => {
            for (signal, name, _) in wanted() {
                if let Err(error) = signals.add_signal(*signal) {
                    not_caught(name, &error);
                }
            }
        }
        Err(error) => wanted().for_each(|(_, name, _)| not_caught(name, &error)),
    }
}

/// The thread that calls `handler`. It runs before the first signal is caught: one that is caught and that nobody
/// hears would be lost.
fn listen(mut handler: impl FnMut(Wish) + Send + 'static) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new(std::iter::empty::<i32>())?;
    let handle = signals.handle();
    let wish_of = |caught| SIGNALS.iter().find(|(signal, ..)| *signal == caught).map(|(.., wish)| *wish);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().filter_map(wish_of).for_each(&mut handler))?;
    Ok(handle)
}

/// The signals that this process ignores; the lowest bit is signal 1. Where the system does not say (only Linux does,
/// in proc(5)), none: all of them are caught then.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether the user asked to stop, or to end.
pub(crate) fn asked() -> ControlFlow<()> {
    if ASKED.load(Ordering::SeqCst) == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// What the user asked since this was called last: it is done, and the program goes on or ends as the caller decides.
pub(crate) fn take() -> Option<Wish> {
    let place = ASKED.swap(0, Ordering::SeqCst);
    [Wish::Stop, Wish::End].into_iter().find(|wish| wish.place() == place)
}

/// Does `wait`, during which a signal that asks for `wish`, or for more, ends the process at once, with the terminal as
/// it was before.
pub(crate) fn ending_at_once<T>(wish: Wish, wait: impl FnOnce() -> T) -> T {
    *TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) = tcgetattr(std::io::stdin()).ok();
    IDLE_FOR.store(wish.place(), Ordering::SeqCst);
    let result = wait();
    IDLE_FOR.store(NO_WISH, Ordering::SeqCst);
    result
}
