//! The command as a child process, and models to give it.
#![allow(dead_code, reason = "each test binary uses another part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

/// Runs `apr` with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    apr.args(arguments).timeout(std::time::Duration::from_secs(300)).output().unwrap()
}

/// `apr`, to be started with these signals ignored and every other one left to it: a runner in the background of a shell
/// ignores SIGINT, and its children would inherit that.
pub(crate) fn apr_ignoring(signals: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP");
    command.args(signals.iter().map(|signal| format!("--ignore-signal={signal}")));
    command.arg(env!("CARGO_BIN_EXE_apr"));
    command
}

/// Sends a signal, by its name without SIG.
pub(crate) fn send(signal: &str, to: &Child) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {}", to.id())]).status().unwrap().success());
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub(crate) fn nano(name: &str) -> String {
    repository(&format!("models/nano-qwen2/gguf/nano-qwen2-{name}.gguf")).to_str().unwrap().to_owned()
}

/// Text that the command wrote.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What Transformers gave for a model of `models/`.
pub(crate) fn golden(model: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(repository(&format!("models/{model}/golden.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A tensor of `golden.safetensors`.
pub(crate) fn golden_tensor(model: &str, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(repository(&format!("models/{model}/golden.safetensors"))).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = |i: usize| start + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    bytes[at(0)..at(1)].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
