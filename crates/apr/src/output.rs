//! The only place that writes to stdout: a report as text or as JSON.

use apr_report::Report;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Prints a report as JSON, or as the text that `text` makes of it. A closed pipe ends quietly.
pub(crate) fn print<R: Report>(json: bool, report: &R, text: impl FnOnce(&R) -> String) {
    if json {
        print_json(report);
    } else {
        print_text(&text(report));
    }
}

/// Prints a report as JSON.
pub(crate) fn print_json<R: Report>(report: &R) {
    let mut text = serde_json::to_string_pretty(report).expect("reports hold strings, counts and finite numbers");
    text.push('\n');
    print_text(&text);
}

/// Prints a report as one line of JSON.
pub(crate) fn print_json_line<R: Report>(report: &R) {
    let mut text = serde_json::to_string(report).expect("reports hold strings, counts and finite numbers");
    text.push('\n');
    print_text(&text);
}

/// Writes text to stdout as it is.
pub(crate) fn print_text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever read the result has gone; there is nobody left to tell.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: the result can't be written to stdout: {error}");
        std::process::exit(apr_report::ExitCode::Io.code().into());
    }
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// A table with a header, columns as wide as their content, numbers to the right.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    use comfy_table::{CellAlignment, Table, presets};
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    let mut numeric = vec![true; header.len()];
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            numeric[column] &= cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        }
        table.add_row(row);
    }
    for (column, is_number) in numeric.into_iter().enumerate() {
        if let (true, Some(column)) = (is_number, table.column_mut(column)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().fold(String::new(), |mut text, line| {
        writeln!(text, "{}", line.trim_end()).expect("writing to a string");
        text
    })
}

/// Shows that something takes a while, on stderr: a spinner on a terminal once it has taken a moment, nothing elsewhere.
pub(crate) struct Waiting {
    done: Option<mpsc::Sender<()>>,
    spinner: Option<JoinHandle<()>>,
}

impl Waiting {
    pub(crate) fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { done: None, spinner: None };
        }
        let (done, wait) = mpsc::channel();
        let spinner = std::thread::spawn(move || {
            let pause = |time| matches!(wait.recv_timeout(time), Err(mpsc::RecvTimeoutError::Timeout));
            if pause(Progress::PATIENCE) {
                let spinner = ProgressBar::new_spinner().with_message(what);
                while pause(Duration::from_millis(100)) {
                    spinner.tick();
                }
                spinner.finish_and_clear();
            }
        });
        Self { done: Some(done), spinner: Some(spinner) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.done.take());
        // The spinner is wiped away before anything else is written. A thread that panicked has nothing to wipe.
        self.spinner.take().map(JoinHandle::join);
    }
}

/// Progress of work on stderr: a bar on a terminal once the work has taken a moment, nothing elsewhere.
pub(crate) struct Progress {
    what: String,
    template: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shorter work shows no bar.
    const PATIENCE: Duration = Duration::from_millis(300);

    /// Work counted in bytes.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::with_template(what.into(), "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Work counted in pieces.
    pub(crate) fn counting(what: impl Into<String>) -> Self {
        Self::with_template(what.into(), "{msg} {bar:30} {pos}/{len} {eta}")
    }

    fn with_template(what: String, template: &'static str) -> Self {
        Self { what, template, started: Instant::now(), bar: None }
    }

    pub(crate) fn update(&mut self, done: u64, total: u64) {
        if self.bar.is_none() && self.started.elapsed() > Self::PATIENCE && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(self.template).expect("the templates are constant");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            let bar = bar.with_style(style).with_message(self.what.clone());
            // What was done before the bar was there took none of its time: the rate is that of what follows.
            bar.set_position(done);
            bar.tick();
            bar.reset_eta();
            bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

#[cfg(feature = "net")]
impl Progress {
    /// Says something on stderr, above the bar.
    pub(crate) fn say(&self, note: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{note}")),
            None => eprintln!("{note}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
