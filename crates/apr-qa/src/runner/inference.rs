//! Inference: every prompt on every backend in every format, the gateways G1 to G4, and the golden rule.

use super::{Run, text};
use crate::harness::{Halt, HarnessError, Judged};
use crate::judge;
use crate::playbook::Backend;
use apr_model::Format;
use apr_report::{Outcome, RunReport};

/// An answer of the model, or of its absence.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Format of the file that was run.
    pub format: Format,
    /// Backend that was asked for.
    pub backend: Backend,
    /// Name of the scenario.
    pub scenario: String,
    /// The process.
    pub command: usize,
    /// What it reported; why there is no report otherwise.
    pub report: Result<RunReport, Outcome>,
}

impl Run<'_> {
    pub(crate) fn inference(&mut self) -> Result<(), HarnessError> {
        let playbook = self.request.playbook;
        let matrix = &playbook.matrix;
        let count = matrix.scenario_count.unwrap_or(matrix.prompts.len());
        for &backend in &matrix.backends {
            for format in self.formats() {
                for index in 0..count {
                    let prompt = &matrix.prompts[index % matrix.prompts.len()];
                    let gate = match backend {
                        Backend::Cpu => "F-A1-001",
                        Backend::Gpu => "F-A2-001",
                    };
                    let name = format!("run {} {} {}: {prompt}", backend.name(), format.name(), index + 1);
                    self.scenario(gate, name.clone(), |run| {
                        if let Some(reason) = run.backend_absent(backend) {
                            return Ok(Outcome::Skipped { reason });
                        }
                        let report = run.ask(format, backend, prompt, name)?;
                        Ok(judge::answer(&report, prompt, backend, &playbook.oracles))
                    })?;
                }
            }
        }
        for format in self.formats() {
            self.load_gateway(format)?;
            self.answer_gateway("G2-BASIC", format.name(), |a| a.format == format, judge::basic)?;
        }
        self.answer_gateway("G4-VALID", "every answer", |_| true, judge::garbage_gateway)?;
        self.golden_rule()
    }

    fn ask(&mut self, format: Format, backend: Backend, prompt: &str, scenario: String) -> Result<RunReport, Halt> {
        let form = self.form(format)?;
        let matrix = &self.request.playbook.matrix;
        let (path, n) = (text(&form.path), matrix.max_tokens.to_string());
        let seed = matrix.seed.to_string();
        let device = match backend {
            Backend::Cpu => "--no-gpu",
            Backend::Gpu => "--gpu",
        };
        // `--prompt=` keeps a prompt that begins with a dash from being read as an option.
        let prompt = format!("--prompt={prompt}");
        let args = ["run", &path, &prompt, "-n", &n, "--seed", &seed, self.prompt_mode(), "--json", device];
        let call = self.harness.apr(&args)?;
        let report = call.report::<RunReport>(&[]);
        self.answers.push(Answer { format, backend, scenario, command: call.index, report: report.clone() });
        Ok(report?)
    }

    /// G1-LOAD: `apr run` loaded what `apr inspect` saw.
    fn load_gateway(&mut self, format: Format) -> Result<(), HarnessError> {
        self.scenario("G1-LOAD", format.name(), |run| {
            let form = run.form(format)?;
            run.harness.rests_on(form.command);
            let Some(answer) = run.answers.iter().find(|answer| answer.format == format).cloned() else {
                return Ok(Outcome::not_measured("`apr run` was not started on this form of the model"));
            };
            run.harness.rests_on(answer.command);
            Ok(judge::loads(&form.inspect, &answer.report?))
        })?;
        Ok(())
    }

    /// A gateway over answers. An answer that is missing fails it with the reason why it is missing.
    fn answer_gateway(
        &mut self,
        gate: &str,
        scenario: &str,
        which: impl Fn(&Answer) -> bool,
        judge: impl FnOnce(&[(&str, &RunReport)]) -> Outcome,
    ) -> Result<(), HarnessError> {
        self.scenario(gate, scenario, |run| -> Judged {
            let answers: Vec<Answer> = run.answers.iter().filter(|answer| which(answer)).cloned().collect();
            let mut reports = Vec::new();
            for answer in &answers {
                run.harness.rests_on(answer.command);
                reports.push((answer.scenario.as_str(), answer.report.as_ref().map_err(Clone::clone)?));
            }
            Ok(judge(&reports))
        })?;
        Ok(())
    }

    /// F-GOLDEN-RULE-001: the source and each converted form say the same, token by token and bit by bit.
    fn golden_rule(&mut self) -> Result<(), HarnessError> {
        let source = self.source_format;
        for format in self.formats().into_iter().filter(|format| Some(*format) != source) {
            let from = source.map_or("source", Format::name);
            type Judge = fn(&[(&RunReport, &RunReport)]) -> Outcome;
            let judges: [(&str, Judge); 2] = [("tokens", judge::golden_text), ("logits", judge::golden_logits)];
            for (what, judge) in judges {
                self.scenario("F-GOLDEN-RULE-001", format!("{from} and {} {what}", format.name()), |run| {
                    let of = |wanted: Option<Format>| -> Vec<Answer> {
                        let all = run.answers.iter();
                        all.filter(|a| Some(a.format) == wanted && a.backend == Backend::Cpu).cloned().collect()
                    };
                    let (ours, theirs) = (of(source), of(Some(format)));
                    let mut pairs = Vec::new();
                    for (a, b) in ours.iter().zip(&theirs) {
                        run.harness.rests_on(a.command);
                        run.harness.rests_on(b.command);
                        let report = |answer: &Answer| answer.report.clone();
                        pairs.push((report(a)?, report(b)?));
                    }
                    Ok(judge(&pairs.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>()))
                })?;
            }
        }
        Ok(())
    }

    /// G3-STABLE: every process of the whole run ended by itself.
    pub(crate) fn stability(&mut self) -> Result<(), HarnessError> {
        if self.request.parts.inference {
            self.scenario("G3-STABLE", "every process", |run| Ok(judge::stable(&run.harness.commands)))?;
        }
        Ok(())
    }
}
