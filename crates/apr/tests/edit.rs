//! `apr edit` from outside: what it says, and what a file is when it is killed.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{code, json, nano, run, stdout};

fn copy(dir: &Path) -> PathBuf {
    let path = dir.join("x.gguf");
    std::fs::copy(nano("Q8_0"), &path).unwrap();
    path
}

#[test]
fn a_dry_run_says_what_an_edit_does_and_writes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let path = copy(work.path());
    let before = std::fs::read(&path).unwrap();
    let file = path.to_str().unwrap();
    let edits = ["edit", file, "--set", "general.name=other", "--rename", "general.size_label=general.label"];
    let shown = run(&[&edits[..], &["--dry-run"]].concat());
    let text = stdout(&shown);
    assert_eq!(code(&shown), 0, "{shown:?}");
    assert!(text.contains("general.name: \"Nano Qwen2\" (str) → \"other\" (str)"), "{text}");
    assert!(text.contains("general.size_label is called general.label"), "{text}");
    assert!(text.contains("nothing was"), "{text}");
    assert!(std::fs::read(&path).unwrap() == before);
    let planned = json(&run(&[&edits[..], &["--dry-run", "--json"]].concat()));
    let mut done = json(&run(&[&edits[..], &["--json"]].concat()));
    assert_eq!((&planned["dry_run"], &done["dry_run"]), (&true.into(), &false.into()));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), done["bytes"].as_u64().unwrap());
    done["dry_run"] = true.into();
    assert_eq!(planned, done);
    assert_eq!(code(&run(&["edit", file])), 2, "an edit of nothing");
    assert_eq!(code(&run(&["edit", file, "--set", "general.alignment=64"])), 2);
    assert_eq!(code(&run(&["edit", "absent.gguf", "--remove", "x"])), 3);
}

#[test]
fn a_killed_edit_leaves_the_old_file_or_the_new_one() {
    let work = tempfile::tempdir().unwrap();
    let path = copy(work.path());
    // Trailing bytes that take no room on the disk and time to copy.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(48 << 20).unwrap();
    let file = path.to_str().unwrap();
    let old = std::fs::read(&path).unwrap();
    let new_path = work.path().join("new.gguf");
    let edits = ["edit", file, "--set", "general.name=a name that is longer than the one that was there before it"];
    assert_eq!(code(&run(&[&edits[..], &["-o", new_path.to_str().unwrap()]].concat())), 0);
    let new = std::fs::read(&new_path).unwrap();
    assert_ne!(old.len(), new.len());
    let mut n_old = 0;
    for wait_ms in [0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 400] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_apr"));
        let mut child = child.args(edits).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found == old || found == new, "killed after {wait_ms} ms");
        n_old += usize::from(found == old);
        std::fs::write(&path, &old).unwrap();
    }
    assert!(n_old > 0, "one of them was killed before it was done");
}
