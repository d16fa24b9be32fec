//! JUnit XML: one suite for each gate, one case for each scenario.

use super::summaries;
use crate::score::Score;
use apr_report::{EvidenceFile, OutcomeKind};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The run as JUnit XML. Falsified scenarios are failures; crashes and hangs are errors; what was skipped or measured
/// nothing is skipped, with the reason.
pub fn junit(file: &EvidenceFile, score: &Score) -> String {
    let mut report = Report::new(format!("apr-qa {}", file.playbook.name));
    report.set_time(seconds(file.elapsed_ms));
    for summary in summaries(file) {
        let mut suite = TestSuite::new(summary.gate.id);
        suite.add_property(Property::new("title", summary.gate.title));
        suite.add_property(Property::new("severity", summary.gate.severity.to_string()));
        suite.set_time(seconds(summary.scenarios.iter().map(|entry| entry.elapsed_ms).sum()));
        for entry in summary.scenarios {
            let reason = entry.outcome.reason();
            let mut status = match entry.outcome.kind() {
                OutcomeKind::Corroborated => TestCaseStatus::success(),
                OutcomeKind::Falsified => TestCaseStatus::non_success(NonSuccessKind::Failure),
                OutcomeKind::Crashed | OutcomeKind::TimedOut => TestCaseStatus::non_success(NonSuccessKind::Error),
                OutcomeKind::Skipped | OutcomeKind::NotMeasured => TestCaseStatus::skipped(),
            };
            if entry.outcome.kind() != OutcomeKind::Corroborated {
                status.set_type(entry.outcome.kind().to_string());
                status.set_message(reason);
            }
            let mut case = TestCase::new(entry.scenario.as_str(), status);
            case.set_classname(entry.gate.as_str());
            case.set_time(seconds(entry.elapsed_ms));
            if let Some(&index) = entry.commands.last() {
                case.set_system_err(file.commands[index].stderr.as_str());
            }
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    let mut suite = TestSuite::new("score");
    for (name, value) in [
        ("rubric", Some(score.rubric.to_owned())),
        ("score", score.score.map(|n| n.to_string())),
        ("grade", score.grade.map(str::to_owned)),
        ("status", Some(score.status.to_string())),
        ("rate", score.rate.map(|rate| format!("{rate:.4}"))),
        ("wilson_lower", score.wilson_lower.map(|rate| format!("{rate:.4}"))),
        ("run_id", Some(file.run_id.clone())),
    ] {
        if let Some(value) = value {
            suite.add_property(Property::new(name, value));
        }
    }
    report.add_test_suite(suite);
    report.to_string().expect("writing into memory does not fail")
}

fn seconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::score;
    use crate::testing::evidence_file;
    use apr_report::{Outcome, Tier};

    #[test]
    fn outcomes_map_to_junit_and_counts_agree() {
        let others = [
            Outcome::falsified("values <differ> & more"),
            Outcome::Crashed { signal: 11, reason: "x".into() },
            Outcome::TimedOut { limit_ms: 5, reason: "x".into() },
            Outcome::Skipped { reason: "no GPU".into() },
            Outcome::not_measured("nothing"),
        ];
        let file = evidence_file(Tier::Mvp, 2, &others);
        let xml = junit(&file, &score(&file));
        for part in [
            r#"tests="7" skipped="2" failures="1" errors="2""#,
            r#"<failure message="values &lt;differ&gt; &amp; more" type="falsified"/>"#,
            r#"<skipped message="no GPU" type="skipped"/>"#,
            r#"name="status" value="BLOCKED""#,
            r#"classname="F-A1-001""#,
        ] {
            assert!(xml.contains(part), "{part} is missing in\n{xml}");
        }
        assert!(!xml.contains('\u{1b}'), "control characters are not allowed in XML");
    }
}
