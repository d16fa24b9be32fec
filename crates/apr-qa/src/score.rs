//! The `tier` rubric: from an evidence list to a number, a grade and a status. Pure functions.

use crate::gates::{Severity, gate};
use apr_report::{Evidence, EvidenceFile, OutcomeKind, QaExitCode, Tier};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What a score says about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// The full tier was passed.
    Certified,
    /// Passed as far as it was tested.
    Provisional,
    /// Not fit for use.
    Blocked,
    /// There is no evidence.
    Pending,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Certified => "CERTIFIED",
            Status::Provisional => "PROVISIONAL",
            Status::Blocked => "BLOCKED",
            Status::Pending => "PENDING",
        })
    }
}

impl Status {
    /// How the command that computed it ends.
    pub fn exit_code(self) -> QaExitCode {
        match self {
            Status::Certified | Status::Provisional => QaExitCode::Passed,
            Status::Blocked | Status::Pending => QaExitCode::Falsified,
        }
    }
}

/// A score with everything it was computed from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the rubric.
    pub rubric: &'static str,
    /// The tier whose rule was applied.
    pub tier: Tier,
    /// Number of scenarios.
    pub total: u64,
    /// Scenarios by outcome; they add up to `total`.
    pub counts: BTreeMap<OutcomeKind, u64>,
    /// Corroborated by total; absent without scenarios.
    pub rate: Option<f64>,
    /// Lower end of the 95 % Wilson interval of the rate.
    pub wilson_lower: Option<f64>,
    /// 0 to 1000; absent without scenarios.
    pub score: Option<u32>,
    /// `A+` to `F`; absent without scenarios.
    pub grade: Option<&'static str>,
    /// What it amounts to.
    pub status: Status,
    /// Why nothing can be certified, whatever the rate: failed P0 gates, gateways without a pass.
    pub blockers: Vec<String>,
}

/// Score of an evidence file.
pub fn score(file: &EvidenceFile) -> Score {
    let counts = file.counts();
    let total = counts.values().sum();
    let passed = counts[&OutcomeKind::Corroborated];
    let blockers = if total == 0 { vec![] } else { blockers(&file.evidence) };
    let (score, grade, status) = match tier_rule(file.playbook.tier, passed, total, !blockers.is_empty()) {
        Some((score, grade, status)) => (Some(score), Some(grade), status),
        None => (None, None, Status::Pending),
    };
    Score {
        rubric: "tier",
        tier: file.playbook.tier,
        total,
        counts,
        rate: (total > 0).then(|| passed as f64 / total as f64),
        wilson_lower: wilson_lower(passed, total),
        score,
        grade,
        status,
        blockers,
    }
}

/// P0 gates that rejected something, and gateways that are not wholly passed.
fn blockers(evidence: &[Evidence]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in evidence {
        let kind = entry.outcome.kind();
        match gate(&entry.gate) {
            Some(gate) if gate.severity == Severity::P0 && kind.is_failure() => {
                found.push(format!("{} {} is {kind}", entry.gate, entry.scenario));
            }
            Some(gate) if gate.gateway.is_some() && kind != OutcomeKind::Corroborated => {
                found.push(format!("{} {} is {kind}, a gateway needs a pass", entry.gate, entry.scenario));
            }
            _ => {}
        }
    }
    for gateway in 0..=4u8 {
        let has_evidence = evidence.iter().any(|e| gate(&e.gate).is_some_and(|g| g.gateway == Some(gateway)));
        if !has_evidence {
            found.push(format!("gateway G{gateway} has no evidence"));
        }
    }
    found
}

/// The rule of a tier: score, grade and status, or `None` without scenarios.
///
/// Blocked, or a rate below .90: 699 × rate, F. `mvp`: 800, B. `full` from .95: 950 and up, A+; below: 800 to 899.
/// Counts are compared as integers, so that a rate of exactly .90 is not lost to rounding.
pub fn tier_rule(tier: Tier, passed: u64, total: u64, blocked: bool) -> Option<(u32, &'static str, Status)> {
    if total == 0 {
        return None;
    }
    let rate = passed as f64 / total as f64;
    if blocked || passed * 100 < total * 90 {
        let score = 699 * passed / total;
        return Some((u32::try_from(score).expect("at most 699"), "F", Status::Blocked));
    }
    Some(match tier {
        Tier::Mvp => (800, "B", Status::Provisional),
        Tier::Full if passed * 100 >= total * 95 => {
            let extra = ((passed * 100 - total * 95) * 10 / total).min(50);
            (950 + u32::try_from(extra).expect("at most 50"), "A+", Status::Certified)
        }
        Tier::Full => {
            let score = 800 + (99.0 * (rate - 0.90) / 0.05).floor().clamp(0.0, 98.0) as u32;
            (score, if score >= 850 { "B+" } else { "B" }, Status::Provisional)
        }
    })
}

/// Lower end of the Wilson interval (z = 1.96): the rate that this many scenarios support.
pub fn wilson_lower(passed: u64, total: u64) -> Option<f64> {
    if total == 0 {
        return None;
    }
    let (n, z) = (total as f64, 1.96f64);
    let p = passed as f64 / n;
    let z2 = z * z;
    let centre = p + z2 / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some(((centre - spread) / (1.0 + z2 / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::evidence_file;
    use apr_report::Outcome;

    /// The three published results: seeds 000, 001 and 002.
    #[test]
    fn published_scores_come_out() {
        assert_eq!(tier_rule(Tier::Mvp, 18, 31, false), Some((405, "F", Status::Blocked)));
        assert_eq!(tier_rule(Tier::Full, 11, 24, false), Some((320, "F", Status::Blocked)));
        assert_eq!(tier_rule(Tier::Mvp, 7, 44, false), Some((111, "F", Status::Blocked)));
    }

    /// The same numbers from evidence: 7 passed, 25 failed and 12 skipped leave 44 in the denominator.
    #[test]
    fn skipped_scenarios_stay_in_the_denominator() {
        let failed = || Outcome::falsified("differs");
        let skipped = || Outcome::Skipped { reason: "depends".to_owned() };
        let not_measured = || Outcome::not_measured("nothing compared");
        for (passed, others, expected) in [
            (18, vec![failed(); 13], 405),
            (11, vec![failed(); 13], 320),
            (7, [vec![failed(); 25], vec![skipped(); 12]].concat(), 111),
            (7, [vec![failed(); 25], vec![not_measured(); 12]].concat(), 111),
        ] {
            let file = evidence_file(Tier::Mvp, passed, &others);
            let score = score(&file);
            assert_eq!((score.score, score.grade, score.status), (Some(expected), Some("F"), Status::Blocked));
            assert_eq!(score.counts.values().sum::<u64>(), score.total);
        }
    }

    #[test]
    fn tiers_have_their_bounds() {
        assert_eq!(tier_rule(Tier::Mvp, 9, 10, false), Some((800, "B", Status::Provisional)));
        assert_eq!(tier_rule(Tier::Mvp, 100, 100, false), Some((800, "B", Status::Provisional)));
        assert_eq!(tier_rule(Tier::Mvp, 899, 1000, false), Some((628, "F", Status::Blocked)));
        assert_eq!(tier_rule(Tier::Full, 100, 100, false), Some((1000, "A+", Status::Certified)));
        assert_eq!(tier_rule(Tier::Full, 95, 100, false), Some((950, "A+", Status::Certified)));
        assert_eq!(tier_rule(Tier::Full, 90, 100, false), Some((800, "B", Status::Provisional)));
        assert_eq!(tier_rule(Tier::Full, 949, 1000, false).map(|s| s.2), Some(Status::Provisional));
        assert_eq!(tier_rule(Tier::Full, 100, 100, true), Some((699, "F", Status::Blocked)));
    }

    #[test]
    fn no_evidence_has_no_score() {
        let score = score(&evidence_file(Tier::Full, 0, &[]));
        assert_eq!((score.score, score.rate, score.wilson_lower, score.status), (None, None, None, Status::Pending));
        assert_eq!(score.status.exit_code(), QaExitCode::Falsified);
    }

    #[test]
    fn passes_without_gateways_are_blocked() {
        let score = score(&evidence_file(Tier::Mvp, 20, &[]));
        assert_eq!(score.status, Status::Blocked);
        assert!(score.blockers.iter().any(|b| b == "gateway G1 has no evidence"), "{:?}", score.blockers);
    }

    /// 18 of 18 supports 82 %, not 95 %. The figures were computed apart, from the textbook formula.
    #[test]
    fn eighteen_of_eighteen_supports_82_percent() {
        assert!((wilson_lower(18, 18).unwrap() - 0.8241).abs() < 5e-5);
        assert!((wilson_lower(18, 31).unwrap() - 0.4077).abs() < 5e-5);
        assert_eq!(wilson_lower(0, 0), None);
    }
}
