//! What may happen to a conversion from outside: it is killed, the disk is full or read-only, nobody reads what it
//! says, its source becomes shorter. There is the old file or the new one, and a failure has a status.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{code, nano, repository, run, stderr, stdout};

/// Moments at which a conversion is killed.
const KILLS: u64 = 200;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a script of the shell, in which `$apr` is the command.
fn shell(script: &str) -> Output {
    Command::new("sh").args(["-c", script]).env("apr", env!("CARGO_BIN_EXE_apr")).output().unwrap()
}

/// Kills conversions onto a file that is there, at moments that cover the time that one takes.
fn kill(kills: std::ops::Range<u64>) -> (u64, u64) {
    let work = tempfile::tempdir().unwrap();
    let (source, target) = (nano("Q8_0"), work.path().join("x.apr"));
    let convert = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apr"));
        command.args(["rosetta", "convert", &source, target.to_str().unwrap(), "--force"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let started = Instant::now();
    assert!(convert().status().unwrap().success());
    let whole = started.elapsed();
    let new = fs::read(&target).unwrap();
    let old = b"what was there".to_vec();
    let (mut n_old, mut n_new) = (0, 0);
    for moment in kills {
        fs::write(&target, &old).unwrap();
        let mut child = convert().spawn().unwrap();
        // Multiples of the golden ratio fill the interval evenly, in no order.
        std::thread::sleep(whole.mul_f64((moment as f64 * 0.618_033_988_75).fract() * 1.2));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read(&target).unwrap();
        assert!(found == old || found == new, "kill {moment}: {} bytes of something else", found.len());
        (n_old, n_new) = (n_old + u64::from(found == old), n_new + u64::from(found == new));
        for name in names(work.path()) {
            assert!(name == "x.apr" || (name.starts_with(".x.apr.") && name.ends_with(".partial")), "{name}");
        }
    }
    (n_old, n_new)
}

#[test]
fn a_killed_conversion_leaves_the_old_file_or_the_new_one() {
    const WORKERS: u64 = 4;
    let counts = std::thread::scope(|scope| {
        let workers = (0..WORKERS).map(|i| scope.spawn(move || kill(i * KILLS / WORKERS..(i + 1) * KILLS / WORKERS)));
        workers.collect::<Vec<_>>().into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let (n_old, n_new) = counts.iter().fold((0, 0), |(a, b), (old, new)| (a + old, b + new));
    println!("{n_old} times the old file, {n_new} times the new one");
    assert_eq!(n_old + n_new, KILLS);
    assert!(n_old > 0, "no conversion was killed before its end");
}

/// In a name space of their own, where they may mount file systems that vanish with it.
fn in_name_space(script: &str) -> Option<Output> {
    let may_mount = shell("unshare -rm mount -t tmpfs tmpfs /mnt").status.success();
    if !may_mount {
        eprintln!("left out: this system lets nobody mount a file system of their own");
        return None;
    }
    Some(shell(&format!("exec unshare -rm sh -c '{script}'")))
}

#[test]
fn a_full_or_read_only_disk_is_an_error_that_costs_nothing() {
    let source = nano("Q8_0");
    for (target, full) in [("x.apr", true), ("x.gguf", true), ("x", true), ("x.apr", false), ("x", false)] {
        let before = if target == "x" { "mkdir x && echo old > x/config.json" } else { "echo old > $t" };
        let file_system = if full { "true" } else { "mount -o remount,ro /mnt" };
        let output = in_name_space(&format!(
            "mount -t tmpfs -o size=64k tmpfs /mnt && cd /mnt && t={target} && {before} && {file_system} && \
             $apr rosetta convert {source} $t --to {} --force --no-capsule; echo status $?; find . -type f | xargs cat; \
             find . -type f | wc -l",
            match target {
                "x" => "safetensors",
                other => &other[2..],
            }
        ));
        let Some(output) = output else { return };
        let expect = if full { "No space left on device" } else { "Read-only file system" };
        assert!(stderr(&output).contains(expect), "{target}: {output:?}");
        assert_eq!(stdout(&output), "status 7\nold\n1\n", "{target}: {output:?}");
    }
}

#[test]
fn nobody_who_reads_costs_no_file_and_no_panic() {
    for (streams, status) in [(">&-", 0), (">/dev/full", 7), ("2>&-", 0), ("2>/dev/full", 0), (">&- 2>&-", 0)] {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("x.apr");
        let convert = format!("$apr rosetta convert {} {} {streams}", nano("Q8_0"), target.display());
        let output = shell(&convert);
        assert_eq!(code(&output), status, "{streams}: {output:?}");
        assert_eq!(names(work.path()), ["x.apr"], "{streams}");
        assert_eq!(code(&run(&["validate", target.to_str().unwrap()])), 0, "{streams}");
        // And where there is something to complain about.
        let output = shell(&format!("$apr inspect {} {streams}", work.path().join("absent").display()));
        assert_eq!(code(&output), 3, "{streams}: {output:?}");
    }
    let output = shell(&format!("{{ sleep 0.2; $apr inspect {} --json; }} | true", nano("Q8_0")));
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn a_source_that_becomes_shorter_is_an_error_and_no_signal() {
    let work = tempfile::tempdir().unwrap();
    let (source, target) = (long_source(work.path()), work.path().join("out").join("x.apr"));
    fs::create_dir(target.parent().unwrap()).unwrap();
    fs::write(&target, "old").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_apr"))
        .args(["rosetta", "convert", source.to_str().unwrap(), target.to_str().unwrap(), "--force"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is being read when something is being written.
    while names(target.parent().unwrap()).len() == 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    File::options().write(true).open(source.join("model.safetensors")).unwrap().set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 7, "{output:?}");
    assert!(stderr(&output).starts_with("error: "), "{output:?}");
    println!("{}", stderr(&output));
    assert_eq!(fs::read(&target).unwrap(), b"old");
}

/// A Transformers directory of 256 MiB, nearly all of them zeros that take no room.
fn long_source(dir: &Path) -> PathBuf {
    const TENSOR_BYTES: usize = 16 << 20;
    let dir = dir.join("source");
    fs::create_dir(&dir).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(repository("models/nano-qwen2").join(name), dir.join(name)).unwrap();
    }
    let entry = |i: usize| {
        let (start, end) = (i * TENSOR_BYTES, (i + 1) * TENSOR_BYTES);
        let elements = TENSOR_BYTES / 2;
        format!(r#""extra.{i}":{{"dtype":"BF16","shape":[{elements}],"data_offsets":[{start},{end}]}}"#)
    };
    let header = format!("{{{}}}", (0..16).map(entry).collect::<Vec<_>>().join(","));
    let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let weights = dir.join("model.safetensors");
    fs::write(&weights, &start).unwrap();
    File::options().write(true).open(&weights).unwrap().set_len((start.len() + 16 * TENSOR_BYTES) as u64).unwrap();
    dir
}
