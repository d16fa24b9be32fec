//! Progress on stderr: a line that moves on a terminal, one line for each scenario that did not pass elsewhere.

use crate::harness::Observer;
use apr_report::{Evidence, OutcomeKind};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Shows how a run proceeds.
pub(super) struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {pos} done  {wide_msg}");
            bar.set_style(style.expect("the template is valid"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { spinner }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.spinner {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.spinner {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Observer for Progress {
    fn begins(&self, gate: &str, scenario: &str) {
        if let Some(bar) = &self.spinner {
            bar.set_message(format!("{gate} {scenario}"));
        }
    }

    fn ended(&self, evidence: &Evidence) {
        let kind = evidence.outcome.kind();
        if let Some(bar) = &self.spinner {
            bar.inc(1);
        }
        if kind != OutcomeKind::Corroborated || self.spinner.is_none() {
            self.line(&format!("{kind:<12} {} {}", evidence.gate, evidence.scenario));
        }
    }
}
