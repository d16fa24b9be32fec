//! The runner: playbook × model → scenarios → evidence.
//!
//! Which scenarios exist follows from the playbook and the format of the model alone. A scenario that can't be run
//! because an earlier step failed is recorded as not measured, so that the number of scenarios does not shrink.

mod chains;
mod conversions;
mod inference;
mod preflight;

use crate::harness::{Halt, Harness, HarnessError, Judged, Observer, Sabotage, Stage, io};
use crate::judge::FileSet;
use crate::playbook::{Backend, FailurePolicy, Playbook};
use crate::source::ModelSource;
use crate::subject::Subject;
use apr_model::Format;
use apr_report::{
    Artefact, Capabilities, ConvertReport, EvidenceFile, Host, InspectReport, ModelUnderTest, Outcome, OutcomeKind,
    Report,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use inference::Answer;

/// What to run.
pub struct Request<'a> {
    /// The playbook.
    pub playbook: &'a Playbook,
    /// The model.
    pub source: &'a ModelSource,
    /// The program to qualify.
    pub subject: &'a Subject,
    /// Directory for everything that is written.
    pub work: PathBuf,
    /// Limit of every process, in place of the playbook's.
    pub timeout: Option<Duration>,
    /// When to stop, in place of the playbook's.
    pub policy: Option<FailurePolicy>,
    /// Whether GPU scenarios are skipped although the playbook asks for them.
    pub no_gpu: bool,
    /// Which parts to run: all of them, except under `selftest`.
    pub parts: Parts,
    /// Damage to do.
    pub sabotage: &'a dyn Sabotage,
    /// Who is told about progress.
    pub observer: &'a dyn Observer,
}

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// G0 gates.
    pub preflight: bool,
    /// `apr run`, its gateways and the golden rule.
    pub inference: bool,
    /// Conversions between two formats.
    pub pairs: bool,
    /// Chains of conversions.
    pub chains: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Parts = Parts { preflight: true, inference: true, pairs: true, chains: true };
}

/// A form of the model, as `apr inspect` sees it.
#[derive(Clone, Debug)]
pub struct Form {
    /// Its format.
    pub format: Format,
    /// The path that is handed to `apr`.
    pub path: PathBuf,
    /// Its files.
    pub files: FileSet,
    /// Its main file.
    pub main_file: PathBuf,
    /// What `apr inspect` says.
    pub inspect: InspectReport,
    /// The process that said so.
    pub command: usize,
}

/// A run in progress.
pub(crate) struct Run<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) harness: Harness<'a>,
    /// The model in each format, or why it is not there.
    pub(crate) forms: BTreeMap<Format, Result<Form, String>>,
    /// Format of the source.
    pub(crate) source_format: Option<Format>,
    pub(crate) capabilities: Capabilities,
    pub(crate) answers: Vec<Answer>,
    source_files: Vec<Artefact>,
}

/// Runs a playbook.
pub fn run(request: &Request<'_>) -> Result<EvidenceFile, HarnessError> {
    let began = jiff::Timestamp::now();
    let clock = Instant::now();
    let timeout = request.timeout.unwrap_or(Duration::from_millis(request.playbook.matrix.timeout_ms));
    let policy = request.policy.unwrap_or(request.playbook.failure_policy);
    let subject = request.subject.identify(timeout)?;
    let mut harness =
        Harness::new(request.work.clone(), request.subject, timeout, policy, request.sabotage, request.observer);
    let capabilities: Capabilities = harness
        .apr(&["capabilities", "--json"])?
        .report(&[])
        .map_err(|outcome| HarnessError::NotApr(outcome.reason()))?;
    let numerics = capabilities.numerics.first().cloned();
    let numerics = numerics.ok_or_else(|| HarnessError::NotApr("it names no numerics".to_owned()))?;

    let mut run = Run {
        request,
        harness,
        forms: BTreeMap::new(),
        source_format: None,
        capabilities,
        answers: vec![],
        source_files: vec![],
    };
    run.preflight()?;
    if request.parts.inference {
        run.inference()?;
    }
    if request.parts.pairs {
        run.pairs()?;
    }
    if request.parts.chains {
        run.chains()?;
    }
    run.stability()?;

    let model = ModelUnderTest {
        source: request.source.name(),
        format: run.source_format.map_or_else(|| "unknown".to_owned(), |format| format.name().to_owned()),
        files: run.source_files,
    };
    let mut id = blake3::Hasher::new();
    for part in [&request.playbook.id.blake3, &subject.blake3, &model.source, &began.to_string()] {
        id.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    for file in &model.files {
        id.update(file.blake3.as_bytes());
    }
    let file = EvidenceFile {
        schema: EvidenceFile::SCHEMA.to_owned(),
        run_id: id.finalize().to_hex()[..32].to_owned(),
        began: began.to_string(),
        elapsed_ms: clock.elapsed().as_secs_f64() * 1e3,
        playbook: request.playbook.id.clone(),
        model,
        subject,
        host: host(),
        numerics,
        seed: request.playbook.matrix.seed,
        commands: run.harness.commands,
        evidence: run.harness.evidence,
    };
    Ok(file.checked().expect("scenario names are unique and commands were recorded by the harness"))
}

impl Run<'_> {
    /// Runs one scenario, unless the run was stopped.
    pub(crate) fn scenario(
        &mut self,
        gate: &str,
        scenario: impl Into<String>,
        judge: impl FnOnce(&mut Self) -> Judged,
    ) -> Result<OutcomeKind, HarnessError> {
        let mut open = self.harness.begin(gate, scenario);
        let judged = match open.skipped.take() {
            Some(skipped) => Ok(skipped),
            None => judge(self),
        };
        self.harness.finish(open, judged)
    }

    /// Formats of the matrix: those of the playbook and that of the source.
    pub(crate) fn formats(&self) -> Vec<Format> {
        let wanted = |format: &Format| {
            self.request.playbook.model.formats.contains(format) || self.source_format == Some(*format)
        };
        Format::ALL.into_iter().filter(wanted).collect()
    }

    /// The model in this format; why it is not there is the outcome of a scenario that needs it.
    pub(crate) fn form(&self, format: Format) -> Result<Form, Halt> {
        match self.forms.get(&format) {
            Some(Ok(form)) => Ok(form.clone()),
            Some(Err(why)) => {
                Err(Outcome::not_measured(format!("there is no {format} form of the model: {why}")).into())
            }
            None => Err(Outcome::Skipped { reason: format!("the playbook does not ask for {format}") }.into()),
        }
    }

    /// Opens a model with `apr inspect`.
    pub(crate) fn inspect(&mut self, path: &Path) -> Result<Form, Halt> {
        let call = self.harness.apr(&["inspect", &text(path), "--tensors", "--json"])?;
        let report: InspectReport = call.report(&[])?;
        let format = Format::from_name(&report.format)
            .ok_or_else(|| Outcome::falsified(format!("apr inspect names the format {:?}", report.format)))?;
        let dir = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let main = report.files.first().ok_or_else(|| Outcome::falsified("apr inspect lists no files"))?;
        Ok(Form {
            format,
            path: path.to_owned(),
            files: FileSet::named(dir, report.files.iter().map(|file| file.name.as_str())),
            main_file: dir.join(&main.name),
            inspect: report,
            command: call.index,
        })
    }

    /// Converts a model with `apr rosetta convert` into a new directory of the work directory.
    pub(crate) fn convert(&mut self, stage: Stage, from: &Path, to: Format, dir: &str) -> Result<PathBuf, Halt> {
        self.convert_with(stage, from, to, dir, &[])
    }

    /// [`Run::convert`] with further options.
    pub(crate) fn convert_with(
        &mut self,
        stage: Stage,
        from: &Path,
        to: Format,
        dir: &str,
        options: &[&str],
    ) -> Result<PathBuf, Halt> {
        let dir = self.harness.directory(dir)?;
        // A SafeTensors model is a directory of files, the others are one file.
        let target = match to {
            Format::SafeTensors => dir.join("safetensors"),
            Format::Gguf | Format::Apr => dir.join(format!("model.{}", to.name())),
        };
        let (source, path) = (text(from), text(&target));
        let mut args = vec!["rosetta", "convert", &source, &path, "--to", to.name(), "--json"];
        args.extend(options);
        let call = self.harness.apr(&args)?;
        let report: ConvertReport = call.report(&[])?;
        if report.target.format != to.name() || report.n_tensors == 0 || report.target.files.is_empty() {
            let (format, n) = (&report.target.format, report.n_tensors);
            return Err(Outcome::falsified(format!("`{}` reports {n} tensors written as {format}", call.text)).into());
        }
        if !target.exists() {
            return Err(Outcome::falsified(format!("`{}` succeeded and {path} does not exist", call.text)).into());
        }
        self.harness.written(stage, &target)?;
        if !target.exists() {
            return Err(Outcome::falsified(format!("{path} is gone after `{}`", call.text)).into());
        }
        Ok(target)
    }

    /// How prompts reach the model: through the chat template where the *source* has one, so that a form that lost it
    /// is found out.
    pub(crate) fn prompt_mode(&self) -> &'static str {
        let source = self.source_format.and_then(|format| self.forms.get(&format));
        match source {
            Some(Ok(form)) if form.inspect.chat_template => "--chat",
            _ => "--raw",
        }
    }

    /// Why scenarios on this backend can't be run, if they can't.
    pub(crate) fn backend_absent(&self, backend: Backend) -> Option<String> {
        if self.capabilities.has_backend(backend.name()) {
            return (backend == Backend::Gpu && self.request.no_gpu).then(|| "--no-gpu was given".to_owned());
        }
        Some(format!("apr capabilities lists no {} device on this machine", backend.name()))
    }

    pub(crate) fn set_source_files(&mut self, files: Vec<Artefact>) {
        self.source_files = files;
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Removes a directory of the work directory, so that a run holds a few forms of the model at a time.
pub(crate) fn discard(harness: &Harness<'_>, dir: &str) -> Result<(), HarnessError> {
    let path = harness.work.join(dir);
    if path.exists() { std::fs::remove_dir_all(&path).map_err(io("remove", &path)) } else { Ok(()) }
}

/// The machine this runs on.
fn host() -> Host {
    let read = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = read("/proc/meminfo", "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Host {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: read("/proc/cpuinfo", "model name"),
        n_cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory.map(|kib| kib * 1024),
    }
}
