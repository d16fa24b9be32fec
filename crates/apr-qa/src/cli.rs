//! The command line: arguments → request → library call → report.

use crate::gates::{self, GATES};
use crate::harness::{HarnessError, INTERRUPTED, NoSabotage};
use crate::playbook::{FailurePolicy, Playbook, PlaybookError, QUICK};
use crate::report::{self, EvidenceError};
use crate::runner::{Parts, Request, run};
use crate::score::score;
use crate::selftest::{Reaction, selftest};
use crate::source::{ModelSource, builtins};
use crate::subject::{Subject, kill_running};
use apr_report::{EvidenceFile, QaExitCode};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

mod progress;

/// Exit status after an interrupt, as shells count it: 128 + SIGINT.
const INTERRUPT_STATUS: u8 = 130;

/// Qualify a model and the `apr` that converts and runs it.
#[derive(Debug, Parser)]
#[command(
    name = "apr-qa",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 certified or passed, 1 falsified or BLOCKED, 2 usage, bad playbook or bad evidence, 3 the machine or the harness failed."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a playbook and judge what happens.
    Run(RunArgs),
    /// Damage models, files and outputs, and show which gates reject what.
    Selftest(SelftestArgs),
    /// Write reports from an evidence file.
    Report(ReportArgs),
    /// Compute the score from an evidence file.
    Score(ScoreArgs),
    /// List every gate with its condition.
    Gates(GatesArgs),
    /// Print the JSON schema of evidence files.
    Schema,
}

#[derive(Debug, Args)]
struct SubjectArgs {
    /// The `apr` to qualify; without it, the one that is part of this program.
    #[arg(long, value_name = "PATH")]
    apr: Option<PathBuf>,
    /// Limit of every process in milliseconds, in place of the playbook's.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Keep the work directory and print where it is.
    #[arg(long)]
    keep: bool,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A playbook; without it, the one called quick.
    playbook: Option<PathBuf>,
    /// The model, in place of the playbook's: a file, a directory, or builtin:NAME.
    #[arg(long, value_name = "MODEL")]
    model_path: Option<String>,
    /// Directory for evidence.json, report.html and junit.xml.
    #[arg(short, long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Stop after the first failure; what is left is recorded as skipped.
    #[arg(long)]
    fail_fast: bool,
    /// Skip scenarios on a GPU.
    #[arg(long)]
    no_gpu: bool,
    /// Accepted and without effect: scenarios always run in processes of their own.
    #[arg(long)]
    subprocess: bool,
    #[command(flatten)]
    subject: SubjectArgs,
}

#[derive(Debug, Args)]
struct SelftestArgs {
    /// Plant only this mutant; gates that name others are then listed as defects.
    #[arg(long, value_name = "ID")]
    mutant: Option<String>,
    #[command(flatten)]
    subject: SubjectArgs,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// An evidence.json.
    evidence: PathBuf,
    /// What to write; terminal goes to stdout.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "terminal")]
    format: Vec<ReportFormat>,
    /// Directory for the files.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Terminal,
    Json,
    Html,
    Junit,
}

#[derive(Debug, Args)]
struct ScoreArgs {
    /// An evidence.json.
    evidence: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct GatesArgs {
    /// Print JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the page of the documentation.
    #[arg(long)]
    markdown: bool,
}

/// Everything that ends a command early, with the exit status that it has.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Playbook(#[from] PlaybookError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Harness(#[from] HarnessError),
}

impl CommandError {
    fn status(&self) -> u8 {
        match self {
            CommandError::Playbook(_) | CommandError::Evidence(_) | CommandError::Usage(_) => QaExitCode::Usage.code(),
            CommandError::Harness(HarnessError::Interrupted) => INTERRUPT_STATUS,
            CommandError::Harness(_) => QaExitCode::Infrastructure.code(),
        }
    }
}

/// Runs `apr-qa` with these arguments, the program's name included, and returns its exit status.
pub fn main_from(args: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no error; clap knows which is which.
            let _ = error.print();
            return if error.use_stderr() { QaExitCode::Usage.code() } else { QaExitCode::Passed.code() };
        }
    };
    let result = match cli.command {
        Command::Run(args) => command_run(&args),
        Command::Selftest(args) => command_selftest(&args),
        Command::Report(args) => command_report(&args),
        Command::Score(args) => command_score(&args),
        Command::Gates(args) => Ok(command_gates(&args)),
        Command::Schema => {
            print!("{}", report::schema());
            Ok(QaExitCode::Passed)
        }
    };
    match result {
        Ok(code) => code.code(),
        Err(error) => {
            eprintln!("error: {error}");
            error.status()
        }
    }
}

fn command_run(args: &RunArgs) -> Result<QaExitCode, CommandError> {
    let playbook = match &args.playbook {
        Some(path) => Playbook::read(path)?,
        None => Playbook::parse(QUICK)?,
    };
    for warning in &playbook.warnings {
        eprintln!("warning: {warning}");
    }
    let named = args.model_path.as_ref().or(playbook.model.local_path.as_ref()).ok_or_else(|| {
        let repo = playbook.model.hf_repo.as_deref().unwrap_or("the model");
        let names: Vec<&str> = builtins().map(|model| model.name).collect();
        CommandError::Usage(format!(
            "this version does not download {repo}; pass --model-path with a file, a directory, or {}",
            names.join(", ")
        ))
    })?;
    let source = ModelSource::parse(named).map_err(CommandError::Usage)?;
    let subject = find_subject(&args.subject)?;
    let work = Work::new(args.subject.keep)?;
    end_on_interrupt();
    if let Some(text) = &playbook.description {
        eprintln!("{}: {text}", playbook.id.name);
    }
    let progress = progress::Progress::new();
    let file = run(&Request {
        playbook: &playbook,
        source: &source,
        subject: &subject,
        work: work.path.clone(),
        timeout: args.subject.timeout.map(Duration::from_millis),
        policy: args.fail_fast.then_some(FailurePolicy::StopOnFirst),
        no_gpu: args.no_gpu,
        parts: Parts::ALL,
        sabotage: &NoSabotage,
        observer: &progress,
    })?;
    progress.finish();
    let score = score(&file);
    write_reports(&file, &[ReportFormat::Json, ReportFormat::Html, ReportFormat::Junit], &args.output)?;
    if args.subject.json {
        print!("{}", report::json(&file));
    } else {
        print!("{}", report::terminal(&file, &score));
    }
    work.announce();
    // A passing score can hold falsified P1 scenarios; the command says so by its status.
    let falsified = file.counts().iter().any(|(kind, n)| kind.is_failure() && *n > 0);
    Ok(if falsified { QaExitCode::Falsified } else { score.status.exit_code() })
}

fn command_selftest(args: &SelftestArgs) -> Result<QaExitCode, CommandError> {
    let only = match &args.mutant {
        None => None,
        Some(id) => Some(crate::mutants::mutant(id).ok_or_else(|| {
            let ids: Vec<&str> = crate::mutants::MUTANTS.iter().map(|mutant| mutant.id).collect();
            CommandError::Usage(format!("no mutant is called {id:?}; there are {}", ids.join(", ")))
        })?),
    };
    let subject = find_subject(&args.subject)?;
    let work = Work::new(args.subject.keep)?;
    end_on_interrupt();
    let matrix = selftest(&subject, &work.path, only, &|name, reactions| {
        let rejected = reactions.values().filter(|reaction| **reaction == Reaction::Rejected).count();
        eprintln!("{name}: {rejected} of {} gates reject", reactions.len());
    })?;
    if args.subject.json {
        println!("{}", serde_json::to_string_pretty(&matrix).expect("the matrix has string keys"));
    } else {
        print!("{}", report::kill_matrix(&matrix));
    }
    work.announce();
    Ok(matrix.exit_code())
}

fn command_report(args: &ReportArgs) -> Result<QaExitCode, CommandError> {
    let file = report::read(&args.evidence)?;
    let score = score(&file);
    if args.format.contains(&ReportFormat::Terminal) {
        print!("{}", report::terminal(&file, &score));
    }
    let files: Vec<ReportFormat> = args.format.iter().copied().filter(|f| *f != ReportFormat::Terminal).collect();
    write_reports(&file, &files, &args.output)?;
    Ok(QaExitCode::Passed)
}

fn command_score(args: &ScoreArgs) -> Result<QaExitCode, CommandError> {
    let score = score(&report::read(&args.evidence)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&score).expect("a score is JSON"));
    } else {
        print!("{}", report::score_lines(&score));
    }
    Ok(score.status.exit_code())
}

fn command_gates(args: &GatesArgs) -> QaExitCode {
    if args.json {
        println!("{}", serde_json::to_string_pretty(GATES).expect("the registry is JSON"));
    } else if args.markdown {
        print!("{}", gates::markdown());
    } else {
        for gate in GATES {
            println!("{:<18} {} {:<5} {}", gate.id, gate.severity, gate.category, gate.title);
            println!("{:<18} {}", "", gate.condition);
        }
    }
    QaExitCode::Passed
}

fn find_subject(args: &SubjectArgs) -> Result<Subject, CommandError> {
    match &args.apr {
        Some(path) if !path.exists() => {
            Err(CommandError::Usage(format!("--apr {}: there is no such file", path.display())))
        }
        path => Ok(Subject::find(path.as_deref()).map_err(HarnessError::from)?),
    }
}

/// Writes the reports into a directory and says where.
fn write_reports(file: &EvidenceFile, formats: &[ReportFormat], dir: &Path) -> Result<(), HarnessError> {
    let score = score(file);
    std::fs::create_dir_all(dir).map_err(crate::harness::io("create", dir))?;
    for format in formats {
        let (name, text) = match format {
            ReportFormat::Terminal => continue,
            ReportFormat::Json => ("evidence.json", report::json(file)),
            ReportFormat::Html => ("report.html", report::html(file, &score)),
            ReportFormat::Junit => ("junit.xml", report::junit(file, &score)),
        };
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(crate::harness::io("write", &path))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// The work directory: removed at the end, unless it is to be kept.
struct Work {
    path: PathBuf,
    _remove: Option<tempfile::TempDir>,
}

impl Work {
    fn new(keep: bool) -> Result<Self, HarnessError> {
        let base = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix("apr-qa-")
            .tempdir()
            .map_err(crate::harness::io("create a directory in", &base))?;
        Ok(if keep {
            Work { path: dir.keep(), _remove: None }
        } else {
            Work { path: dir.path().to_owned(), _remove: Some(dir) }
        })
    }

    fn announce(&self) {
        if self._remove.is_none() {
            eprintln!("work directory: {}", self.path.display());
        }
    }
}

/// On an interrupt, ends the running process; the run then ends by itself and cleans up.
fn end_on_interrupt() {
    apr::on_interrupt(|_| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        kill_running();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(args: &[&str]) -> u8 {
        main_from(std::iter::once("apr-qa").chain(args.iter().copied()).map(OsString::from).collect())
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_have_status_2() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad.yaml");
        std::fs::write(&bad, "name: x\n").unwrap();
        let bad = bad.display().to_string();
        for args in [
            vec!["frobnicate"],
            vec!["run", "--timeout", "0"],
            vec!["run", "/nonexistent.yaml"],
            vec!["run", &bad],
            vec!["run", "--model-path", "/nonexistent.gguf"],
            vec!["run", "--model-path", "builtin:huge"],
            vec!["run", "--apr", "/nonexistent/apr"],
            vec!["selftest", "--mutant", "unheard"],
            vec!["score", "/nonexistent.json"],
            vec!["report", &bad],
        ] {
            assert_eq!(status(&args), QaExitCode::Usage.code(), "{args:?}");
        }
        assert_eq!(status(&["--version"]), 0);
    }

    /// `/bin/true` runs and is no `apr`: this says nothing about the model.
    #[test]
    fn a_subject_that_is_no_apr_is_an_infrastructure_failure() {
        assert_eq!(status(&["run", "--apr", "/bin/true"]), QaExitCode::Infrastructure.code());
    }

    #[test]
    fn score_ends_as_the_status_demands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence.json");
        let file = crate::testing::evidence_file(apr_report::Tier::Mvp, 18, &[]);
        std::fs::write(&path, report::json(&file)).unwrap();
        let path = path.display().to_string();
        assert_eq!(status(&["score", &path]), QaExitCode::Falsified.code(), "no gateways: BLOCKED");
        let out = dir.path().join("out").display().to_string();
        assert_eq!(status(&["report", &path, "--format", "json,html,junit", "-o", &out]), 0);
        let replayed = std::fs::read_to_string(dir.path().join("out/evidence.json")).unwrap();
        assert_eq!(replayed, report::json(&file), "replaying evidence gives the same file");
    }
}
