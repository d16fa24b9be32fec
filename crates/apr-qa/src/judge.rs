//! Judges: from reports to outcomes. Pure functions, shared by `run` and `selftest`.

mod answers;
mod files;
mod pairs;
mod structure;

pub use answers::{answer, basic, garbage_gateway, golden_logits, golden_text, loads, stable};
pub use files::{FileSet, same_files};
pub use pairs::{cardinality, logits, metadata, names, tokenizer, values};
pub use structure::{format_is, integrity, layout, tensors_present, validated};

use apr_report::{Measurement, Outcome, Side, Unit};

/// A statement with one right answer.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What is stated.
    pub what: String,
    /// The right answer.
    pub expected: String,
    /// The answer found.
    pub found: String,
}

impl Fact {
    /// A fact.
    pub fn new(what: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Fact { what: what.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

/// Judges statements: all must be as expected, and there must be one.
pub fn facts(reference: &str, candidate: &str, list: &[Fact]) -> Outcome {
    let wrong: Vec<&Fact> = list.iter().filter(|fact| fact.expected != fact.found).collect();
    let n = list.len() as u64;
    let joined = |value: fn(&Fact) -> &str| {
        let text = list.iter().map(|fact| format!("{}={}", fact.what, value(fact))).collect::<Vec<_>>().join("\n");
        if text.len() <= 120 {
            text.replace('\n', " ")
        } else {
            format!("blake3 {}", blake3::hash(text.as_bytes()).to_hex())
        }
    };
    let reference = Side::new(reference, n, joined(|fact| &fact.expected));
    let candidate = Side::new(candidate, n, joined(|fact| &fact.found));
    let shown = wrong.iter().take(3).map(|fact| format!("{} is {}, expected {}", fact.what, fact.found, fact.expected));
    let more = shown.collect::<Vec<_>>().join("; ");
    Outcome::judge(Measurement::new(Unit::Facts, reference, candidate, n, wrong.len() as u64)).because(&more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::OutcomeKind;

    #[test]
    fn facts_need_at_least_one_and_all_right() {
        assert_eq!(facts("a", "b", &[]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(facts("a", "b", &[Fact::new("x", 1, 1)]).kind(), OutcomeKind::Corroborated);
        let wrong = facts("a", "b", &[Fact::new("x", 1, 1), Fact::new("y", 2, 3)]);
        assert_eq!(wrong.kind(), OutcomeKind::Falsified);
        assert_eq!(wrong.reason(), "1 of 2 facts differ; y is 3, expected 2");
    }
}
