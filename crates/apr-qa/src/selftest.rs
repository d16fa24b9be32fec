//! The self-test: every gate has been seen to reject a mutant, and to pass the model without one.

use crate::gates::GATES;
use crate::harness::{HarnessError, NoSabotage, Sabotage, Silent};
use crate::mutants::{Expect, MUTANTS, Mutant, Saboteur};
use crate::playbook::Playbook;
use crate::runner::{Parts, Request, run};
use crate::source::ModelSource;
use crate::subject::Subject;
use apr_report::{Evidence, OutcomeKind, QaExitCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The playbook of the self-test: small, and it asks for a GPU so that a silent CPU run can be planted.
pub const PLAYBOOK: &str = include_str!("../../../playbooks/selftest.yaml");

/// What a gate did with a mutant: the worst outcome of its scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// It was not run: the mutant can't be seen there.
    NotRun,
    /// It passed.
    Passed,
    /// It was skipped.
    Skipped,
    /// It measured nothing.
    NotMeasured,
    /// It rejected.
    Rejected,
}

impl Reaction {
    fn of(kind: OutcomeKind) -> Self {
        match kind {
            OutcomeKind::Corroborated => Reaction::Passed,
            OutcomeKind::Falsified | OutcomeKind::Crashed | OutcomeKind::TimedOut => Reaction::Rejected,
            OutcomeKind::Skipped => Reaction::Skipped,
            OutcomeKind::NotMeasured => Reaction::NotMeasured,
        }
    }

    fn satisfies(self, expect: Expect) -> bool {
        match expect {
            Expect::Reject => self == Reaction::Rejected,
            Expect::NotPass => matches!(self, Reaction::Rejected | Reaction::NotMeasured),
        }
    }

    /// One character for the matrix.
    pub fn mark(self) -> char {
        match self {
            Reaction::NotRun => ' ',
            Reaction::Passed => '.',
            Reaction::Skipped => 's',
            Reaction::NotMeasured => 'o',
            Reaction::Rejected => 'X',
        }
    }
}

/// Gates × mutants.
#[derive(Clone, Debug, Serialize)]
pub struct KillMatrix {
    /// `apr-qa.selftest/1`.
    pub schema: &'static str,
    /// Whether nothing is listed in `defects`.
    pub ok: bool,
    /// What is wrong: mutants that survived, gates that reject none, failures of the model without a mutant.
    pub defects: Vec<String>,
    /// What each gate did with the model as it is.
    pub clean: BTreeMap<String, Reaction>,
    /// What each gate did with each mutant.
    pub mutants: Vec<MutantRow>,
}

/// One mutant and the gates.
#[derive(Clone, Debug, Serialize)]
pub struct MutantRow {
    /// Its id.
    pub id: &'static str,
    /// What is damaged.
    pub what: &'static str,
    /// What each gate did.
    pub reactions: BTreeMap<String, Reaction>,
    /// For each gate that did not pass: its first scenario that did not, and why.
    pub told: BTreeMap<String, String>,
}

impl KillMatrix {
    /// How the command ends.
    pub fn exit_code(&self) -> QaExitCode {
        if self.ok { QaExitCode::Passed } else { QaExitCode::Falsified }
    }

    /// Judges what was seen.
    pub fn new(clean: BTreeMap<String, Reaction>, mutants: Vec<MutantRow>) -> Self {
        let mut defects = Vec::new();
        for row in GATES {
            match clean.get(row.id).copied().unwrap_or(Reaction::NotRun) {
                Reaction::Passed => {}
                // A machine without a GPU can't pass the GPU's gate; the mutant shows that it can fail.
                Reaction::Skipped if row.id == "F-A2-001" => {}
                other => defects.push(format!("{}: {other:?} on the model without a mutant", row.id)),
            }
        }
        for row in &mutants {
            let planted = MUTANTS.iter().find(|mutant| mutant.id == row.id);
            let expect = planted.map_or(Expect::Reject, |mutant| mutant.expect);
            if !row.reactions.values().any(|reaction| reaction.satisfies(expect)) {
                defects.push(format!("{}: survived, no gate rejects it", row.id));
            }
            for gate in GATES.iter().filter(|gate| gate.mutants.contains(&row.id)) {
                let reaction = row.reactions.get(gate.id).copied().unwrap_or(Reaction::NotRun);
                if !reaction.satisfies(expect) {
                    defects.push(format!("{}: names {} and does not reject it ({reaction:?})", gate.id, row.id));
                }
            }
        }
        for gate in GATES {
            let killed = mutants.iter().any(|row| row.reactions.get(gate.id) == Some(&Reaction::Rejected));
            if !killed {
                defects.push(format!("{}: no mutant was rejected, nothing shows that it can fail", gate.id));
            }
        }
        KillMatrix { schema: "apr-qa.selftest/1", ok: defects.is_empty(), defects, clean, mutants }
    }
}

/// The worst reaction of each gate.
fn reactions(evidence: &[Evidence]) -> BTreeMap<String, Reaction> {
    let mut found: BTreeMap<String, Reaction> = BTreeMap::new();
    for entry in evidence {
        let reaction = Reaction::of(entry.outcome.kind());
        let worst = found.entry(entry.gate.clone()).or_insert(reaction);
        *worst = (*worst).max(reaction);
    }
    found
}

/// Runs the model as it is, then each mutant. `observer` hears about each run when it ends.
pub fn selftest(
    subject: &Subject,
    work: &Path,
    only: Option<&Mutant>,
    observer: &dyn Fn(&str, &BTreeMap<String, Reaction>),
) -> Result<KillMatrix, HarnessError> {
    let playbook = Playbook::parse(PLAYBOOK).expect("the self-test's playbook is valid; tested");
    let source = ModelSource::parse("builtin:nano").expect("a built-in model");
    let run_with = |name: &str, parts: Parts, sabotage: &dyn Sabotage| {
        let work = work.join(name);
        std::fs::create_dir_all(&work).map_err(crate::harness::io("create", &work))?;
        let request = Request {
            playbook: &playbook,
            source: &source,
            subject,
            work: work.clone(),
            timeout: None,
            policy: None,
            no_gpu: false,
            parts,
            sabotage,
            observer: &Silent,
        };
        let file = run(&request)?;
        std::fs::remove_dir_all(&work).map_err(crate::harness::io("remove", &work))?;
        Ok::<_, HarnessError>(file.evidence)
    };
    let clean = reactions(&run_with("clean", Parts::ALL, &NoSabotage)?);
    observer("no mutant", &clean);
    let mut rows = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| only.is_none_or(|only| only.id == mutant.id)) {
        let evidence = run_with(mutant.id, mutant.parts, &Saboteur { mutant, subject })?;
        let reactions = reactions(&evidence);
        observer(mutant.id, &reactions);
        let mut told = BTreeMap::new();
        for entry in evidence.iter().filter(|entry| entry.outcome.kind() != OutcomeKind::Corroborated) {
            let reason = || format!("{}: {}", entry.scenario, entry.outcome.reason());
            told.entry(entry.gate.clone()).or_insert_with(reason);
        }
        rows.push(MutantRow { id: mutant.id, what: mutant.what, reactions, told });
    }
    Ok(KillMatrix::new(clean, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_passed() -> BTreeMap<String, Reaction> {
        GATES.iter().map(|gate| (gate.id.to_owned(), Reaction::Passed)).collect()
    }

    /// A matrix in which every gate rejects exactly the mutants that it names.
    fn ideal() -> Vec<MutantRow> {
        let row = |mutant: &'static Mutant| {
            let reaction = |gate: &crate::gates::Gate| match gate.mutants.contains(&mutant.id) {
                true => Reaction::Rejected,
                false => Reaction::Passed,
            };
            let reactions = GATES.iter().map(|gate| (gate.id.to_owned(), reaction(gate))).collect();
            MutantRow { id: mutant.id, what: mutant.what, reactions, told: BTreeMap::new() }
        };
        MUTANTS.iter().map(row).collect()
    }

    #[test]
    fn the_playbook_is_valid() {
        assert_eq!(Playbook::parse(PLAYBOOK).unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn an_ideal_matrix_has_no_defect() {
        let matrix = KillMatrix::new(all_passed(), ideal());
        assert!(matrix.ok, "{:?}", matrix.defects);
        assert_eq!(matrix.exit_code(), QaExitCode::Passed);
    }

    #[test]
    fn survivors_vacuous_gates_and_a_failing_model_are_defects() {
        let mut survived = ideal();
        survived[0].reactions.values_mut().for_each(|reaction| *reaction = Reaction::Passed);
        let matrix = KillMatrix::new(all_passed(), survived);
        assert!(
            matrix.defects.iter().any(|d| d == "zero-tensor: survived, no gate rejects it"),
            "{:?}",
            matrix.defects
        );
        assert_eq!(matrix.exit_code(), QaExitCode::Falsified);

        let mut vacuous = ideal();
        vacuous.iter_mut().for_each(|row| {
            row.reactions.insert("G1-LOAD".to_owned(), Reaction::Passed);
        });
        assert!(KillMatrix::new(all_passed(), vacuous).defects.iter().any(|d| d.starts_with("G1-LOAD: no mutant")));

        let mut failing = all_passed();
        failing.insert("G2-BASIC".to_owned(), Reaction::NotMeasured);
        assert!(!KillMatrix::new(failing, ideal()).ok);
        let mut without_gpu = all_passed();
        without_gpu.insert("F-A2-001".to_owned(), Reaction::Skipped);
        assert!(KillMatrix::new(without_gpu, ideal()).ok);
    }

    #[test]
    fn not_measured_is_enough_only_where_nothing_is_there_to_measure() {
        assert!(Reaction::NotMeasured.satisfies(Expect::NotPass));
        assert!(!Reaction::NotMeasured.satisfies(Expect::Reject));
        assert!(!Reaction::Skipped.satisfies(Expect::NotPass));
    }
}
