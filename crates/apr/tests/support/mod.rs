//! The command as a child process, and models to give it.

use std::path::{Path, PathBuf};
use std::process::Output;

/// Runs `apr` with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    apr.args(arguments).timeout(std::time::Duration::from_secs(300)).output().unwrap()
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
