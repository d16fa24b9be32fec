//! The command from outside: statuses, streams, and what is left when it is stopped.

mod support;

use apr_report::EXIT_CODES;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{apr_ignoring, code, json, nano, repository, run, send, stderr, stdout};

/// A GGUF model whose one tensor is `n_bytes` of zeros that take no room on the disk.
fn sparse_gguf(path: &Path, n_bytes: u64) {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut pairs = vec![[text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("qwen2")].concat()];
    for (key, n) in [
        ("block_count", 1u32),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 32),
        ("attention.head_count", 2),
        ("vocab_size", 4),
    ] {
        let key = text(&format!("qwen2.{key}"));
        pairs.push([key, 4u32.to_le_bytes().to_vec(), n.to_le_bytes().to_vec()].concat());
    }
    let epsilon = text("qwen2.attention.layer_norm_rms_epsilon");
    pairs.push([epsilon, 6u32.to_le_bytes().to_vec(), 1e-6f32.to_le_bytes().to_vec()].concat());
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(1u64.to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    file.extend(text("big"));
    file.extend(1u32.to_le_bytes());
    file.extend((n_bytes / 4).to_le_bytes());
    file.extend([0; 12]);
    file.resize(file.len().next_multiple_of(32), 0);
    std::fs::write(path, &file).unwrap();
    let handle = std::fs::File::options().write(true).open(path).unwrap();
    handle.set_len(file.len() as u64 + n_bytes).unwrap();
}

/// Names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs `arguments` with and without `--json`: the same status, and the error as an object on stdout.
fn fails(arguments: &[&str], expected: i32, says: &str) {
    let text = run(arguments);
    assert_eq!(code(&text), expected, "{arguments:?}: {text:?}");
    assert_eq!(stdout(&text), "", "{arguments:?}: an error is conversation");
    assert!(stderr(&text).contains(says), "{arguments:?}: {} should say {says:?}", stderr(&text));
    let with_json = run(&[arguments, &["--json"]].concat());
    assert_eq!(code(&with_json), expected, "{arguments:?} --json");
    let report = json(&with_json);
    assert_eq!(report["schema"], "apr.error/1", "{report}");
    assert_eq!((&report["ok"], &report["error"]["code"]), (&false.into(), &expected.into()), "{report}");
    let row = EXIT_CODES.iter().find(|row| i32::from(row.code.code()) == expected).unwrap();
    assert_eq!(report["error"]["kind"], row.kind);
    assert!(!report["error"]["message"].as_str().unwrap().is_empty());
}

/// The GGUF file with one tensor's dtype changed from Q5_1 to Q4_2, which ggml had once.
fn with_an_unknown_dtype(gguf: &[u8]) -> Vec<u8> {
    let mut gguf = gguf.to_vec();
    let name = b"blk.0.attn_q.weight";
    let after_name = gguf.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    // Two dimensions and their count come before it.
    let dtype = &mut gguf[after_name + 4 + 2 * 8];
    assert_eq!(*dtype, 7);
    *dtype = 4;
    gguf
}

#[test]
fn every_status_that_can_be_produced_is_the_one_of_the_table() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let (q8, q4) = (nano("Q8_0"), nano("Q4_0"));
    let empty = repository("fixtures/malformed/empty.gguf").to_str().unwrap().to_owned();
    let vocabulary = repository("fixtures/vocab/ggml-vocab-qwen2.gguf").to_str().unwrap().to_owned();
    std::fs::write(path("there.apr"), "old").unwrap();
    std::fs::write(path("text.gguf"), "this is no model").unwrap();
    let q4_2 = path("q4_2.gguf");
    std::fs::write(&q4_2, with_an_unknown_dtype(&std::fs::read(nano("Q5_1")).unwrap())).unwrap();

    assert_eq!(code(&run(&["capabilities"])), 0);
    assert_eq!(code(&run(&["--help"])), 0);
    assert_eq!(code(&run(&["--version"])), 0);

    fails(&[], 2, "Usage");
    fails(&["frobnicate"], 2, "unrecognized subcommand");
    fails(&["run", &q8, "hi", "--no-such-flag"], 2, "unexpected argument '--no-such-flag'");
    fails(&["run", &q8, "hi", "--gpu", "--no-gpu"], 2, "cannot be used with");
    fails(&["run", &q8], 2, "no prompt was given");
    fails(&["run", &q8, "hi", "--temp", "-1"], 2, "");
    fails(&["rosetta", "convert", &q8, &path("no-extension")], 2, "--to");
    fails(&["rosetta", "convert", &q8, &path("x"), "--to", "onnx"], 2, "onnx");
    fails(&["rosetta", "convert", &q8, &path("x.apr"), "--dtype", "q3_x"], 2, "q3_x");

    for arguments in [&["inspect"] as &[&str], &["validate"], &["run"], &["rosetta", "convert"]] {
        let missing = path("missing.gguf");
        let target = path("x.apr");
        let rest: &[&str] = match arguments {
            ["run"] => &[&missing, "hi"],
            ["rosetta", "convert"] => &[&missing, &target],
            _ => &[&missing],
        };
        fails(&[arguments, rest].concat(), 3, "no such file or directory");
    }
    fails(&["run", "builtin:nothing", "hi"], 3, "no such model inside the command");
    fails(&["rosetta", "verify", &q8, &path("missing.gguf")], 3, "missing.gguf");

    fails(&["inspect", &empty], 4, "the file is empty");
    fails(&["run", &path("text.gguf"), "hi"], 4, "it starts with \"this is \"");
    fails(&["rosetta", "convert", &empty, &path("x.apr")], 4, "the file is empty");

    // A comparison that fails is a result: it stands on stdout.
    for arguments in [["rosetta", "verify", &q8, &q4], ["rosetta", "compare-inference", &q8, &q4]] {
        let output = run(&arguments);
        assert_eq!(code(&output), 5, "{output:?}");
        assert!(!stdout(&output).is_empty());
    }
    assert_eq!(code(&run(&["validate", &vocabulary])), 5, "a vocabulary is no sound model");

    fails(&["run", &q4_2, "hi"], 6, "4 (Q4_2, removed from ggml)");
    fails(&["inspect", &q4_2], 6, "4 (Q4_2, removed from ggml)");
    fails(&["run", &vocabulary, "hi"], 6, "");

    fails(&["rosetta", "convert", &q8, &path("there.apr")], 7, "exists already; choose another target or pass --force");
    assert_eq!(std::fs::read(path("there.apr")).unwrap(), b"old");
    fails(&["rosetta", "convert", &q8, &path("there.apr/x.gguf")], 7, "there.apr");

    fails(&["run", &q8, "a prompt of more than a few tokens", "--raw", "-c", "4"], 8, "limit of 4 tokens");

    fails(&["rosetta", "convert", &q8, &path("x.apr"), "--dtype", "iq3_s"], 9, "IQ3_S");
    assert_eq!(names(work.path()), ["q4_2.gguf", "text.gguf", "there.apr"], "no failure left anything behind");
}

/// Report 000 (defect 2): `apr run` did not know `--gpu`. It does; where there is none, it never means the CPU.
#[test]
fn seed_000_defect_2_gpu_flag() {
    for flags in [&["--gpu"] as &[&str], &["--backend", "gpu"], &["--device", "gpu"]] {
        fails(&[&["run", &nano("Q8_0"), "hi"], flags].concat(), 9, "no GPU backend");
    }
    let q8 = nano("Q8_0");
    fails(&["rosetta", "compare-inference", &q8, &q8, "--gpu"], 9, "no GPU backend");
    for flag in ["--no-gpu", "--cpu"] {
        assert_eq!(code(&run(&["run", &q8, "hi", "-n", "1", flag])), 0);
    }
}

#[test]
fn stdout_is_the_answer_and_nothing_else() {
    let arguments = ["run", "builtin:tiny", "What is 2+2?", "-n", "12"];
    let plain = run(&arguments);
    assert_eq!((code(&plain), stderr(&plain)), (0, String::new()));
    let report = json(&run(&[&arguments as &[&str], &["--json"]].concat()));
    let text = report["text"].as_str().unwrap_or_else(|| panic!("{report}"));
    assert!(!text.is_empty());
    assert_eq!(stdout(&plain).trim_end_matches('\n'), text.trim_end_matches('\n'));
    let verbose = run(&[&arguments as &[&str], &["--verbose"]].concat());
    assert_eq!(stdout(&verbose), stdout(&plain), "what --verbose says is on stderr");
    for expected in ["Source: builtin:tiny", "Architecture:", "Backend: CPU", "Completed in"] {
        assert!(stderr(&verbose).contains(expected), "{}", stderr(&verbose));
    }
}

#[test]
fn a_directory_is_a_model() {
    let dir = repository("models/nano-qwen2").to_str().unwrap().to_owned();
    let output = run(&["run", &dir, "hi", "-n", "2"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let report = json(&run(&["inspect", &dir, "--json"]));
    assert!(report.to_string().contains("\"safetensors\""), "{report}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_apr"))
        .args(["inspect", &nano("Q8_0"), "--tensors"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{output:?}");
}

/// Starts a conversion that takes a while, sends `signal` once it is writing, and gives back status and stderr.
fn interrupted(ignored: &[&str], signal: &str, dir: &Path, target: &str) -> (i32, String) {
    let mut child = apr_ignoring(ignored)
        .args(["rosetta", "convert", "--no-capsule", "--force", "--to", "apr"])
        .args([&dir.join("source.gguf"), &dir.join("out").join(target)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let writing = || names(&dir.join("out")).iter().any(|name| name.ends_with(".partial"));
    while !writing() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote anything");
        assert!(started.elapsed() < Duration::from_secs(120), "it never began to write");
        std::thread::sleep(Duration::from_millis(1));
    }
    send(signal, &child);
    let output = child.wait_with_output().unwrap();
    (output.status.code().expect("it ends by itself, not by the signal"), stderr(&output))
}

#[test]
fn a_signal_in_mid_conversion_leaves_nothing() {
    let work = tempfile::tempdir().unwrap();
    sparse_gguf(&work.path().join("source.gguf"), 2 << 30);
    let out = work.path().join("out");
    std::fs::create_dir(&out).unwrap();
    // As `nohup` and as a background job of a shell start a command, some signals are ignored.
    for (ignored, signal) in [
        (&[][..], "INT"),
        (&[], "TERM"),
        (&[], "HUP"),
        (&["HUP"], "INT"),
        (&["INT"], "TERM"),
        (&["INT", "TERM"], "HUP"),
    ] {
        let (status, said) = interrupted(ignored, signal, work.path(), "new.apr");
        assert_eq!((status, names(&out)), (130, vec![]), "{signal} without {ignored:?}: {said}");
        assert!(said.contains("interrupted; nothing was written"), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
    std::fs::write(out.join("old.apr"), "old").unwrap();
    let (status, _) = interrupted(&[], "INT", work.path(), "old.apr");
    assert_eq!((status, names(&out)), (130, vec!["old.apr".to_owned()]));
    assert_eq!(std::fs::read(out.join("old.apr")).unwrap(), b"old");
}

/// With room for one open file, the pipe between the handler and its thread can't be made.
#[test]
fn a_signal_that_cannot_be_caught_is_named() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 4; exec \"$@\"", "sh"])
        .arg(apr_ignoring(&["TERM"]).get_program())
        .args(apr_ignoring(&["TERM"]).get_args())
        .args(["inspect", "missing.gguf"])
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(code(&output), 3, "{said}");
    let warned: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("warning: ")?.split(' ').next()).collect();
    assert_eq!(warned, ["SIGINT", "SIGHUP"], "{said}");
}

/// A full disk, as a limit on the size of files: the write fails in the middle of the file.
#[test]
fn a_full_disk_leaves_the_old_state() {
    let work = tempfile::tempdir().unwrap();
    sparse_gguf(&work.path().join("source.gguf"), 64 << 20);
    let out = work.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("old.apr"), "old").unwrap();
    for (target, to) in [("new.apr", "apr"), ("old.apr", "apr"), ("new.gguf", "gguf"), ("dir", "safetensors")] {
        // 20,000 blocks of 512 or of 1024 bytes: more than a header, less than the model.
        let script = "trap '' XFSZ; ulimit -f 20000; exec \"$@\"";
        let output = Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_apr"), "rosetta", "convert", "--force", "--to", to])
            .args([work.path().join("source.gguf"), out.join(target)])
            .output()
            .unwrap();
        assert_eq!(code(&output), 7, "{output:?}");
        assert!(stderr(&output).contains(target), "{}", stderr(&output));
        assert_eq!(names(&out), ["old.apr"], "{to}");
        assert_eq!(std::fs::read(out.join("old.apr")).unwrap(), b"old");
    }
}

#[test]
fn a_bare_safetensors_file_is_converted_with_the_config_that_is_named() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let model = |name: &str| repository(&format!("models/nano-qwen2/{name}")).to_str().unwrap().to_owned();
    std::fs::copy(model("model.safetensors"), path("bare.safetensors")).unwrap();
    let (bare, shards, config) = (path("bare.safetensors"), path("shards/"), model("config.json"));
    fails(&["rosetta", "convert", &bare, &shards, "--shard-size", "100KB"], 6, "--config");
    let output = run(&["rosetta", "convert", &bare, &shards, "--shard-size", "100KB", "--config", &config]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(Path::new(&shards).join("model.safetensors.index.json").exists());
    fails(&["rosetta", "convert", &shards, &path("x.gguf"), "--config", &config], 6, "lies beside it already");
    assert_eq!(code(&run(&["rosetta", "diff-tensors", &shards, &model(""), "--values"])), 0);
}
