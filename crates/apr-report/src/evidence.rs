//! The evidence file: everything that a score or a report is computed from.

use crate::{Outcome, OutcomeKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// How much a playbook demands, and with it which rule of the `tier` rubric applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Minimum: can become PROVISIONAL.
    Mvp,
    /// Complete: can become CERTIFIED.
    Full,
}

/// Everything that happened in one run of a playbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Wire")]
#[schemars(!try_from)]
pub struct EvidenceFile {
    /// `apr-qa.evidence/1`.
    #[schemars(extend("const" = "apr-qa.evidence/1"))]
    pub schema: String,
    /// Names this run: BLAKE3 over playbook, model, subject, seed and beginning, first 32 hexadecimal digits.
    pub run_id: String,
    /// When it began, RFC 3339 in UTC.
    pub began: String,
    /// How long it took in milliseconds.
    pub elapsed_ms: f64,
    /// The playbook.
    pub playbook: PlaybookId,
    /// The model as it was given.
    pub model: ModelUnderTest,
    /// The program that was qualified.
    pub subject: SubjectBinary,
    /// The machine.
    pub host: Host,
    /// Numerics under which every logit was computed.
    pub numerics: String,
    /// Seed handed to every sampled run.
    pub seed: u64,
    /// Every process that was run, in order; evidence refers to them by index.
    pub commands: Vec<CommandRecord>,
    /// One entry for each scenario.
    pub evidence: Vec<Evidence>,
}

/// Which playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookId {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its tier.
    pub tier: Tier,
    /// BLAKE3 of its text, hexadecimal.
    pub blake3: String,
}

/// Which model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUnderTest {
    /// What was asked for (`builtin:tiny`, a path).
    pub source: String,
    /// Format of the source.
    pub format: String,
    /// Its files.
    pub files: Vec<Artefact>,
}

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectBinary {
    /// Path of the executable.
    pub path: String,
    /// Arguments put before every command (`["apr"]` where `apr-qa` runs itself).
    pub prefix: Vec<String>,
    /// BLAKE3 of the executable, hexadecimal.
    pub blake3: String,
    /// What it says its version is.
    pub version: String,
}

/// Which machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// What the processor calls itself; absent where the system does not say.
    pub cpu: Option<String>,
    /// Logical processors.
    pub n_cpus: usize,
    /// Memory in bytes; absent where the system does not say.
    pub memory_bytes: Option<u64>,
}

/// A file and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artefact {
    /// Path, relative to the work directory where it lies inside.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3, hexadecimal.
    pub blake3: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A process that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRecord {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Exit status; absent where a signal ended it.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Whether the harness killed it because it ran past its limit.
    pub timed_out: bool,
    /// Wall time in milliseconds.
    pub wall_ms: f64,
    /// Largest resident set in bytes; absent where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Standard output, up to the recorder's limit.
    pub stdout: String,
    /// Standard error, up to the recorder's limit.
    pub stderr: String,
    /// Length of the complete standard output in bytes.
    pub stdout_bytes: u64,
    /// BLAKE3 of the complete standard output, hexadecimal.
    pub stdout_blake3: String,
}

/// One scenario of one gate, with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Gate id.
    pub gate: String,
    /// Names the scenario within the gate; (gate, scenario) is unique in a file.
    pub scenario: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Processes it rests on, as indexes into `commands`.
    pub commands: Vec<usize>,
    /// Files it rests on.
    pub artefacts: Vec<Artefact>,
    /// Wall time in milliseconds, its processes included.
    pub elapsed_ms: f64,
}

/// Why a document is not an evidence file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceFileError {
    /// Two entries have the same name.
    #[error("{gate} {scenario} occurs twice")]
    Duplicate {
        /// The gate.
        gate: String,
        /// The scenario.
        scenario: String,
    },
    /// An entry refers to a process that is not recorded.
    #[error("{gate} {scenario} refers to command {index}, the file has {n_commands}")]
    Command {
        /// The gate.
        gate: String,
        /// The scenario.
        scenario: String,
        /// The index.
        index: usize,
        /// How many there are.
        n_commands: usize,
    },
}

#[derive(Deserialize)]
struct Wire {
    schema: String,
    run_id: String,
    began: String,
    elapsed_ms: f64,
    playbook: PlaybookId,
    model: ModelUnderTest,
    subject: SubjectBinary,
    host: Host,
    numerics: String,
    seed: u64,
    commands: Vec<CommandRecord>,
    evidence: Vec<Evidence>,
}

impl TryFrom<Wire> for EvidenceFile {
    type Error = EvidenceFileError;

    fn try_from(wire: Wire) -> Result<Self, EvidenceFileError> {
        EvidenceFile {
            schema: wire.schema,
            run_id: wire.run_id,
            began: wire.began,
            elapsed_ms: wire.elapsed_ms,
            playbook: wire.playbook,
            model: wire.model,
            subject: wire.subject,
            host: wire.host,
            numerics: wire.numerics,
            seed: wire.seed,
            commands: wire.commands,
            evidence: wire.evidence,
        }
        .checked()
    }
}

impl EvidenceFile {
    /// Checks what the types alone can't say: unique names, commands that exist.
    pub fn checked(self) -> Result<Self, EvidenceFileError> {
        let mut seen = HashSet::new();
        for entry in &self.evidence {
            let (gate, scenario) = (entry.gate.clone(), entry.scenario.clone());
            if !seen.insert((&entry.gate, &entry.scenario)) {
                return Err(EvidenceFileError::Duplicate { gate, scenario });
            }
            if let Some(&index) = entry.commands.iter().find(|&&index| index >= self.commands.len()) {
                return Err(EvidenceFileError::Command { gate, scenario, index, n_commands: self.commands.len() });
            }
        }
        Ok(self)
    }

    /// How many entries have each outcome; the sum is the number of entries.
    pub fn counts(&self) -> BTreeMap<OutcomeKind, u64> {
        let mut counts: BTreeMap<OutcomeKind, u64> = OutcomeKind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for entry in &self.evidence {
            *counts.entry(entry.outcome.kind()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Report, from_json};

    fn entry(gate: &str, scenario: &str, outcome: Outcome) -> Evidence {
        Evidence {
            gate: gate.into(),
            scenario: scenario.into(),
            outcome,
            commands: vec![],
            artefacts: vec![],
            elapsed_ms: 0.0,
        }
    }

    fn file(evidence: Vec<Evidence>) -> EvidenceFile {
        EvidenceFile {
            schema: EvidenceFile::SCHEMA.into(),
            run_id: "0".repeat(32),
            began: "2026-01-01T00:00:00Z".into(),
            elapsed_ms: 1.0,
            playbook: PlaybookId { name: "p".into(), version: "1.0.0".into(), tier: Tier::Mvp, blake3: String::new() },
            model: ModelUnderTest { source: "builtin:tiny".into(), format: "gguf".into(), files: vec![] },
            subject: SubjectBinary {
                path: "apr".into(),
                prefix: vec![],
                blake3: String::new(),
                version: "0.1.0".into(),
            },
            host: Host { os: "linux".into(), arch: "x86_64".into(), cpu: None, n_cpus: 1, memory_bytes: None },
            numerics: "exact".into(),
            seed: 42,
            commands: vec![],
            evidence,
        }
    }

    #[test]
    fn counts_add_up_to_the_number_of_entries() {
        let file = file(vec![
            entry("G", "1", Outcome::falsified("x")),
            entry("G", "2", Outcome::not_measured("x")),
            entry("G", "3", Outcome::Skipped { reason: "x".into() }),
        ]);
        assert_eq!(file.counts().values().sum::<u64>(), 3);
        assert_eq!(file.counts()[&OutcomeKind::Falsified], 1);
        assert_eq!(file.counts()[&OutcomeKind::Corroborated], 0);
    }

    #[test]
    fn reading_checks_names_and_commands() {
        let good = file(vec![entry("G", "1", Outcome::falsified("x"))]);
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(from_json::<EvidenceFile>(&text).unwrap(), good);

        let twice = file(vec![entry("G", "1", Outcome::falsified("x")), entry("G", "1", Outcome::falsified("y"))]);
        let text = serde_json::to_string(&twice).unwrap();
        assert!(from_json::<EvidenceFile>(&text).unwrap_err().to_string().contains("G 1 occurs twice"));

        let mut dangling = good;
        dangling.evidence[0].commands = vec![0];
        let text = serde_json::to_string(&dangling).unwrap();
        assert!(from_json::<EvidenceFile>(&text).unwrap_err().to_string().contains("refers to command 0"));
    }
}
