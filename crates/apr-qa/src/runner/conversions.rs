//! Pairs: each form converted into each other format, and both held side by side.

use super::{Form, Run, discard, text};
use crate::gates::conversion_gate;
use crate::harness::{Call, Halt, HarnessError, Stage};
use crate::judge;
use apr_model::Format;
use apr_report::{CompareInferenceReport, ExitCode, Outcome, VerifyReport};

/// A conversion and what was found out about it. Each part is there, or why it is not.
struct Pair {
    from: Form,
    to: Form,
    convert: usize,
    verify: Result<VerifyReport, Outcome>,
    verify_command: usize,
    compare: Result<CompareInferenceReport, Outcome>,
    compare_command: usize,
}

/// A pair, or the outcome of every scenario that needs it with the processes that led there.
type PairOr = Result<Pair, (Outcome, Vec<usize>)>;

impl Run<'_> {
    pub(crate) fn pairs(&mut self) -> Result<(), HarnessError> {
        for from in self.formats() {
            for to in self.formats().into_iter().filter(|&to| to != from) {
                self.pair(from, to)?;
            }
        }
        Ok(())
    }

    fn pair(&mut self, from: Format, to: Format) -> Result<(), HarnessError> {
        let gate = conversion_gate(from, to).expect("every pair of formats has a gate; see the registry's tests");
        let way = format!("{} to {}", from.name(), to.name());
        let dir = format!("pairs/{}-{}", from.name(), to.name());
        let mut pair: Option<PairOr> = None;
        // The first scenario of the pair does the work, so that its time is told there.
        self.scenario(gate.id, "tensor values", |run| {
            let begin = run.harness.commands.len();
            let made = match run.make_pair(from, to, &dir) {
                Ok(made) => Ok(made),
                Err(Halt::Verdict(outcome)) => Err((outcome, (begin..run.harness.commands.len()).collect())),
                Err(halt @ Halt::Harness(_)) => return Err(halt),
            };
            pair = Some(made);
            on(run, &pair, |run, pair| {
                run.harness.rests_on(pair.verify_command);
                let verify = pair.verify.as_ref().map_err(Clone::clone)?;
                Ok(judge::values(&pair.from.inspect, &pair.to.inspect, verify))
            })
        })?;
        self.scenario(gate.id, "logits", |run| {
            on(run, &pair, |run, pair| {
                run.harness.rests_on(pair.compare_command);
                Ok(judge::logits(pair.compare.as_ref().map_err(Clone::clone)?))
            })
        })?;
        self.scenario("F-CONV-CARD-001", way.as_str(), |run| {
            on(run, &pair, |_, pair| Ok(judge::cardinality(&pair.from.inspect, &pair.to.inspect)))
        })?;
        self.scenario("F-CONV-NAME-001", way.as_str(), |run| {
            on(run, &pair, |_, pair| Ok(judge::names(&pair.from.inspect, &pair.to.inspect)))
        })?;
        self.scenario("F-CONV-TOK-001", way.as_str(), |run| {
            on(run, &pair, |run, pair| {
                run.harness.rests_on(pair.verify_command);
                run.harness.rests_on(pair.compare_command);
                let verify = pair.verify.as_ref().map_err(Clone::clone)?;
                let compare = pair.compare.as_ref().map_err(Outcome::reason);
                let compare = compare.as_ref().map_err(String::as_str).copied();
                Ok(judge::tokenizer(&pair.from.inspect, &pair.to.inspect, verify, compare))
            })
        })?;
        self.scenario("F-CONV-META-001", way.as_str(), |run| {
            on(run, &pair, |run, pair| {
                run.harness.rests_on(pair.verify_command);
                let verify = pair.verify.as_ref().map_err(Clone::clone)?;
                Ok(judge::metadata(&pair.from.inspect, &pair.to.inspect, verify))
            })
        })?;
        discard(&self.harness, &dir)
    }

    fn make_pair(&mut self, from: Format, to: Format, dir: &str) -> Result<Pair, Halt> {
        let source = self.form(from)?;
        let convert = self.harness.commands.len();
        let path = self.convert(Stage::Conversion, &source.path, to, dir)?;
        let target = self.inspect(&path)?;
        let main_file = target.main_file.clone();
        self.harness.artefact(&main_file)?;
        let (a, b) = (text(&source.path), text(&target.path));
        let verify: Call = self.harness.apr(&["rosetta", "verify", &a, &b, "--json"])?;
        let matrix = &self.request.playbook.matrix;
        let (prompt, n) = (format!("--prompt={}", matrix.prompts[0]), matrix.max_tokens.to_string());
        let mode = self.prompt_mode();
        let args = ["rosetta", "compare-inference", &a, &b, &prompt, "--max-tokens", &n, mode, "--no-gpu", "--json"];
        let compare = self.harness.apr(&args)?;
        Ok(Pair {
            from: source,
            to: target,
            convert,
            verify_command: verify.index,
            verify: verify.report(&[ExitCode::Mismatch]),
            compare_command: compare.index,
            compare: compare.report(&[ExitCode::Mismatch]),
        })
    }
}

/// Judges a pair, or tells why there is none.
fn on(
    run: &mut Run<'_>,
    pair: &Option<PairOr>,
    judge: impl FnOnce(&mut Run<'_>, &Pair) -> Result<Outcome, Halt>,
) -> Result<Outcome, Halt> {
    match pair {
        Some(Ok(pair)) => {
            for index in [pair.from.command, pair.convert, pair.to.command] {
                run.harness.rests_on(index);
            }
            judge(run, pair)
        }
        Some(Err((outcome, commands))) => {
            for &index in commands {
                run.harness.rests_on(index);
            }
            Ok(outcome.clone())
        }
        None => Ok(Outcome::not_measured("the conversion was not run")),
    }
}
