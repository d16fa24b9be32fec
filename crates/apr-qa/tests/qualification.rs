//! `apr-qa` as a user runs it: the program qualifies the `apr` inside it.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn apr_qa(args: &[&str]) -> Output {
    // Reports go to the working directory unless the call says otherwise.
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_apr-qa"));
    command.args(args).current_dir(dir.path()).output().expect("apr-qa can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// One run of the default playbook: all of it passes, the evidence is valid by the published schema, every pass holds
/// generated text or compared values, and replaying gives the same reports.
#[test]
fn the_quick_playbook_passes_and_its_evidence_replays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let run = apr_qa(&["run", "-o", out.to_str().unwrap()]);
    let shown = text(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{shown}\n{}", text(&run.stderr));
    assert!(shown.contains("PROVISIONAL  800/1000, grade B"), "{shown}");

    let path = out.join("evidence.json");
    let evidence: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/evidence.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&evidence).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    let entries = evidence["evidence"].as_array().unwrap();
    let answers: Vec<&Value> = entries.iter().filter(|entry| entry["gate"] == "F-A1-001").collect();
    assert_eq!(answers.len(), 12, "three formats and four prompts");
    for entry in &answers {
        let answer = entry["measurement"]["candidate"]["value"].as_str().unwrap();
        assert!(answer.contains("equals"), "{answer:?} is not what the model generates");
    }
    let records = evidence["commands"].as_array().unwrap().len();
    for entry in entries {
        assert!(entry["measurement"]["compared"].as_u64().unwrap() > 0);
        assert!(entry["commands"].as_array().unwrap().iter().all(|index| (index.as_u64().unwrap() as usize) < records));
    }

    let replayed = apr_qa(&[
        "report",
        path.to_str().unwrap(),
        "--format",
        "terminal,json,html,junit",
        "-o",
        dir.path().to_str().unwrap(),
    ]);
    assert_eq!(text(&replayed.stdout), shown);
    for name in ["evidence.json", "report.html", "junit.xml"] {
        assert_eq!(read(&dir.path().join(name)), read(&out.join(name)), "{name}");
    }
    assert_eq!(apr_qa(&["score", path.to_str().unwrap()]).status.code(), Some(0));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_mutant_is_killed_and_every_gate_can_fail() {
    let run = apr_qa(&["selftest"]);
    assert_eq!(run.status.code(), Some(0), "{}\n{}", text(&run.stdout), text(&run.stderr));
}

/// A wrong model is falsified: nano does not multiply.
#[test]
fn a_model_that_answers_wrongly_ends_with_status_1() {
    let run = apr_qa(&["run", "--model-path", "builtin:nano", "--fail-fast", "--json"]);
    assert_eq!(run.status.code(), Some(1));
    let evidence: Value = serde_json::from_slice(&run.stdout).unwrap();
    let entries = evidence["evidence"].as_array().unwrap();
    let first = entries.iter().find(|entry| entry["verdict"] != "corroborated").unwrap();
    assert_eq!((first["gate"].as_str(), first["verdict"].as_str()), (Some("F-A1-001"), Some("falsified")));
    assert!(first["reason"].as_str().unwrap().contains("7 * 8 is 56"));
    assert!(
        entries.iter().filter(|entry| entry["verdict"] == "skipped").count() > 50,
        "what is left stays in the list"
    );
}

#[test]
fn a_program_that_is_no_apr_ends_with_status_3() {
    let run = apr_qa(&["run", "--apr", "/bin/false"]);
    assert_eq!(run.status.code(), Some(3), "{}", text(&run.stderr));
}

/// As `nohup` starts it: a hang-up changes nothing, and an interrupt ends the run and removes what it made.
#[test]
fn a_run_ends_by_an_interrupt_and_not_by_an_ignored_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new("env")
        .args(["--default-signal=INT", "--ignore-signal=HUP", env!("CARGO_BIN_EXE_apr-qa"), "run"])
        .current_dir(dir.path())
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let send = |signal| Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().is_some(), "what the playbook is");
    assert!(send("HUP").success());
    let after: Vec<String> = lines.by_ref().take(20).collect();
    assert!(after.len() == 20 && after.iter().all(|line| line.starts_with("corroborated ")), "{after:?}");
    assert!(send("INT").success());
    assert_eq!(lines.last().as_deref(), Some("error: interrupted"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
