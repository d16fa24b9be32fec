//! The harness: runs processes, records them, and turns judgements into evidence. It knows nothing about gates.

use crate::gates::{Severity, gate};
use crate::playbook::FailurePolicy;
use crate::subject::{self, Subject, SubjectError};
use apr_report::{Artefact, CommandRecord, ErrorReport, Evidence, ExitCode, Outcome, OutcomeKind, Report, from_json};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by an interrupt: the run ends after the process that is running.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The machine or the harness failed. This says nothing about the model.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A program could not be run.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A file of the harness could not be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The subject does not behave like `apr` at all.
    #[error("the subject is not usable: {0}")]
    NotApr(String),
    /// The user interrupted the run.
    #[error("interrupted")]
    Interrupted,
}

/// Why a judgement ends early.
#[derive(Debug)]
pub enum Halt {
    /// The outcome is known.
    Verdict(Outcome),
    /// The harness failed.
    Harness(HarnessError),
}

impl From<Outcome> for Halt {
    fn from(outcome: Outcome) -> Self {
        Halt::Verdict(outcome)
    }
}

impl<E: Into<HarnessError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Harness(error.into())
    }
}

/// What a judge returns.
pub type Judged = Result<Outcome, Halt>;

/// At which point of a run a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The copy of the source.
    Source,
    /// A form of the model that pre-flight and inference gates look at.
    Workspace,
    /// The target of a pair, or a leg inside a chain.
    Conversion,
    /// The second of two equal conversions.
    SecondConversion,
    /// The first leg of the longer of two ways.
    OtherWay,
    /// A file that nothing is planted in.
    Plain,
}

/// Damage that `selftest` does between the subject and the judges. A normal run does none.
pub trait Sabotage {
    /// Another command line to run in place of these arguments.
    fn command(&self, args: &[&str]) -> Option<Vec<String>> {
        let _ = args;
        None
    }

    /// Changes what these arguments printed.
    fn output(&self, args: &[&str], stdout: &mut Vec<u8>) {
        let _ = (args, stdout);
    }

    /// Changes a model that was written.
    fn written(&self, stage: Stage, path: &Path) -> Result<(), String> {
        let _ = (stage, path);
        Ok(())
    }

    /// A limit in place of the playbook's.
    fn timeout(&self) -> Option<Duration> {
        None
    }
}

/// No damage.
pub struct NoSabotage;

impl Sabotage for NoSabotage {}

/// Someone who wants to know how a run proceeds.
pub trait Observer {
    /// A scenario begins.
    fn begins(&self, gate: &str, scenario: &str);
    /// A scenario has ended.
    fn ended(&self, evidence: &Evidence);
}

/// Nobody does.
pub struct Silent;

impl Observer for Silent {
    fn begins(&self, _: &str, _: &str) {}
    fn ended(&self, _: &Evidence) {}
}

/// Runs processes and collects evidence.
pub struct Harness<'a> {
    /// Directory for everything that is written.
    pub work: PathBuf,
    /// Every process so far.
    pub commands: Vec<CommandRecord>,
    /// Every scenario so far.
    pub evidence: Vec<Evidence>,
    subject: &'a Subject,
    timeout: Duration,
    policy: FailurePolicy,
    sabotage: &'a dyn Sabotage,
    observer: &'a dyn Observer,
    /// Why remaining scenarios are skipped.
    stopped: Option<String>,
    resting_on: Vec<usize>,
    artefacts: Vec<Artefact>,
}

/// A scenario that has begun.
#[derive(Debug)]
pub struct Open {
    gate: String,
    scenario: String,
    began: Instant,
    /// The outcome of a scenario that is not run because the run was stopped before it.
    pub skipped: Option<Outcome>,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its index in [`Harness::commands`].
    pub index: usize,
    /// Its arguments as text, without the program.
    pub text: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    limit: Duration,
    stdout: String,
    stderr: String,
}

impl<'a> Harness<'a> {
    /// A harness that writes into `work`.
    pub fn new(
        work: PathBuf,
        subject: &'a Subject,
        timeout: Duration,
        policy: FailurePolicy,
        sabotage: &'a dyn Sabotage,
        observer: &'a dyn Observer,
    ) -> Self {
        Harness {
            work,
            commands: vec![],
            evidence: vec![],
            subject,
            timeout: sabotage.timeout().unwrap_or(timeout),
            policy,
            sabotage,
            observer,
            stopped: None,
            resting_on: vec![],
            artefacts: vec![],
        }
    }

    /// Begins a scenario; it ends with [`Harness::finish`].
    pub fn begin(&mut self, gate: &str, scenario: impl Into<String>) -> Open {
        let open = Open {
            gate: gate.to_owned(),
            scenario: scenario.into(),
            began: Instant::now(),
            skipped: self.stopped.clone().map(|reason| Outcome::Skipped { reason }),
        };
        self.observer.begins(&open.gate, &open.scenario);
        self.resting_on.clear();
        self.artefacts.clear();
        open
    }

    /// Ends a scenario: whatever its judge found becomes evidence, also when it ended early.
    pub fn finish(&mut self, open: Open, judged: Judged) -> Result<OutcomeKind, HarnessError> {
        let outcome = match judged {
            Ok(outcome) | Err(Halt::Verdict(outcome)) => outcome,
            Err(Halt::Harness(error)) => return Err(error),
        };
        if INTERRUPTED.load(Ordering::SeqCst) {
            return Err(HarnessError::Interrupted);
        }
        let kind = outcome.kind();
        let severe = gate(&open.gate).is_some_and(|gate| gate.severity == Severity::P0);
        let stop = match self.policy {
            FailurePolicy::CollectAll => false,
            FailurePolicy::StopOnFirst => kind.is_failure(),
            FailurePolicy::StopOnP0 => kind.is_failure() && severe,
        };
        if stop {
            self.stopped = Some(format!("the run was stopped when {} {} was {kind}", open.gate, open.scenario));
        }
        let mut commands = std::mem::take(&mut self.resting_on);
        commands.sort_unstable();
        commands.dedup();
        // Processes that an earlier scenario started count as well: the time is that of the scenario on its own.
        let processes: f64 = commands.iter().map(|&index| self.commands[index].wall_ms).sum();
        let evidence = Evidence {
            gate: open.gate,
            scenario: open.scenario,
            outcome,
            commands,
            artefacts: std::mem::take(&mut self.artefacts),
            elapsed_ms: processes.max(open.began.elapsed().as_secs_f64() * 1e3),
        };
        self.observer.ended(&evidence);
        self.evidence.push(evidence);
        Ok(kind)
    }

    /// Runs `apr` with these arguments to its end.
    pub fn apr(&mut self, args: &[&str]) -> Result<Call, HarnessError> {
        if INTERRUPTED.load(Ordering::SeqCst) {
            return Err(HarnessError::Interrupted);
        }
        let argv = self.sabotage.command(args).unwrap_or_else(|| self.subject.argv(args));
        let mut finished = subject::run(&argv, self.timeout)?;
        let printed = finished.stdout.clone();
        self.sabotage.output(args, &mut finished.stdout);
        if finished.stdout != printed {
            finished.record_stdout();
        }
        let index = self.commands.len();
        self.resting_on.push(index);
        let call = Call {
            index,
            text: args.join(" ").replace(&format!("{}/", self.work.display()), ""),
            exit_code: finished.record.exit_code,
            signal: finished.record.signal,
            timed_out: finished.record.timed_out,
            limit: self.timeout,
            stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
            stderr: finished.record.stderr.clone(),
        };
        self.commands.push(finished.record);
        Ok(call)
    }

    /// Says that the current scenario rests on an earlier process.
    pub fn rests_on(&mut self, index: usize) {
        self.resting_on.push(index);
    }

    /// Hashes a file and says that the current scenario rests on it.
    pub fn artefact(&mut self, path: &Path) -> Result<Artefact, HarnessError> {
        let artefact = digest_file(path, &self.work)?;
        self.artefacts.push(artefact.clone());
        Ok(artefact)
    }

    /// Lets the sabotage at a model that was just written.
    pub fn written(&self, stage: Stage, path: &Path) -> Result<(), HarnessError> {
        self.sabotage.written(stage, path).map_err(|error| HarnessError::Io {
            action: "damage",
            path: path.display().to_string(),
            source: std::io::Error::other(error),
        })
    }

    /// A new directory of this name in the work directory.
    pub fn directory(&self, name: &str) -> Result<PathBuf, HarnessError> {
        let path = self.work.join(name);
        std::fs::create_dir_all(&path).map_err(io("create", &path))?;
        Ok(path)
    }
}

impl Call {
    /// The report that the process printed; exit statuses other than success have one only where `also` names them.
    ///
    /// A crash, a hang, another exit status, or output that is not the report is the outcome of the scenario.
    pub fn report<T: Report>(&self, also: &[ExitCode]) -> Result<T, Outcome> {
        let code = self.exited()?;
        if code == 0 || also.iter().any(|&accepted| i32::from(accepted.code()) == code) {
            match from_json::<T>(&self.stdout) {
                Ok(report) => return Ok(report),
                // An error with an accepted exit status is told below, as the error it is.
                Err(_) if code != 0 && self.error().is_some() => {}
                Err(error) => return Err(Outcome::falsified(format!("`{}`: {error}", self.text))),
            }
        }
        let name = ExitCode::from_code(code).map_or("no published status", |code| code.row().kind);
        let said = self.error().map_or_else(
            || self.stderr.lines().last().unwrap_or("nothing was printed").to_owned(),
            |report| report.error.message,
        );
        Err(Outcome::falsified(format!("`{}` ended with {code} ({name}): {said}", self.text)))
    }

    /// The exit status; a crash or a hang is the outcome of the scenario.
    pub fn exited(&self) -> Result<i32, Outcome> {
        let reason = format!("`{}`", self.text);
        if self.timed_out {
            let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
            return Err(Outcome::TimedOut { limit_ms, reason });
        }
        match (self.exit_code, self.signal) {
            (Some(code), _) => Ok(code),
            (None, signal) => Err(Outcome::Crashed { signal: signal.unwrap_or(0), reason }),
        }
    }

    fn error(&self) -> Option<ErrorReport> {
        from_json(&self.stdout).ok()
    }
}

/// Turns an I/O error into one that names its path.
pub fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(std::io::Error) -> HarnessError + 'p {
    move |source| HarnessError::Io { action, path: path.display().to_string(), source }
}

/// Length and digests of a file; its path is made relative to `base` where it lies inside.
pub fn digest_file(path: &Path, base: &Path) -> Result<Artefact, HarnessError> {
    let mut file = std::fs::File::open(path).map_err(io("open", path))?;
    let (mut blake, mut sha, mut bytes) = (blake3::Hasher::new(), Sha256::new(), 0u64);
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(io("read", path))?;
        if n == 0 {
            break;
        }
        blake.update(&buffer[..n]);
        sha.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok(Artefact {
        path: path.strip_prefix(base).unwrap_or(path).display().to_string(),
        bytes,
        blake3: blake.finalize().to_hex().to_string(),
        sha256: hex(&sha.finalize()),
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::{Measurement, Side, Unit, VerifyReport};

    fn shell() -> Subject {
        Subject::with_prefix(Path::new("/bin/sh"), &["-c"])
    }

    fn harness<'a>(subject: &'a Subject, work: &Path, policy: FailurePolicy) -> Harness<'a> {
        Harness::new(work.to_owned(), subject, Duration::from_millis(300), policy, &NoSabotage, &Silent)
    }

    #[test]
    fn crashes_hangs_and_errors_become_outcomes() {
        let (subject, work) = (shell(), tempfile::tempdir().unwrap());
        let mut harness = harness(&subject, work.path(), FailurePolicy::CollectAll);
        let error = serde_json::to_string(&ErrorReport::new(ExitCode::InvalidFormat, "no magic")).unwrap();
        for (script, kind, reason) in [
            ("kill -ABRT $$", OutcomeKind::Crashed, "ended by signal 6"),
            ("sleep 30", OutcomeKind::TimedOut, "killed after 300 ms"),
            ("exit 7", OutcomeKind::Falsified, "ended with 7 (io): nothing was printed"),
            ("echo lost >&2; exit 8", OutcomeKind::Falsified, "(inference_failed): lost"),
            ("exit 99", OutcomeKind::Falsified, "no published status"),
            ("echo", OutcomeKind::Falsified, "apr.verify/1 report expected"),
            ("exit 5", OutcomeKind::Falsified, "apr.verify/1 report expected"),
            (&format!("echo '{error}'; exit 4"), OutcomeKind::Falsified, "ended with 4 (invalid_format): no magic"),
            (&format!("echo '{error}'; exit 5"), OutcomeKind::Falsified, "ended with 5 (mismatch): no magic"),
        ] {
            let open = harness.begin("F-CONV-G-A", script);
            let judged = harness.apr(&[script]).map_err(Halt::from).and_then(|call| {
                call.report::<VerifyReport>(&[ExitCode::Mismatch])?;
                panic!("{script} has no report")
            });
            assert_eq!(harness.finish(open, judged).unwrap(), kind, "{script}");
            let evidence = harness.evidence.last().unwrap();
            assert!(evidence.outcome.reason().contains(reason), "{script}: {}", evidence.outcome.reason());
            assert_eq!(evidence.commands, [harness.commands.len() - 1]);
        }
    }

    #[test]
    fn what_is_left_after_a_stop_is_recorded_as_skipped() {
        let (subject, work) = (shell(), tempfile::tempdir().unwrap());
        for (policy, expected) in [
            (FailurePolicy::CollectAll, [OutcomeKind::Falsified, OutcomeKind::Falsified, OutcomeKind::Corroborated]),
            (FailurePolicy::StopOnP0, [OutcomeKind::Falsified, OutcomeKind::Falsified, OutcomeKind::Skipped]),
            (FailurePolicy::StopOnFirst, [OutcomeKind::Falsified, OutcomeKind::Skipped, OutcomeKind::Skipped]),
        ] {
            let mut harness = harness(&subject, work.path(), policy);
            let side = Side::new("x", 1, "x");
            let pass = Outcome::judge(Measurement::new(Unit::Facts, side.clone(), side, 1, 0));
            for (gate, scenario, outcome) in [
                ("F-A1-001", "1", Outcome::falsified("P1")),
                ("F-CONV-G-A", "2", Outcome::falsified("P0")),
                ("F-A1-001", "3", pass),
            ] {
                let mut open = harness.begin(gate, scenario);
                let judged = open.skipped.take().unwrap_or(outcome);
                harness.finish(open, Ok(judged)).unwrap();
            }
            let kinds: Vec<OutcomeKind> = harness.evidence.iter().map(|e| e.outcome.kind()).collect();
            assert_eq!(kinds, expected, "{policy:?}");
        }
    }

    #[test]
    fn digests_are_the_published_ones() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let artefact = digest_file(&path, work.path()).unwrap();
        assert_eq!((artefact.path.as_str(), artefact.bytes), ("abc", 3));
        // FIPS 180-4 and the BLAKE3 reference give these for "abc".
        assert_eq!(artefact.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(artefact.blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }
}
