//! Reports: pure functions of an evidence file. Replaying a file gives the same report.

mod html;
mod json;
mod junit;
mod terminal;

pub use html::html;
pub use json::{EvidenceError, json, read, schema};
pub use junit::junit;
pub use terminal::{kill_matrix, score_lines, terminal};

use crate::gates::{GATES, Gate};
use apr_report::{Evidence, EvidenceFile, OutcomeKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// A gate and what became of its scenarios.
#[derive(Clone, Debug, Serialize)]
pub struct GateSummary<'a> {
    /// The gate.
    pub gate: &'static Gate,
    /// Its scenarios, in the order in which they were run.
    pub scenarios: Vec<&'a Evidence>,
    /// How many scenarios had each outcome.
    pub counts: BTreeMap<OutcomeKind, u64>,
    /// The worst outcome: what the gate as a whole amounts to.
    pub worst: OutcomeKind,
}

/// Gates that have scenarios, in the order of the registry.
pub fn summaries(file: &EvidenceFile) -> Vec<GateSummary<'_>> {
    let badness = |kind: OutcomeKind| match kind {
        OutcomeKind::Corroborated => 0,
        OutcomeKind::Skipped => 1,
        OutcomeKind::NotMeasured => 2,
        OutcomeKind::TimedOut => 3,
        OutcomeKind::Crashed => 4,
        OutcomeKind::Falsified => 5,
    };
    let mut found = Vec::new();
    for gate in GATES {
        let scenarios: Vec<&Evidence> = file.evidence.iter().filter(|entry| entry.gate == gate.id).collect();
        let Some(worst) = scenarios.iter().map(|e| e.outcome.kind()).max_by_key(|&kind| badness(kind)) else {
            continue;
        };
        let mut counts = BTreeMap::new();
        for entry in &scenarios {
            *counts.entry(entry.outcome.kind()).or_default() += 1;
        }
        found.push(GateSummary { gate, scenarios, counts, worst });
    }
    found
}

/// A duration for people.
pub(crate) fn duration(ms: f64) -> String {
    if ms >= 60_000.0 {
        format!("{:.0} min {:.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0) / 1e3)
    } else if ms >= 1000.0 {
        format!("{:.1} s", ms / 1e3)
    } else {
        format!("{ms:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::evidence_file;
    use apr_report::{Outcome, Tier};

    #[test]
    fn a_gate_amounts_to_its_worst_scenario() {
        let file = evidence_file(Tier::Mvp, 2, &[Outcome::not_measured("x"), Outcome::Skipped { reason: "y".into() }]);
        let summaries = summaries(&file);
        assert_eq!(summaries.len(), 1);
        assert_eq!((summaries[0].worst, summaries[0].scenarios.len()), (OutcomeKind::NotMeasured, 4));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!([duration(12.4), duration(1234.0), duration(61_000.0)], ["12 ms", "1.2 s", "1 min 1 s"]);
    }
}
