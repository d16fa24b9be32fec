//! Floor 3: the `apr` command as a library: arguments → request → library call → report → rendering.
//!
//! *In:* a command line. *Out:* a report on stdout, as text or as JSON from the same value; the conversation on
//! stderr; an exit status from one table.
//! *Afterwards:* nothing is half written, and a failure is an error with a status, never a panic.
//! *Absent on purpose:* arithmetic, file formats and scoring: commands call libraries and print what these return.
//! It is a library so that `apr-qa` can carry the command that it qualifies.
#![forbid(unsafe_code)]

/// In place of the macro of this name that everybody knows, which panics where stderr is full or nobody reads it: a
/// result is not lost because nobody could be told about it.
macro_rules! eprintln {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _nobody_to_tell = writeln!(std::io::stderr(), $($argument)*);
    }};
}

mod args;
mod builtin;
mod commands;
mod error;
mod interrupt;
mod measure;
mod model;
mod output;

pub use args::command as clap_command;
pub use builtin::{BuiltinFile, MODELS as BUILTIN_MODELS};
pub use interrupt::{Wish, on_interrupt};

use apr_report::ExitCode;
use std::ffi::OsString;

/// Runs one command line (its first element is the program's name) and returns the exit status.
pub fn cli_main(arguments: Vec<OsString>) -> std::process::ExitCode {
    let json = arguments.iter().any(|a| a == "--json");
    let cli = match args::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let is_error = error.use_stderr();
            if json && is_error {
                let message = error.kind().to_string();
                output::print_json(&apr_report::ErrorReport::new(ExitCode::Usage, message));
            }
            // Clap prints help and version to stdout, errors to stderr.
            return if error.print().is_err() || is_error { ExitCode::Usage.into() } else { ExitCode::Ok.into() };
        }
    };
    interrupt::install();
    apr_formats::exit_where_mapped_bytes_are_gone(ExitCode::Io.code());
    match commands::run(&cli) {
        Ok(code) => code.into(),
        Err(error) => error.report(cli.json).into(),
    }
}
