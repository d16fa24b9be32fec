//! The subject: the `apr` that is qualified, run as a child process so that a crash or a hang is a verdict.

use apr_report::{CommandRecord, SubjectBinary};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How much of each stream a record keeps; the digest and the length are those of all of it.
pub const RECORDED_BYTES: usize = 64 * 1024;

/// The child that is running, so that an interrupt can end it.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// A program to qualify.
#[derive(Clone, Debug)]
pub struct Subject {
    program: PathBuf,
    prefix: Vec<String>,
}

/// Why the harness could not run a program. This says nothing about the model.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}")]
pub struct SubjectError {
    action: &'static str,
    path: String,
    source: std::io::Error,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What the evidence keeps.
    pub record: CommandRecord,
    /// All of standard output.
    pub stdout: Vec<u8>,
}

impl Subject {
    /// The program at `path`, or, without one, this executable with the first argument `apr`.
    pub fn find(path: Option<&Path>) -> Result<Self, SubjectError> {
        match path {
            Some(path) => {
                let program = path.canonicalize().map_err(|source| SubjectError {
                    action: "find the subject",
                    path: path.display().to_string(),
                    source,
                })?;
                Ok(Subject { program, prefix: vec![] })
            }
            None => {
                let program = std::env::current_exe().map_err(|source| SubjectError {
                    action: "find",
                    path: "this executable".to_owned(),
                    source,
                })?;
                Ok(Subject { program, prefix: vec!["apr".to_owned()] })
            }
        }
    }

    /// A subject with its own arguments before every command.
    pub fn with_prefix(program: &Path, prefix: &[&str]) -> Self {
        Subject { program: program.to_owned(), prefix: prefix.iter().map(|&s| s.to_owned()).collect() }
    }

    /// The whole command line for these arguments.
    pub fn argv(&self, args: &[&str]) -> Vec<String> {
        let program = std::iter::once(self.program.display().to_string());
        program.chain(self.prefix.iter().cloned()).chain(args.iter().map(|&s| s.to_owned())).collect()
    }

    /// Hashes the executable and asks it for its version.
    pub fn identify(&self, timeout: Duration) -> Result<SubjectBinary, SubjectError> {
        let mut hasher = blake3::Hasher::new();
        let failed = |source| SubjectError { action: "read", path: self.program.display().to_string(), source };
        let mut file = std::fs::File::open(&self.program).map_err(failed)?;
        std::io::copy(&mut file, &mut hasher).map_err(failed)?;
        let answer = run(&self.argv(&["--version"]), timeout)?;
        let version = match answer.record.exit_code {
            Some(0) => String::from_utf8_lossy(&answer.stdout).trim().to_owned(),
            _ => return Err(failed(std::io::Error::other("`--version` failed: this is not the apr command"))),
        };
        Ok(SubjectBinary {
            path: self.program.display().to_string(),
            prefix: self.prefix.clone(),
            blake3: hasher.finalize().to_hex().to_string(),
            version,
        })
    }
}

impl Finished {
    /// Makes the record say what `stdout` holds now.
    pub fn record_stdout(&mut self) {
        self.record.stdout = recorded(&self.stdout);
        self.record.stdout_bytes = self.stdout.len() as u64;
        self.record.stdout_blake3 = blake3::hash(&self.stdout).to_hex().to_string();
    }
}

/// Ends the running child, if there is one, with everything it started.
pub fn kill_running() {
    if let Some(pid) = *RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
        // The group may be gone already, which is what is wanted.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Runs a command to its end, or to its limit.
///
/// The child leads a process group of its own; the group is killed when the limit is reached, and also when the child
/// has ended, so that nothing outlives the call.
pub fn run(argv: &[String], timeout: Duration) -> Result<Finished, SubjectError> {
    let failed = |action| move |source| SubjectError { action, path: argv[0].clone(), source };
    let began = Instant::now();
    let mut child = Command::new(OsString::from(&argv[0]))
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed("start"))?;
    let pid = Pid::from_child(&child);
    let set_running = |value| *RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    set_running(Some(pid));

    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = stream.map_or(Ok(0), |mut stream| stream.read_to_end(&mut bytes));
            result.map(|_| bytes)
        })
    };
    let stdout = read(child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>));

    let (ended, has_ended) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let timed_out = has_ended.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout);
        if timed_out {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        timed_out
    });
    // Wait without reaping: until the zombie is reaped its process group id can't be given to another process, so
    // the watchdog and the clean-up below can't hit a stranger.
    while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            return Err(failed("wait for")(error.into()));
        }
    }
    let wall = began.elapsed();
    drop(ended);
    let timed_out = watchdog.join().expect("the watchdog does not panic");
    let _ = kill_process_group(pid, Signal::KILL);
    set_running(None);
    let (status, peak_rss_bytes) = reap(pid).map_err(failed("wait for"))?;

    let stdout = stdout.join().expect("the reader does not panic").map_err(failed("read the output of"))?;
    let stderr = stderr.join().expect("the reader does not panic").map_err(failed("read the output of"))?;
    let exited = libc::WIFEXITED(status);
    let record = CommandRecord {
        argv: argv.to_vec(),
        exit_code: exited.then(|| libc::WEXITSTATUS(status)),
        signal: (!exited).then(|| libc::WTERMSIG(status)),
        timed_out,
        wall_ms: wall.as_secs_f64() * 1e3,
        peak_rss_bytes,
        stdout: recorded(&stdout),
        stderr: recorded(&stderr),
        stdout_bytes: stdout.len() as u64,
        stdout_blake3: blake3::hash(&stdout).to_hex().to_string(),
    };
    Ok(Finished { record, stdout })
}

/// The text that a record keeps: the beginning, cut at a character.
fn recorded(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut end = text.len().min(RECORDED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Reaps a child that has ended: its wait status and its largest resident set in bytes.
#[expect(
    unsafe_code,
    reason = "wait4 is the only call that gives the resource usage of one child; no safe wrapper exists"
)]
fn reap(pid: Pid) -> std::io::Result<(i32, Option<u64>)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live, writable locals of the types that wait4 fills; a zeroed rusage is a valid
    // value (integers only), so it may be read whether or not wait4 wrote to it.
    let (reaped, usage) = unsafe {
        let reaped = libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr());
        (reaped, usage.assume_init())
    };
    if reaped < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let peak = u64::try_from(usage.ru_maxrss).ok().filter(|&n| n > 0).map(|n| n * unit);
    Ok((status, peak))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout_ms: u64) -> Finished {
        let argv: Vec<String> = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        run(&argv, Duration::from_millis(timeout_ms)).unwrap()
    }

    #[test]
    fn exit_status_streams_and_peak_memory_are_recorded() {
        let finished = sh("echo out; echo err >&2; exit 5", 10_000);
        assert_eq!((finished.record.exit_code, finished.record.signal), (Some(5), None));
        assert_eq!((finished.record.stdout.as_str(), finished.record.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(finished.record.stdout_bytes, 4);
        assert!(!finished.record.timed_out);
        assert!(finished.record.peak_rss_bytes.unwrap() > 100_000, "a shell needs more than 100 kB");
    }

    #[test]
    fn a_signal_is_no_exit_status() {
        let finished = sh("kill -SEGV $$", 10_000);
        assert_eq!((finished.record.exit_code, finished.record.signal), (None, Some(libc::SIGSEGV)));
        assert!(!finished.record.timed_out);
    }

    #[test]
    fn a_hang_is_killed_at_its_limit() {
        let began = Instant::now();
        let finished = sh("sleep 60", 200);
        assert!(finished.record.timed_out);
        assert_eq!(finished.record.signal, Some(libc::SIGKILL));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    /// The grandchild keeps the pipe open: without killing the whole group, reading would wait for it.
    #[test]
    fn nothing_outlives_the_call() {
        let began = Instant::now();
        let finished = sh("sleep 61 & echo $!", 10_000);
        assert_eq!(finished.record.exit_code, Some(0));
        assert!(began.elapsed() < Duration::from_secs(10));
        let grandchild = finished.record.stdout.trim().to_owned();
        // Killed: gone soon, or waiting to be reaped by its new parent.
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z") || state.contains(") X")
        };
        let died = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            gone()
        });
        assert!(died, "process {grandchild} is still running");
    }

    #[test]
    fn large_output_is_complete_and_the_record_is_bounded() {
        let finished = sh("head -c 300000 /dev/zero | tr '\\0' 'é'", 20_000);
        assert_eq!(finished.stdout.len() as u64, finished.record.stdout_bytes);
        assert!(finished.stdout.len() >= 300_000);
        assert!(finished.record.stdout.len() <= RECORDED_BYTES);
    }

    #[test]
    fn a_missing_program_is_a_failure_of_the_harness() {
        let argv = vec!["/nonexistent/apr".to_owned()];
        assert!(run(&argv, Duration::from_secs(1)).unwrap_err().to_string().starts_with("start /nonexistent/apr"));
        assert!(Subject::find(Some(Path::new("/nonexistent/apr"))).is_err());
    }
}
