//! Does the model answer, and rightly? Judged from `apr run`, by the generated text and never by anything around it.

use super::{Fact, facts};
use crate::oracles;
use crate::playbook::{Backend, Oracle};
use apr_report::{CommandRecord, InspectReport, Measurement, Outcome, RunReport, Side, Unit};

/// Judges one answer by the oracles of the playbook.
///
/// The arithmetic oracle speaks where the prompt has a digit; a question that it can't read is not measured.
pub fn answer(report: &RunReport, prompt: &str, backend: Backend, which: &[Oracle]) -> Outcome {
    if report.backend.used != backend.name() {
        let (used, reason) = (&report.backend.used, &report.backend.reason);
        return Outcome::falsified(format!("{} was asked for, {used} was used: {reason}", backend.name()));
    }
    if which.contains(&Oracle::Garbage)
        && let Some(why) = oracles::garbage(&report.text)
    {
        return text_outcome("a text", &report.text, report.n_generated_tokens, false)
            .because(&format!("garbage: {why}"));
    }
    if which.contains(&Oracle::Arithmetic) && prompt.contains(|c: char| c.is_ascii_digit()) {
        return match oracles::question(prompt) {
            Err(why) => Outcome::not_measured(format!("the arithmetic oracle can't read {prompt:?}: {why}")),
            Ok(question) => {
                let right = oracles::answers(&report.text, question.expected);
                let expected = question.expected.to_string();
                let why = format!("{} is {expected}, the answer was {:?}", question.expression, report.text);
                text_outcome(&expected, &report.text, report.n_generated_tokens, right).because(&why)
            }
        };
    }
    if which.contains(&Oracle::Garbage) {
        return text_outcome("no garbage", &report.text, report.n_generated_tokens, !report.text.trim().is_empty());
    }
    Outcome::not_measured(format!("no oracle of the playbook speaks about {prompt:?}"))
}

fn text_outcome(expected: &str, text: &str, n_tokens: u64, right: bool) -> Outcome {
    Outcome::judge(Measurement::new(
        Unit::Text,
        Side::new("expected", 1, expected),
        Side::new("generated text", n_tokens, text),
        1,
        u64::from(!right),
    ))
}

/// Judges that `apr run` loaded what `apr inspect` saw (gateway G1).
pub fn loads(inspect: &InspectReport, report: &RunReport) -> Outcome {
    let loaded = &report.model;
    let list = [
        Fact::new("format", &inspect.format, &loaded.format),
        Fact::new("architecture", &inspect.architecture, &loaded.architecture),
        Fact::new("tensors", inspect.n_tensors, loaded.n_tensors),
        Fact::new("values", inspect.n_parameters, loaded.n_parameters),
        Fact::new("time to load is a number", true, loaded.n_tensors > 0 && report.times.load_ms.is_finite()),
    ];
    facts("model as inspected", "model as loaded", &list)
}

/// Judges that every answer has a token and a text (gateway G2).
pub fn basic(answers: &[(&str, &RunReport)]) -> Outcome {
    let empty: Vec<&str> = answers
        .iter()
        .filter(|(_, r)| r.tokens.is_empty() || r.text.trim().is_empty())
        .map(|(name, _)| *name)
        .collect();
    let n = answers.len() as u64;
    let n_tokens: u64 = answers.iter().map(|(_, r)| r.tokens.len() as u64).sum();
    if n > 0 && n_tokens == 0 {
        return Outcome::falsified(format!("no token was generated for any of {n} prompts"));
    }
    Outcome::judge(Measurement::new(
        Unit::Text,
        Side::new("prompts", n, format!("{n} texts")),
        Side::new("generated tokens", n_tokens, format!("{} texts", n - empty.len() as u64)),
        n,
        empty.len() as u64,
    ))
    .because(&empty.first().map_or_else(String::new, |name| format!("{name} was answered with nothing")))
}

/// Judges that every process ended by itself (gateway G3).
pub fn stable(commands: &[CommandRecord]) -> Outcome {
    let n = commands.len() as u64;
    let bad: Vec<String> = commands
        .iter()
        .filter_map(|command| {
            let end = match (command.timed_out, command.signal) {
                (true, _) => "was killed at its limit".to_owned(),
                (false, Some(signal)) => format!("was ended by signal {signal}"),
                (false, None) => return None,
            };
            Some(format!("`{}` {end}", command.argv[1..].join(" ")))
        })
        .collect();
    let ended = |n: u64| format!("{n} ended by themselves");
    Outcome::judge(Measurement::new(
        Unit::Facts,
        Side::new("processes started", n, ended(n)),
        Side::new("processes ended", n, ended(n - bad.len() as u64)),
        n,
        bad.len() as u64,
    ))
    .because(bad.first().map_or("", String::as_str))
}

/// Judges that no text is garbage (gateway G4).
pub fn garbage_gateway(answers: &[(&str, &RunReport)]) -> Outcome {
    let texts: Vec<(&str, &RunReport)> = answers.iter().filter(|(_, r)| !r.text.trim().is_empty()).copied().collect();
    let bad: Vec<String> = texts
        .iter()
        .filter_map(|(name, report)| oracles::garbage(&report.text).map(|why| format!("{name}: {why}")))
        .collect();
    let n = texts.len() as u64;
    Outcome::judge(Measurement::new(
        Unit::Text,
        Side::new("texts", n, "no garbage"),
        Side::new("texts judged", n, format!("{} garbage", bad.len())),
        n,
        bad.len() as u64,
    ))
    .because(bad.first().map_or("", String::as_str))
}

/// Judges that two models generated the same token ids for the same prompts.
pub fn golden_text(pairs: &[(&RunReport, &RunReport)]) -> Outcome {
    let ids = |report: &RunReport| report.tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    let (mut n_a, mut n_b, mut compared, mut different) = (0, 0, 0, 0);
    let mut first = String::new();
    for (a, b) in pairs {
        let (ids_a, ids_b) = (ids(a), ids(b));
        let longer = ids_a.len().max(ids_b.len());
        let mismatches = (0..longer).filter(|&i| ids_a.get(i) != ids_b.get(i)).count();
        n_a += ids_a.len() as u64;
        n_b += ids_b.len() as u64;
        compared += longer as u64;
        different += mismatches as u64;
        if mismatches > 0 && first.is_empty() {
            first = format!("{:?} was answered with {:?} and {:?}", a.prompt, a.text, b.text);
        }
        if a.prompt_ids != b.prompt_ids && first.is_empty() {
            return Outcome::falsified(format!("{:?} has different token ids in the two models", a.prompt));
        }
    }
    let compared = compared.min(n_a.max(n_b));
    Outcome::judge(Measurement::new(
        Unit::Text,
        Side::new("tokens of the source", n_a, format!("{} answers", pairs.len())),
        Side::new("tokens of the converted model", n_b, format!("{} answers", pairs.len())),
        compared,
        different.min(compared),
    ))
    .because(&first)
}

/// Judges that two models computed the same logits for the same prompts.
pub fn golden_logits(pairs: &[(&RunReport, &RunReport)]) -> Outcome {
    let mut side = [blake3::Hasher::new(), blake3::Hasher::new()];
    let mut positions = [0u64; 2];
    let mut first = String::new();
    for (a, b) in pairs {
        for (index, report) in [a, b].into_iter().enumerate() {
            let Some(digest) = &report.logits_digest else {
                return Outcome::not_measured(format!(
                    "apr run gave no digest of the logits of {:?}",
                    report.model.path
                ));
            };
            side[index].update(digest.as_bytes());
            positions[index] += report.n_generated_tokens;
        }
        if a.logits_digest != b.logits_digest && first.is_empty() {
            first = format!("the logits after {:?} differ", a.prompt);
        }
    }
    let [a, b] = side.map(|hasher| hasher.finalize().to_hex().to_string());
    let compared = positions[0].min(positions[1]);
    let different = if a == b { 0 } else { compared };
    Outcome::judge(Measurement::new(
        Unit::Logits,
        Side::new("positions of the source", positions[0], a),
        Side::new("positions of the converted model", positions[1], b),
        compared,
        different,
    ))
    .because(&first)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use apr_report::{BackendUsed, GeneratedToken, ModelSummary, OutcomeKind, Report, RunTimes};
    use std::collections::BTreeMap;

    pub(crate) fn run_report(prompt: &str, text: &str) -> RunReport {
        let tokens: Vec<GeneratedToken> = text
            .split_inclusive(' ')
            .filter(|word| !word.is_empty())
            .map(|word| GeneratedToken { id: word.len() as u32, text: word.to_owned() })
            .collect();
        RunReport {
            schema: RunReport::SCHEMA.to_owned(),
            model: ModelSummary {
                path: "model.gguf".to_owned(),
                format: "gguf".to_owned(),
                architecture: "qwen2".to_owned(),
                n_tensors: 14,
                n_parameters: 100,
                main_dtype: "F32".to_owned(),
                file_bytes: 400,
            },
            prompt: prompt.to_owned(),
            system: None,
            prompt_ids: vec![1, 2],
            n_generated_tokens: tokens.len() as u64,
            tokens,
            text: text.to_owned(),
            finish_reason: "stop".to_owned(),
            stop_id: Some(2),
            stop_text: None,
            logprobs: None,
            constraint: None,
            numerics: "exact".to_owned(),
            isa: "scalar".to_owned(),
            threads: 1,
            kv_cache: "f32".to_owned(),
            backend: BackendUsed {
                requested: "cpu".to_owned(),
                used: "cpu".to_owned(),
                device: "cpu".to_owned(),
                reason: "asked for".to_owned(),
            },
            times: RunTimes { load_ms: 1.0, prefill_ms: 1.0, decode_ms: 1.0 },
            n_prompt_tokens: 2,
            decode_tokens_per_second: None,
            logits_digest: Some(blake3::hash(text.as_bytes()).to_hex().to_string()),
            seed: None,
            sampler: BTreeMap::new(),
        }
    }

    const BOTH: &[Oracle] = &[Oracle::Arithmetic, Oracle::Garbage];

    #[test]
    fn answers_are_judged_by_their_text_alone() {
        for (prompt, text, kind) in [
            ("What is 2+2?", "2 + 2 equals 4.", OutcomeKind::Corroborated),
            ("What is 2+2?", "2 + 2 equals 5.", OutcomeKind::Falsified),
            ("What is 2+2?", "4 \u{FFFD}", OutcomeKind::Falsified),
            ("What is 2+2?", "", OutcomeKind::NotMeasured),
            ("What is 2.5 + 1?", "3.5", OutcomeKind::NotMeasured),
            ("Hi", "Hello!", OutcomeKind::Corroborated),
            ("Hi", "<|im_end|>", OutcomeKind::Falsified),
        ] {
            let outcome = answer(&run_report(prompt, text), prompt, Backend::Cpu, BOTH);
            assert_eq!(outcome.kind(), kind, "{prompt} {text}: {}", outcome.reason());
        }
        let only = |oracle| answer(&run_report("Hi", "Hello!"), "Hi", Backend::Cpu, &[oracle]).kind();
        assert_eq!(only(Oracle::Arithmetic), OutcomeKind::NotMeasured);
    }

    #[test]
    fn a_silent_cpu_run_is_no_gpu_run() {
        let outcome = answer(&run_report("What is 2+2?", "4"), "What is 2+2?", Backend::Gpu, BOTH);
        assert!(outcome.reason().contains("gpu was asked for, cpu was used"));
    }

    #[test]
    fn gateways_need_evidence() {
        let (full, empty) = (run_report("a", "one two"), run_report("b", ""));
        assert_eq!(basic(&[]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(basic(&[("a", &full)]).kind(), OutcomeKind::Corroborated);
        assert_eq!(basic(&[("a", &full), ("b", &empty)]).kind(), OutcomeKind::Falsified);
        assert_eq!(basic(&[("b", &empty)]).kind(), OutcomeKind::Falsified);
        assert_eq!(garbage_gateway(&[]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(garbage_gateway(&[("b", &empty)]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(garbage_gateway(&[("a", &full)]).kind(), OutcomeKind::Corroborated);
        assert_eq!(garbage_gateway(&[("x", &run_report("x", "[PAD] [PAD]"))]).kind(), OutcomeKind::Falsified);
        assert_eq!(stable(&[]).kind(), OutcomeKind::NotMeasured);
        let mut command = crate::testing::evidence_file(apr_report::Tier::Mvp, 1, &[]).commands;
        assert_eq!(stable(&command).kind(), OutcomeKind::Corroborated);
        command[0].signal = Some(11);
        assert!(stable(&command).reason().contains("was ended by signal 11"));
        command[0].timed_out = true;
        assert!(stable(&command).reason().contains("killed at its limit"));
    }

    /// The published golden-rule passes compared empty with empty.
    #[test]
    fn empty_against_empty_is_not_measured() {
        let empty = run_report("a", "");
        assert_eq!(golden_text(&[(&empty, &empty)]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(golden_logits(&[(&empty, &empty)]).kind(), OutcomeKind::NotMeasured);
        assert_eq!(golden_text(&[]).kind(), OutcomeKind::NotMeasured);
    }

    #[test]
    fn the_golden_rule_compares_ids_and_logits() {
        let (a, mut b) = (run_report("p", "one two three"), run_report("p", "one two three"));
        assert_eq!(golden_text(&[(&a, &b)]).kind(), OutcomeKind::Corroborated);
        assert_eq!(golden_logits(&[(&a, &b)]).kind(), OutcomeKind::Corroborated);
        b.logits_digest = Some("0".repeat(64));
        assert_eq!(golden_logits(&[(&a, &b)]).kind(), OutcomeKind::Falsified, "same text, other logits");
        b.logits_digest = None;
        assert_eq!(golden_logits(&[(&a, &b)]).kind(), OutcomeKind::NotMeasured);
        b.tokens.pop();
        assert_eq!(golden_text(&[(&a, &b)]).kind(), OutcomeKind::Falsified);
        b = run_report("p", "one two three");
        b.prompt_ids.push(3);
        assert!(golden_text(&[(&a, &b)]).reason().contains("different token ids"));
    }

    #[test]
    fn loading_is_compared_with_inspection() {
        let report = run_report("p", "x");
        let mut inspect: InspectReport = serde_json::from_value(serde_json::json!({
            "schema": "apr.inspect/1", "path": "model.gguf", "format": "gguf", "files": [], "file_bytes": 400,
            "architecture": "qwen2", "spec": {}, "n_tensors": 14, "n_parameters": 100, "dtypes": {}, "tokenizer": null,
            "chat_template": false, "capsule": [], "metadata_keys": [], "tensors": null, "notes": []
        }))
        .unwrap();
        assert_eq!(loads(&inspect, &report).kind(), OutcomeKind::Corroborated);
        inspect.n_parameters = 101;
        assert!(loads(&inspect, &report).reason().contains("values is 100, expected 101"));
    }
}
