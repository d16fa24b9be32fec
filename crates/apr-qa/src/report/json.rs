//! Evidence as JSON, its schema, and reading it back.

use crate::gates::gate;
use apr_report::{EvidenceFile, ReportError, from_json};
use std::path::Path;

/// Why an evidence file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The file can't be read.
    #[error("evidence {path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no evidence, or claims what it does not hold.
    #[error("evidence {path}: {source}")]
    Invalid {
        /// The path.
        path: String,
        /// What is wrong.
        source: ReportError,
    },
    /// It names a gate that the registry does not have.
    #[error("evidence {path}: gate {gate} is not in the registry; see `apr-qa gates`")]
    UnknownGate {
        /// The path.
        path: String,
        /// The gate.
        gate: String,
    },
}

/// An evidence file as text.
pub fn json(file: &EvidenceFile) -> String {
    let mut text = serde_json::to_string_pretty(file).expect("evidence has string keys and finite numbers");
    text.push('\n');
    text
}

/// Reads an evidence file and checks all of it: a pass without a measurement is an error, as is an unknown gate.
pub fn read(path: &Path) -> Result<EvidenceFile, EvidenceError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| EvidenceError::Read { path: name(), source })?;
    let file: EvidenceFile = from_json(&text).map_err(|source| EvidenceError::Invalid { path: name(), source })?;
    match file.evidence.iter().find(|entry| gate(&entry.gate).is_none()) {
        Some(entry) => Err(EvidenceError::UnknownGate { path: name(), gate: entry.gate.clone() }),
        None => Ok(file),
    }
}

/// The JSON schema of an evidence file, as text.
pub fn schema() -> String {
    let schema = schemars::schema_for!(EvidenceFile);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{entry, evidence_file};
    use apr_report::{Measurement, Outcome, Side, Tier, Unit};
    use serde_json::{Value, json};

    fn file() -> EvidenceFile {
        let side = Side::new("logits", 9, "digest");
        let differs =
            Measurement::new(Unit::Logits, side.clone(), side, 9, 2).and_then(|m| m.with_figure("max_abs", 0.5));
        evidence_file(
            Tier::Mvp,
            2,
            &[
                Outcome::judge(differs),
                Outcome::falsified("exit 4"),
                Outcome::Crashed { signal: 11, reason: "x".into() },
                Outcome::TimedOut { limit_ms: 5, reason: "x".into() },
                Outcome::Skipped { reason: "x".into() },
                Outcome::not_measured("x"),
            ],
        )
    }

    fn validator() -> jsonschema::Validator {
        jsonschema::validator_for(&serde_json::from_str(&schema()).unwrap()).unwrap()
    }

    #[test]
    fn the_published_schema_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/evidence.schema.json");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == schema(), "run `apr-qa schema > docs/schema/evidence.schema.json`");
    }

    /// Every kind of outcome, as the code writes it, is valid by the schema that the code publishes.
    #[test]
    fn evidence_is_valid_by_its_schema() {
        let value: Value = serde_json::from_str(&super::json(&file())).unwrap();
        let errors: Vec<String> = validator().iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn the_schema_refuses_passes_without_a_measurement() {
        let validator = validator();
        let changed = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&super::json(&file())).unwrap();
            change(&mut value["evidence"][0]);
            validator.is_valid(&value)
        };
        assert!(changed(|_| ()));
        assert!(!changed(|entry| entry["measurement"]["compared"] = json!(0)));
        assert!(!changed(|entry| entry["measurement"]["different"] = json!(1)));
        assert!(!changed(|entry| entry["verdict"] = json!("passed")));
        assert!(!changed(|entry| drop(entry.as_object_mut().unwrap().remove("measurement"))));
    }

    #[test]
    fn files_are_read_back_or_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence.json");
        std::fs::write(&path, super::json(&file())).unwrap();
        assert_eq!(read(&path).unwrap(), file());

        let mut unknown = file();
        let mut extra = entry("x".into(), Outcome::not_measured("x"));
        extra.gate = "F-UNHEARD-001".into();
        unknown.evidence.push(extra);
        std::fs::write(&path, super::json(&unknown)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("F-UNHEARD-001 is not in the registry"));

        let forged = super::json(&file()).replacen("\"different\": 0", "\"different\": 1", 1);
        std::fs::write(&path, forged).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("a pass was claimed"));
        assert!(read(&dir.path().join("absent.json")).is_err());
    }
}
