//! Evidence for unit tests.

use apr_report::{
    CommandRecord, Evidence, EvidenceFile, Host, Measurement, ModelUnderTest, Outcome, PlaybookId, Report, Side,
    SubjectBinary, Tier, Unit,
};

/// An outcome that passes.
pub(crate) fn pass() -> Outcome {
    let reference = Side::new("expected answer", 1, "4");
    let candidate = Side::new("generated text", 8, "2 + 2 equals 4.");
    Outcome::judge(Measurement::new(Unit::Text, reference, candidate, 1, 0))
}

/// Evidence for a P1 gate with this outcome.
pub(crate) fn entry(scenario: String, outcome: Outcome) -> Evidence {
    Evidence { gate: "F-A1-001".to_owned(), scenario, outcome, commands: vec![0], artefacts: vec![], elapsed_ms: 12.5 }
}

/// A file with `passed` passes and these other outcomes.
pub(crate) fn evidence_file(tier: Tier, passed: usize, others: &[Outcome]) -> EvidenceFile {
    let outcomes = std::iter::repeat_with(pass).take(passed).chain(others.iter().cloned());
    EvidenceFile {
        schema: EvidenceFile::SCHEMA.to_owned(),
        run_id: "0123456789abcdef0123456789abcdef".to_owned(),
        began: "2026-01-02T03:04:05Z".to_owned(),
        elapsed_ms: 1234.5,
        playbook: PlaybookId { name: "test".to_owned(), version: "1.0.0".to_owned(), tier, blake3: "b".repeat(64) },
        model: ModelUnderTest { source: "builtin:tiny".to_owned(), format: "gguf".to_owned(), files: vec![] },
        subject: SubjectBinary {
            path: "/usr/bin/apr".to_owned(),
            prefix: vec![],
            blake3: "c".repeat(64),
            version: "apr 0.1.0".to_owned(),
        },
        host: Host {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpu: Some("a <cpu> & more".to_owned()),
            n_cpus: 2,
            memory_bytes: Some(1 << 34),
        },
        numerics: "exact".to_owned(),
        seed: 42,
        commands: vec![CommandRecord {
            argv: ["apr", "run", "model.gguf", "What is 2+2?"].map(str::to_owned).to_vec(),
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            wall_ms: 12.0,
            peak_rss_bytes: None,
            stdout: "<out> & ]]> \u{1b}[31m".to_owned(),
            stderr: String::new(),
            stdout_bytes: 17,
            stdout_blake3: "d".repeat(64),
        }],
        evidence: outcomes.enumerate().map(|(i, outcome)| entry(format!("scenario {i}"), outcome)).collect(),
    }
}
