//! The summary on the terminal.

use super::{duration, summaries};
use crate::gates::GATES;
use crate::score::Score;
use crate::selftest::{KillMatrix, Reaction};
use apr_report::{EvidenceFile, OutcomeKind};
use comfy_table::{ContentArrangement, Table, presets};

/// Longest reason that is shown.
const REASON_CHARS: usize = 160;

/// What the run amounts to, in one screen.
pub fn terminal(file: &EvidenceFile, score: &Score) -> String {
    let mut table = plain_table();
    table.set_header(["gate", "establishes", "sev", "passed", "result"]);
    for summary in summaries(file) {
        let passed = summary.counts.get(&OutcomeKind::Corroborated).copied().unwrap_or(0);
        table.add_row([
            summary.gate.id.to_owned(),
            summary.gate.title.to_owned(),
            summary.gate.severity.to_string(),
            format!("{passed}/{}", summary.scenarios.len()),
            summary.worst.to_string(),
        ]);
    }
    let mut text = format!(
        "{}: {} ({}), playbook {} {}\n\n{}\n",
        file.model.source,
        file.subject.version,
        file.numerics,
        file.playbook.name,
        file.playbook.version,
        table.trim_fmt()
    );
    let not_passed: Vec<_> =
        file.evidence.iter().filter(|entry| entry.outcome.kind() != OutcomeKind::Corroborated).collect();
    if !not_passed.is_empty() {
        text.push_str("\nNot passed:\n");
        for entry in not_passed {
            let kind = entry.outcome.kind();
            text.push_str(&format!(
                "  {} {} ({kind}): {}\n",
                entry.gate,
                entry.scenario,
                shortened(&entry.outcome.reason())
            ));
        }
    }
    text.push('\n');
    text.push_str(&score_lines(score));
    text.push_str(&format!(
        "{} scenarios, {} processes, {}; run {}\n",
        file.evidence.len(),
        file.commands.len(),
        duration(file.elapsed_ms),
        file.run_id
    ));
    text
}

/// The score and what it rests on.
pub fn score_lines(score: &Score) -> String {
    let counts: Vec<String> =
        score.counts.iter().filter(|(_, n)| **n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
    let counts = if counts.is_empty() { "no scenarios".to_owned() } else { counts.join(", ") };
    let mut text = match (score.score, score.grade, score.rate, score.wilson_lower) {
        (Some(points), Some(grade), Some(rate), Some(lower)) => format!(
            "{}  {points}/1000, grade {grade} (rubric {}, {} scenarios)\n  rate {:.1} %; {} scenarios support {:.1} % (95 % Wilson lower bound)\n  {counts}\n",
            score.status,
            score.rubric,
            score.total,
            rate * 100.0,
            score.total,
            lower * 100.0,
        ),
        _ => format!("{}  no score: {counts}\n", score.status),
    };
    if let Some(first) = score.blockers.first() {
        text.push_str(&format!("  blocked by {} findings, first: {first}\n", score.blockers.len()));
    }
    text
}

/// Gates × mutants.
pub fn kill_matrix(matrix: &KillMatrix) -> String {
    let mut text = String::from("Mutants:\n");
    for (index, row) in matrix.mutants.iter().enumerate() {
        let killers = row.reactions.values().filter(|reaction| **reaction == Reaction::Rejected).count();
        text.push_str(&format!("  {:>2} {:<22} {} (rejected by {killers} gates)\n", index + 1, row.id, row.what));
    }
    let mut table = plain_table();
    let numbers: String = (1..=matrix.mutants.len()).map(|n| format!("{n:>3}")).collect();
    table.set_header(["gate".to_owned(), "clean".to_owned(), numbers]);
    for gate in GATES {
        let clean = matrix.clean.get(gate.id).copied().unwrap_or(Reaction::NotRun);
        let marks = matrix.mutants.iter().map(|row| row.reactions.get(gate.id).copied().unwrap_or(Reaction::NotRun));
        let marks: String = marks.map(|reaction| format!("  {}", reaction.mark())).collect();
        table.add_row([gate.id.to_owned(), clean.mark().to_string(), marks]);
    }
    text.push_str(&format!(
        "\n{}\n\nX rejected   . passed   o nothing measured   s skipped   blank: not run\n",
        table.trim_fmt()
    ));
    if matrix.ok {
        text.push_str(&format!(
            "\n{} gates, {} mutants: every gate rejects each mutant that it names, none survives.\n",
            GATES.len(),
            matrix.mutants.len()
        ));
    } else {
        text.push_str(&format!("\n{} defects:\n", matrix.defects.len()));
        for defect in &matrix.defects {
            text.push_str(&format!("  {defect}\n"));
        }
    }
    text
}

fn plain_table() -> Table {
    let mut table = Table::new();
    // The width of a terminal must not change what a file of evidence looks like.
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn shortened(reason: &str) -> String {
    let line = reason.replace('\n', " ");
    match line.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::score;
    use crate::testing::evidence_file;
    use apr_report::{Outcome, Tier};

    #[test]
    fn the_summary_names_score_bound_and_every_failure() {
        let file = evidence_file(Tier::Mvp, 18, &vec![Outcome::falsified("differs\nbadly"); 13]);
        let text = terminal(&file, &score(&file));
        for part in [
            "BLOCKED  405/1000, grade F",
            "rate 58.1 %; 31 scenarios support 40.8 %",
            "18 corroborated, 13 falsified",
            "F-A1-001 scenario 30 (falsified): differs badly",
            "18/31",
            "31 scenarios, 1 processes, 1.2 s",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert_eq!(text, terminal(&file, &score(&file)));
    }

    #[test]
    fn no_evidence_shows_no_number() {
        let file = evidence_file(Tier::Full, 0, &[]);
        let text = score_lines(&score(&file));
        assert_eq!(text, "PENDING  no score: no scenarios\n");
    }
}
