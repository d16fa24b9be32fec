//! Are two files the same model? Judged from `apr rosetta verify` and `apr rosetta compare-inference`, whose counts are
//! held against what `apr inspect` says about both files.

use super::{Fact, facts};
use apr_report::{
    CompareInferenceReport, InspectReport, Measurement, MeasurementError, Outcome, Side, Unit, VerifyReport,
    VerifyVerdict,
};
use std::collections::BTreeSet;

/// Judges tensor values: all of them compared, none different.
pub fn values(a: &InspectReport, b: &InspectReport, report: &VerifyReport) -> Outcome {
    let side = |what: &str, inspect: &InspectReport| {
        Side::new(format!("values of the {what}"), inspect.n_parameters, format!("{} tensors", inspect.n_tensors))
    };
    let mut max_abs = Some(0.0f64);
    for difference in &report.differences {
        max_abs = max_abs.zip(difference.max_abs).map(|(a, b)| a.max(b));
    }
    let measurement = Measurement::new(
        Unit::TensorValues,
        side("source", a),
        side("target", b),
        report.n_values_compared,
        report.n_values_different,
    );
    // A difference that is not finite has no largest value; the count says that there is one.
    let measurement = with_figure(measurement, "max_abs", max_abs);
    let told: Vec<String> = report
        .differences
        .iter()
        .take(3)
        .map(|d| {
            let cause = d.cause.as_ref().map_or_else(String::new, |cause| format!(" ({cause})"));
            format!("{}: {:?}, {} against {}{cause}", d.tensor, d.kind, d.a, d.b)
        })
        .collect();
    let outcome = Outcome::judge(measurement).because(&told.join("; "));
    if outcome.kind().is_failure() || report.differences.is_empty() {
        // A verdict that the lists don't explain is a defect of the subject.
        let explained = !report.differences.is_empty()
            || !report.tokenizer_differences.is_empty()
            || !report.spec_differences.is_empty()
            || !report.chat_template_equal;
        if report.verdict == VerifyVerdict::Different && !explained && !outcome.kind().is_failure() {
            return Outcome::falsified("rosetta verify says `different` and lists no difference");
        }
        return outcome;
    }
    Outcome::falsified(format!(
        "rosetta verify lists {} tensors that differ: {}",
        report.differences.len(),
        told.join("; ")
    ))
}

/// Judges logits and token ids for one prompt.
pub fn logits(report: &CompareInferenceReport) -> Outcome {
    if report.tokens_a.is_empty() || report.tokens_b.is_empty() || report.prompt_ids_a.is_empty() {
        let n = (report.tokens_a.len(), report.tokens_b.len());
        return Outcome::not_measured(format!("{} and {} tokens were generated: nothing to compare", n.0, n.1));
    }
    let diagnosis = report.diagnosis.clone().unwrap_or_default();
    if report.prompt_ids_a != report.prompt_ids_b {
        return Outcome::falsified(format!("the prompt has different token ids in the two models; {diagnosis}"));
    }
    let Some(found) = &report.logits else {
        return Outcome::not_measured("compare-inference gave no logits");
    };
    let measurement = Measurement::new(
        Unit::Logits,
        Side::new("logits of the source", found.n_compared, format!("blake3 {}", found.digest_a)),
        Side::new("logits of the target", found.n_compared, format!("blake3 {}", found.digest_b)),
        found.n_compared,
        found.n_different,
    );
    let measurement = with_figure(with_figure(measurement, "max_abs", found.max_abs), "kl_max_nats", found.kl_max);
    let outcome = Outcome::judge(measurement).because(&diagnosis);
    let ids_differ = report.tokens_a.iter().map(|t| t.id).ne(report.tokens_b.iter().map(|t| t.id));
    if !outcome.kind().is_failure()
        && (ids_differ || report.n_token_mismatches > 0 || !found.bits_equal || !report.passed)
    {
        return Outcome::falsified(format!(
            "{} of {} tokens differ, logits equal: {}, passed: {}; {diagnosis}",
            report.n_token_mismatches, report.n_tokens_compared, found.bits_equal, report.passed
        ));
    }
    outcome
}

fn with_figure(
    measurement: Result<Measurement, MeasurementError>,
    name: &str,
    value: Option<f64>,
) -> Result<Measurement, MeasurementError> {
    match value {
        Some(value) => measurement?.with_figure(name, value),
        None => measurement,
    }
}

/// Judges that no tensor and no value was lost or added.
pub fn cardinality(a: &InspectReport, b: &InspectReport) -> Outcome {
    if a.n_tensors == 0 || a.n_parameters == 0 {
        return Outcome::not_measured("the source has no tensors");
    }
    let list = [Fact::new("tensors", a.n_tensors, b.n_tensors), Fact::new("values", a.n_parameters, b.n_parameters)];
    facts("source", "target", &list)
}

/// Judges that the canonical names are the same set.
pub fn names(a: &InspectReport, b: &InspectReport) -> Outcome {
    let names = |report: &InspectReport| -> Option<BTreeSet<String>> {
        report.tensors.as_ref().map(|list| list.iter().map(|tensor| tensor.name.clone()).collect())
    };
    let (Some(names_a), Some(names_b)) = (names(a), names(b)) else {
        return Outcome::not_measured("apr inspect listed no tensors");
    };
    let presence = |set: &BTreeSet<String>, name: &str| if set.contains(name) { "present" } else { "absent" };
    let list: Vec<Fact> = names_a
        .union(&names_b)
        .map(|name| Fact::new(name.clone(), presence(&names_a, name), presence(&names_b, name)))
        .collect();
    facts("names of the source", "names of the target", &list)
}

/// Judges that the tokenizer was kept, in data and in effect.
pub fn tokenizer(
    a: &InspectReport,
    b: &InspectReport,
    verify: &VerifyReport,
    compare: Result<&CompareInferenceReport, &str>,
) -> Outcome {
    let Some(tokenizer) = &a.tokenizer else {
        return Outcome::not_measured("the source has no tokenizer");
    };
    let none = "none".to_owned();
    let summary = |report: &InspectReport| report.tokenizer.as_ref().map_or(none.clone(), |t| format!("{t:?}"));
    let differences = verify.tokenizer_differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let mut list = vec![
        Fact::new("tokenizer", summary(a), summary(b)),
        Fact::new(format!("differences over {} tokens", tokenizer.n_tokens), "", differences),
    ];
    let ids = |ids: &[u32]| format!("{ids:?}");
    if let Ok(compare) = compare {
        list.push(Fact::new("ids of the prompt", ids(&compare.prompt_ids_a), ids(&compare.prompt_ids_b)));
    }
    let outcome = facts("tokenizer of the source", "tokenizer of the target", &list);
    match compare {
        Err(why) if !outcome.kind().is_failure() => {
            Outcome::not_measured(format!("the tokenizers are equal as data, but the models read no prompt: {why}"))
        }
        _ => outcome,
    }
}

/// Judges that hyper-parameters and chat template were kept.
pub fn metadata(a: &InspectReport, b: &InspectReport, verify: &VerifyReport) -> Outcome {
    let mut list = vec![Fact::new("architecture", &a.architecture, &b.architecture)];
    let keys: BTreeSet<&String> = a.spec.keys().chain(b.spec.keys()).collect();
    let text = |report: &InspectReport, key: &String| {
        report.spec.get(key).map_or_else(|| "not stated".to_owned(), ToString::to_string)
    };
    list.extend(keys.into_iter().map(|key| Fact::new(key.clone(), text(a, key), text(b, key))));
    list.push(Fact::new("differences found by verify", "", verify.spec_differences.join("; ")));
    list.push(Fact::new("has a chat template", a.chat_template, b.chat_template));
    list.push(Fact::new("chat templates by name", a.chat_templates.join(", "), b.chat_templates.join(", ")));
    list.push(Fact::new("chat templates are equal", true, verify.chat_template_equal));
    facts("metadata of the source", "metadata of the target", &list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::OutcomeKind;
    use serde_json::{Value, json};

    fn inspect(change: impl FnOnce(&mut Value)) -> InspectReport {
        let tensor = |name: &str| json!({"name": name, "stored_name": name, "dtype": "F32", "shape": [2, 5], "offset": 0, "bytes": 40, "file": "m"});
        let mut value = json!({
            "schema": "apr.inspect/1", "path": "m", "format": "gguf", "files": [], "file_bytes": 80,
            "architecture": "qwen2", "spec": {"vocab_size": 5, "rope_theta": 1000000.0}, "n_tensors": 2,
            "n_parameters": 20, "dtypes": {}, "chat_template": true, "capsule": [], "metadata_keys": [],
            "tokenizer": {"kind": "byte_level_bpe", "n_tokens": 5, "pre": "qwen2", "bos": null, "eos": 4, "stop": [4],
                          "special": [[4, "<|im_end|>"]]},
            "tensors": [tensor("a"), tensor("b")], "notes": []
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn verify(change: impl FnOnce(&mut Value)) -> VerifyReport {
        let mut value = json!({
            "schema": "apr.verify/1", "a": "a", "b": "b", "verdict": "identical", "n_tensors_a": 2, "n_tensors_b": 2,
            "n_tensors_compared": 2, "n_values_compared": 20, "n_values_different": 0, "dtype_differences": [],
            "differences": [], "tokenizer_differences": [], "spec_differences": [], "chat_template_equal": true
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn compare(change: impl FnOnce(&mut Value)) -> CompareInferenceReport {
        let mut value = json!({
            "schema": "apr.compare-inference/1", "a": "a", "b": "b", "prompt": "p", "prompt_ids_a": [1], "prompt_ids_b": [1],
            "tokens_a": [{"id": 3, "text": "x"}], "tokens_b": [{"id": 3, "text": "x"}], "n_tokens_compared": 1,
            "n_token_mismatches": 0, "first_mismatch": null, "text_a": "x", "text_b": "x", "passed": true, "diagnosis": null,
            "logits": {"positions": 1, "n_compared": 5, "n_different": 0, "max_abs": 0.0, "kl_max": 0.0, "argmax_equal": 1,
                       "bits_equal": true, "digest_a": "d", "digest_b": "d"}
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn equal_models_pass_and_nothing_compared_never_does() {
        let (a, b) = (inspect(|_| ()), inspect(|_| ()));
        assert_eq!(values(&a, &b, &verify(|_| ())).kind(), OutcomeKind::Corroborated);
        assert_eq!(logits(&compare(|_| ())).kind(), OutcomeKind::Corroborated);
        let nothing = verify(|v| {
            v["n_values_compared"] = json!(0);
            v["n_tensors_compared"] = json!(0);
        });
        assert_eq!(values(&a, &b, &nothing).kind(), OutcomeKind::NotMeasured);
        let no_tokens = compare(|v| {
            v["tokens_a"] = json!([]);
            v["tokens_b"] = json!([]);
        });
        assert_eq!(logits(&no_tokens).kind(), OutcomeKind::NotMeasured, "0 tokens compared must not pass");
        assert_eq!(logits(&compare(|v| v["logits"] = Value::Null)).kind(), OutcomeKind::NotMeasured);
        let empty = inspect(|v| v["n_tensors"] = json!(0));
        assert_eq!(cardinality(&empty, &empty).kind(), OutcomeKind::NotMeasured);
    }

    /// Each line is a way in which a report shows a difference, alone.
    #[test]
    fn every_sign_of_a_difference_falsifies() {
        let (a, b) = (inspect(|_| ()), inspect(|_| ()));
        let difference = json!([{"tensor": "a", "layer": 0, "kind": "values", "n_different": 1, "max_abs": 0.5, "first_index": 3,
                                 "a": "1", "b": "1.5", "cause": "bit"}]);
        for report in [
            verify(|v| v["n_values_different"] = json!(1)),
            verify(|v| v["n_values_compared"] = json!(19)),
            verify(|v| v["differences"] = difference.clone()),
            verify(|v| v["verdict"] = json!("different")),
        ] {
            assert_eq!(values(&a, &b, &report).kind(), OutcomeKind::Falsified, "{report:?}");
        }
        let fewer = inspect(|v| v["n_parameters"] = json!(10));
        assert_eq!(values(&a, &fewer, &verify(|_| ())).kind(), OutcomeKind::Falsified);
        for report in [
            compare(|v| v["prompt_ids_b"] = json!([2])),
            compare(|v| v["tokens_b"][0]["id"] = json!(4)),
            compare(|v| v["n_token_mismatches"] = json!(1)),
            compare(|v| v["passed"] = json!(false)),
            compare(|v| v["logits"]["digest_b"] = json!("e")),
            compare(|v| v["logits"]["n_different"] = json!(1)),
            compare(|v| v["logits"]["bits_equal"] = json!(false)),
        ] {
            assert_eq!(logits(&report).kind(), OutcomeKind::Falsified, "{report:?}");
        }
    }

    #[test]
    fn names_counts_tokenizer_and_metadata_are_compared() {
        let a = inspect(|_| ());
        assert_eq!(cardinality(&a, &a).kind(), OutcomeKind::Corroborated);
        assert_eq!(names(&a, &a).kind(), OutcomeKind::Corroborated);
        assert_eq!(tokenizer(&a, &a, &verify(|_| ()), Ok(&compare(|_| ()))).kind(), OutcomeKind::Corroborated);
        assert_eq!(metadata(&a, &a, &verify(|_| ())).kind(), OutcomeKind::Corroborated);

        let renamed = inspect(|v| v["tensors"][1]["name"] = json!("c"));
        assert!(names(&a, &renamed).reason().contains("b is absent, expected present"));
        let fewer = inspect(|v| v["n_tensors"] = json!(1));
        assert_eq!(cardinality(&a, &fewer).kind(), OutcomeKind::Falsified);

        let lost = inspect(|v| v["tokenizer"] = Value::Null);
        assert_eq!(tokenizer(&a, &lost, &verify(|_| ()), Ok(&compare(|_| ()))).kind(), OutcomeKind::Falsified);
        let split = verify(|v| v["tokenizer_differences"] = json!(["token 4 is Control against Normal"]));
        assert_eq!(tokenizer(&a, &a, &split, Ok(&compare(|_| ()))).kind(), OutcomeKind::Falsified);
        assert_eq!(tokenizer(&a, &a, &verify(|_| ()), Err("exit 8")).kind(), OutcomeKind::NotMeasured);
        assert_eq!(tokenizer(&a, &lost, &verify(|_| ()), Err("no tokenizer")).kind(), OutcomeKind::Falsified);
        assert_eq!(tokenizer(&lost, &lost, &verify(|_| ()), Ok(&compare(|_| ()))).kind(), OutcomeKind::NotMeasured);

        let theta = inspect(|v| v["spec"]["rope_theta"] = json!(10000.0));
        assert!(metadata(&a, &theta, &verify(|_| ())).reason().contains("rope_theta is 10000.0, expected 1000000.0"));
        assert_eq!(
            metadata(&a, &a, &verify(|v| v["chat_template_equal"] = json!(false))).kind(),
            OutcomeKind::Falsified
        );
        let found = verify(|v| v["spec_differences"] = json!(["rms_norm_eps: 1e-6 against 1e-5"]));
        assert_eq!(metadata(&a, &a, &found).kind(), OutcomeKind::Falsified);
    }
}
