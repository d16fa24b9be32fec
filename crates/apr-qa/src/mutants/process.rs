//! Mutants of the subject: other processes, other output.

use crate::subject::Subject;
use serde_json::{Value, json};

fn is_run(args: &[&str]) -> bool {
    args.first() == Some(&"run")
}

pub(super) fn crash(_: &Subject, args: &[&str]) -> Option<Vec<String>> {
    is_run(args).then(|| ["/bin/sh", "-c", "kill -SEGV $$"].map(str::to_owned).to_vec())
}

/// One process hangs: the source's validation. One is enough, and each costs the whole limit.
pub(super) fn hang(_: &Subject, args: &[&str]) -> Option<Vec<String>> {
    let hangs = args.first() == Some(&"validate") && args.iter().any(|arg| arg.contains("/source/"));
    hangs.then(|| ["/bin/sh", "-c", "sleep 600"].map(str::to_owned).to_vec())
}

/// Asks for the CPU where the GPU was asked for.
pub(super) fn cpu_instead_of_gpu(subject: &Subject, args: &[&str]) -> Option<Vec<String>> {
    args.contains(&"--gpu").then(|| {
        let other: Vec<&str> = args.iter().map(|&arg| if arg == "--gpu" { "--no-gpu" } else { arg }).collect();
        subject.argv(&other)
    })
}

/// Claims that there is a GPU.
pub(super) fn pretend_gpu(args: &[&str], stdout: &mut Vec<u8>) {
    if args.first() == Some(&"capabilities") {
        edit(stdout, |report| {
            if let Some(devices) = report["devices"].as_array_mut() {
                devices.push(json!({"backend": "gpu", "name": "a GPU that is not there", "memory_bytes": null}));
            }
        });
    }
}

pub(super) fn empty_answer(args: &[&str], stdout: &mut Vec<u8>) {
    if is_run(args) {
        edit(stdout, |report| {
            report["tokens"] = json!([]);
            report["n_generated_tokens"] = json!(0);
            report["text"] = json!("");
        });
    }
}

pub(super) fn garbage_answer(args: &[&str], stdout: &mut Vec<u8>) {
    if is_run(args) {
        edit(stdout, |report| report["text"] = json!("\u{FFFD}\u{FFFD}\u{FFFD}"));
    }
}

pub(super) fn wrong_answer(args: &[&str], stdout: &mut Vec<u8>) {
    if is_run(args) && args.iter().any(|arg| arg.contains("/forms/")) {
        edit(stdout, |report| {
            report["text"] = json!("The answer is 123456789.");
            if let Some(tokens) = report["tokens"].as_array_mut() {
                for token in tokens {
                    token["id"] = json!(token["id"].as_u64().unwrap_or(0) ^ 1);
                }
            }
        });
    }
}

/// What the existing tool was seen to do: zero tensors, zero tokens, success.
pub(super) fn nothing_compared(args: &[&str], stdout: &mut Vec<u8>) {
    if args.get(1) == Some(&"verify") {
        edit(stdout, |report| {
            for key in ["n_tensors_a", "n_tensors_b", "n_tensors_compared", "n_values_compared"] {
                report[key] = json!(0);
            }
        });
    }
    if args.get(1) == Some(&"compare-inference") {
        edit(stdout, |report| {
            report["tokens_a"] = json!([]);
            report["tokens_b"] = json!([]);
            report["n_tokens_compared"] = json!(0);
            report["text_a"] = json!("");
            report["text_b"] = json!("");
            report["logits"] = Value::Null;
        });
    }
}

/// Changes a report; output that is no JSON stays as it is.
fn edit(stdout: &mut Vec<u8>, change: impl FnOnce(&mut Value)) {
    if let Ok(mut report) = serde_json::from_slice::<Value>(stdout) {
        change(&mut report);
        *stdout = serde_json::to_vec(&report).expect("a value is always JSON");
    }
}
