//! The tour of the README, held against what the commands print.

use regex::Regex;
use std::path::Path;
use std::process::Command;

/// The commands of a transcript, each with what it printed.
fn steps(transcript: &str) -> Vec<(&str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, String::new())),
            (None, Some((_, printed))) => *printed += &format!("{line}\n"),
            (None, None) => panic!("the transcript begins with {line:?}, which is no command"),
        }
    }
    steps
}

/// Times differ from one run to the next.
fn without_times(printed: &str) -> String {
    Regex::new(r"in \d+\.\d+ s").unwrap().replace_all(printed, "in … s").into_owned()
}

#[test]
fn the_commands_of_the_tour_print_what_the_readme_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, tour) = readme.split_once("## A tour\n\n```text\n").unwrap();
    let (tour, _) = tour.split_once("```\n").unwrap();
    let steps = steps(tour);
    assert!(steps.len() >= 5, "{steps:?}");

    let dir = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_apr")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    for (command, printed) in steps {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(dir.path())
            .env("PATH", format!("{}:{path}", bin.display()))
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(without_times(&stdout), without_times(&printed), "{command}");
    }
}
