//! `apr tokenize` and `apr embed` against Transformers.

mod support;

use serde_json::Value;
use support::{code, golden, golden_tensor, json, nano, repository, run, stderr, stdout};

fn failure(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    assert_eq!(stdout(&output), "", "{arguments:?}");
    (code(&output), stderr(&output))
}

fn report(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
    json(&output)
}

#[test]
fn tokens_are_those_of_transformers() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("text");
    let file = file.to_str().unwrap();
    let qwen = nano("Q8_0");
    let llama = repository("models/nano-llama/gguf/nano-llama-Q8_0.gguf").to_str().unwrap().to_owned();
    for (golden, model) in [(golden("nano-qwen2"), &qwen), (golden("nano-llama"), &llama)] {
        let cases = golden["tokenizer_cases"].as_array().unwrap();
        assert!(cases.len() > 30);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            std::fs::write(file, text).unwrap();
            let report = report(&["tokenize", model, "-f", file]);
            assert_eq!((&report["ids"], &report["text"]), (&case["ids"], &case["text"]), "{text:?}");
            let pieces: Vec<&Value> = report["tokens"].as_array().unwrap().iter().map(|t| &t["piece"]).collect();
            assert_eq!(pieces, case["pieces"].as_array().unwrap().iter().collect::<Vec<_>>(), "{text:?}");
            assert_eq!((&report["n_tokens"], &report["n_bytes"]), (&pieces.len().into(), &text.len().into()));
        }
    }
}

#[test]
fn ids_become_the_text_of_transformers() {
    let golden = golden("nano-qwen2");
    for case in golden["tokenizer_cases"].as_array().unwrap() {
        let ids: Vec<String> = case["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
        if ids.is_empty() {
            continue;
        }
        let found = report(&["tokenize", &nano("Q8_0"), "--decode", &ids.join(",")]);
        assert_eq!((&found["text"], &found["direction"]), (&case["decoded"], &"decode".into()), "{case}");
    }
    let plain = run(&["tokenize", &nano("Q8_0"), "--decode", "17", "282", "502"]);
    assert_eq!(stdout(&plain), "2 +<|im_end|>\n");
    let plain = run(&["tokenize", &nano("Q8_0"), "--no-special", "--decode", "17", "282", "502"]);
    assert_eq!(stdout(&plain), "2 +\n");
    let (status, said) = failure(&["tokenize", &nano("Q8_0"), "--decode", "99999"]);
    assert!(status == 2 && said.contains("--decode 99999: expected an id less than "), "{said}");
}

#[test]
fn a_table_of_tokens_ends_with_their_number() {
    let llama = repository("models/nano-llama/gguf/nano-llama-Q8_0.gguf").to_str().unwrap().to_owned();
    let with = report(&["tokenize", &llama, "Once"]);
    let without = report(&["tokenize", &llama, "Once", "--no-special"]);
    assert_eq!((&with["ids"][0], &with["tokens"][0]["special"]), (&1.into(), &true.into()), "the begin token");
    assert_eq!(with["ids"].as_array().unwrap()[1..], without["ids"].as_array().unwrap()[..]);
    let text = stdout(&run(&["tokenize", &llama, "Once"]));
    assert!(text.ends_with(&format!("\n{} tokens, 4 bytes\n", with["n_tokens"])), "{text}");
    assert_eq!(text.lines().count() as u64, with["n_tokens"].as_u64().unwrap() + 2);
    // A vocabulary without weights is enough.
    let vocabulary = repository("fixtures/vocab/ggml-vocab-qwen2.gguf").to_str().unwrap().to_owned();
    assert_eq!(report(&["tokenize", &vocabulary, "Hello world"])["ids"], serde_json::json!([9707, 1879]));
    let (status, said) = failure(&["tokenize", &llama]);
    assert!(status == 2 && said.contains("no text was given"), "{said}");
}

fn values(embedding: &Value) -> Vec<f64> {
    embedding["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
}

/// `hidden/<layers>` of the goldens is the state after the final norm.
#[test]
fn embeddings_are_the_hidden_states_of_transformers() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("text");
    let file = file.to_str().unwrap();
    for (name, last_layer) in [("nano-qwen2", 2), ("nano-qwen3", 2), ("nano-llama", 2), ("tiny-qwen2", 4)] {
        let golden = golden(name);
        let model = repository(&format!("models/{name}")).to_str().unwrap().to_owned();
        let prompts = golden["prompts"].as_array().unwrap();
        let prompt = prompts.iter().find(|prompt| prompt["id"] == golden["layer_prompt"]).unwrap();
        std::fs::write(file, prompt["text"].as_str().unwrap()).unwrap();
        let states = golden_tensor(name, &format!("hidden/{last_layer}"));
        let n = prompt["ids"].as_array().unwrap().len();
        let rows: Vec<Vec<f64>> =
            states.chunks_exact(states.len() / n).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
        let mean: Vec<f64> =
            (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n as f64).collect();
        for (pooling, expected) in [("mean", &mean), ("last", &rows[n - 1]), ("first", &rows[0]), ("cls", &rows[0])] {
            let report = report(&["embed", &model, "-f", file, "--pooling", pooling]);
            assert_eq!(report["embeddings"][0]["ids"], prompt["ids"], "{name}");
            assert_eq!(report["dimension"], expected.len());
            close(&values(&report["embeddings"][0]), expected);
            let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
            let unit: Vec<f64> = expected.iter().map(|v| v / length).collect();
            let report = self::report(&["embed", &model, "-f", file, "--pooling", pooling, "--normalize"]);
            close(&values(&report["embeddings"][0]), &unit);
        }
    }
}

#[test]
fn each_line_is_a_text_and_text_output_is_a_line_of_values() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("lines");
    std::fs::write(&file, "Once upon a time\nWhat is 2+2?\n").unwrap();
    let file = file.to_str().unwrap();
    let together = report(&["embed", &nano("Q8_0"), "-f", file, "--lines"]);
    let texts = ["Once upon a time", "What is 2+2?"];
    assert_eq!(together["embeddings"].as_array().unwrap().len(), 2);
    for (embedding, text) in together["embeddings"].as_array().unwrap().iter().zip(texts) {
        assert_eq!(embedding, &report(&["embed", &nano("Q8_0"), text])["embeddings"][0], "{text}");
    }
    let text = stdout(&run(&["embed", &nano("Q8_0"), "-f", file, "--lines"]));
    let lines: Vec<Vec<f64>> =
        text.lines().map(|line| line.split(' ').map(|v| f64::from(v.parse::<f32>().unwrap())).collect()).collect();
    for (line, embedding) in lines.iter().zip(together["embeddings"].as_array().unwrap()) {
        let values: Vec<f64> = values(embedding).into_iter().map(|v| f64::from(v as f32)).collect();
        assert_eq!(line, &values);
    }
    let one = report(&["embed", &nano("Q8_0"), "-f", file, "-t", "1"]);
    let two = report(&["embed", &nano("Q8_0"), "-f", file, "-t", "2"]);
    assert_eq!(one["embeddings"], two["embeddings"]);

    std::fs::write(file, "a\n\nb\n").unwrap();
    let (status, said) = failure(&["embed", &nano("Q8_0"), "-f", file, "--lines"]);
    assert!(status == 2 && said.contains("line 2: no tokens"), "{said}");
    for pooling in ["mean", "last", "first"] {
        let (status, said) = failure(&["embed", &nano("Q8_0"), "What is 2+2?", "-c", "4", "--pooling", pooling]);
        assert!(status == 8 && said.contains("limit of 4 tokens"), "{pooling} {said}");
    }
}
