//! `apr run` from outside: prompts, settings, what it prints and how it ends.

mod support;

use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use support::{code, golden, golden_tensor, json, nano, repository, run, stderr, stdout};

const TINY: &str = "builtin:tiny";
const QUESTION: &str = "What is 2+2?";
/// The answer of Transformers, `models/tiny-qwen2/golden.json`.
const ANSWER: &str = "2 + 2 equals 4.";

fn ok(arguments: &[&str]) -> Output {
    let output = run(arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
    output
}

fn report(arguments: &[&str]) -> Value {
    json(&ok(&[arguments, &["--json"]].concat()))
}

/// What a failing command says, with its status.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    assert_eq!(stdout(&output), "", "{arguments:?}");
    (code(&output), stderr(&output))
}

#[test]
fn a_prompt_comes_from_an_argument_an_option_a_pipe_or_a_file() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("prompt.txt");
    std::fs::write(&file, QUESTION).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [&[QUESTION] as &[&str], &["-p", QUESTION], &["-f", file], &["--file", file]] {
        assert_eq!(stdout(&ok(&[&["run", TINY], arguments].concat())), format!("{ANSWER}\n"), "{arguments:?}");
    }
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    let piped = apr.args(["run", TINY, "-"]).write_stdin(QUESTION).output().unwrap();
    assert_eq!(stdout(&piped), format!("{ANSWER}\n"));

    std::fs::write(work.path().join("latin1.txt"), b"caf\xe9 au lait").unwrap();
    let latin1 = work.path().join("latin1.txt").to_str().unwrap().to_owned();
    let (status, said) = failure(&["run", TINY, "-f", &latin1]);
    assert_eq!(status, 7);
    assert!(said.contains("latin1.txt: byte 0xe9 at offset 3 is not UTF-8"), "{said}");
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    let piped = apr.args(["run", TINY, "-"]).write_stdin(b"\xff".as_slice()).output().unwrap();
    assert!(stderr(&piped).contains("standard input: byte 0xff at offset 0"), "{}", stderr(&piped));
    assert_eq!(failure(&["run", TINY, "-f", "/no/such/file"]).0, 3);
    assert_eq!(failure(&["run", TINY, "a", "-f", file]).0, 2);
    assert_eq!(failure(&["run", TINY, "-p", "a", "-f", file]).0, 2);
}

#[test]
fn a_system_message_gives_the_ids_of_transformers() {
    let golden = golden("tiny-qwen2");
    let cases = golden["chat_template_cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == "system_user").unwrap();
    let said = |i: usize| case["messages"][i]["content"].as_str().unwrap();
    let report = report(&["run", TINY, said(1), "--system", said(0)]);
    assert_eq!(report["prompt_ids"], case["ids"]);
    assert_eq!(report["system"], case["messages"][0]["content"]);
    assert_eq!(report["text"], "7 * 8 equals 56.");
    assert_eq!(failure(&["run", TINY, "hi", "--system", "x", "--raw"]).0, 2);
    let llama = repository("models/nano-llama");
    let (status, said) = failure(&["run", llama.to_str().unwrap(), "hi", "--system", "x"]);
    assert_eq!(status, 6);
    assert!(said.contains("no chat template"), "{said}");
}

#[test]
fn a_chat_template_can_be_given() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("template.jinja");
    std::fs::write(&file, "{% for m in messages %}{{ m.content }}{% endfor %}").unwrap();
    let given = report(&["run", TINY, "Once upon a time", "-n", "4", "--chat-template", file.to_str().unwrap()]);
    let raw = report(&["run", TINY, "Once upon a time", "-n", "4", "--raw"]);
    assert_eq!((&given["prompt_ids"], &given["logits_digest"]), (&raw["prompt_ids"], &raw["logits_digest"]));
    std::fs::write(&file, "{% for %}").unwrap();
    assert_eq!(failure(&["run", TINY, "x", "--chat-template", file.to_str().unwrap()]).0, 6);
}

#[test]
fn one_of_several_templates_is_chosen_by_its_name() {
    let work = tempfile::tempdir().unwrap();
    let tiny = repository("models/tiny-qwen2");
    for name in ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json"] {
        std::os::unix::fs::symlink(tiny.join(name), work.path().join(name)).unwrap();
    }
    let config = std::fs::read(tiny.join("tokenizer_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let default = config["chat_template"].take();
    let bare = serde_json::json!("{% for m in messages %}{{ m.content }}{% endfor %}");
    let mut write = |templates: serde_json::Value| {
        config["chat_template"] = templates;
        std::fs::write(work.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    };
    let entry = |name: &str, template: &serde_json::Value| serde_json::json!({"name": name, "template": template});
    write(serde_json::json!([entry("default", &default), entry("bare", &bare)]));
    let model = work.path().to_str().unwrap();
    let of =
        |model: &str, more: &[&str]| report(&[&["run", model, "2+2", "-n", "1"], more].concat())["prompt_ids"].clone();
    let ids = |more: &[&str]| of(model, more);
    let of_tiny = |more: &[&str]| of(TINY, more);
    assert_eq!(ids(&[]), of_tiny(&[]));
    assert_eq!(ids(&["--chat-template", "default"]), of_tiny(&[]));
    assert_eq!(ids(&["--chat-template", "bare"]), of_tiny(&["--raw"]));
    let (status, said) = failure(&["run", model, "2+2", "--chat-template", "tool_use"]);
    assert!(status != 0 && said.contains("the model's chat templates are default, bare"), "{said}");
    assert!(stdout(&ok(&["inspect", model])).contains("chat template default, bare"));

    write(serde_json::json!([entry("bare", &bare)]));
    let (status, said) = failure(&["run", model, "2+2"]);
    assert!(status == 2 && said.contains("none of the model's chat templates is its default"), "{said}");
    assert_eq!(ids(&["--chat-template", "bare"]), of_tiny(&["--raw"]));
    assert_eq!(ids(&["--raw"]), of_tiny(&["--raw"]));
    assert_eq!(report(&["inspect", model])["chat_templates"], serde_json::json!(["bare"]));
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_shown_also_across_tokens() {
    let question: &[&str] = &["run", TINY, QUESTION];
    for (stops, expected, found) in [
        (&["equals"] as &[&str], "2 + 2 ", Some("equals")),
        (&["+ 2 eq"], "2 ", Some("+ 2 eq")),
        (&["nothing", "4."], "2 + 2 equals ", Some("4.")),
        (&["2"], "", Some("2")),
        (&["equals 5", "4.."], ANSWER, None),
    ] {
        let options: Vec<&str> = stops.iter().flat_map(|&stop| ["--stop", stop]).collect();
        let report = report(&[question, &options].concat());
        assert_eq!(report["text"], expected, "{stops:?}");
        assert_eq!(report["stop_text"].as_str(), found, "{stops:?}");
        assert_eq!(report["finish_reason"], "stop");
        assert_eq!(report["stop_id"].is_null(), found.is_some(), "{stops:?}: a token or a text ends it");
        assert_eq!(stdout(&ok(&[question, &options].concat())), format!("{expected}\n"), "{stops:?}");
    }
    let (status, said) = failure(&[question, &["--stop", ""]].concat());
    assert!(status == 2 && said.contains("--stop"), "{said}");
}

#[test]
fn sampling_settings_are_checked_and_a_temperature_samples() {
    for (option, value) in [
        ("--temp", "-1"),
        ("--temp", "nan"),
        ("--temp", "inf"),
        ("--temp", "1e9"),
        ("--top-p", "0"),
        ("--top-p", "1.5"),
        ("--top-p", "-0.5"),
        ("--min-p", "-1"),
        ("--min-p", "2"),
        ("--repeat-penalty", "0"),
        ("--repeat-penalty", "-3"),
        ("--repeat-penalty", "nan"),
        ("--top-k", "-1"),
        ("--repeat-last-n", "-1"),
        ("--seed", "-1"),
    ] {
        let (status, said) = failure(&["run", TINY, "hi", option, value]);
        assert_eq!(status, 2, "{option} {value}: {said}");
        assert!(said.contains(option), "{option} {value}: {said}");
    }
    let told = |seed: &str, more: &[&str]| {
        let story: &[&str] = &["run", TINY, "Once upon a time", "--raw", "-n", "24", "--seed", seed];
        report(&[story, more].concat())["text"].as_str().unwrap().to_owned()
    };
    let mut stories: Vec<String> = ["1", "2", "3", "4"].iter().map(|seed| told(seed, &["--temp", "0.8"])).collect();
    assert_eq!(stories[0], told("1", &["--temp", "0.8"]), "a seed gives one story");
    stories.sort();
    stories.dedup();
    assert!(stories.len() > 1, "the default top-k must not turn a temperature into greedy decoding");
    assert_eq!(told("1", &[]), told("2", &[]), "greedy decoding has no seed");
    assert_eq!(told("1", &["--temp", "0.8", "--top-k", "1"]), told("1", &[]));
    let far = told("1", &["--repeat-penalty", "1.8", "--repeat-last-n", "64"]);
    let none = told("1", &["--repeat-penalty", "1.8", "--repeat-last-n", "0"]);
    assert_ne!(far, none);
    assert_eq!(none, told("1", &[]), "a window of no tokens penalises nothing");
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    let directory = repository("models/nano-qwen2");
    let model = directory.to_str().unwrap();
    let report = report(&["run", model, "Once upon a time", "--raw", "-n", "2", "--logprobs", "5"]);
    let positions = report["logprobs"].as_array().unwrap();
    assert_eq!(positions.len(), 2);
    let logits = golden_tensor("nano-qwen2", "logits/raw00");
    let max = logits.iter().fold(f64::MIN, |max, &x| max.max(f64::from(x)));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    let expected = |id: usize| f64::from(logits[id]) - max - sum.ln();
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let top = positions[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 5);
    for (found, &id) in top.iter().zip(&ids) {
        assert_eq!(found["id"], id);
        assert!((found["logprob"].as_f64().unwrap() - expected(id)).abs() < 1e-4, "{found}, {}", expected(id));
    }
    for (position, token) in positions.iter().zip(report["tokens"].as_array().unwrap()) {
        assert_eq!(position["chosen"]["id"], token["id"]);
        assert_eq!(position["chosen"], position["top"][0], "greedy takes the most probable");
    }
    let plain = json(&ok(&["run", model, "Once upon a time", "--raw", "-n", "2", "--json"]));
    assert!(plain["logprobs"].is_null());
    let text = stdout(&ok(&["run", model, "Once upon a time", "--raw", "-n", "2", "--logprobs"]));
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.contains("most probable")).skip(1).collect();
    assert_eq!(rows.len(), 2, "{text}");
}

/// The lines of the report "Verbose Mode UX Falsification", each on its own.
#[test]
fn f_ux_027_to_040_verbose_lines() {
    let gguf = nano("Q8_0");
    let directory = repository("models/nano-qwen2").to_str().unwrap().to_owned();
    for (model, architecture, quant) in
        [(gguf.as_str(), "Qwen2 [GGUF: qwen2]", "Q8_0"), (&directory, "Qwen2ForCausalLM [SafeTensors: qwen2]", "BF16")]
    {
        let said = stderr(&ok(&["run", model, "hi", "-n", "2", "-t", "2", "--verbose"]));
        let lines: Vec<&str> = said.lines().collect();
        let has = |line: &str| assert!(lines.contains(&line), "{line:?} is missing in {said}");
        let line = |start: &str| *lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{said}"));
        let measured = |start: &str, end: &str| {
            let figure = line(start).strip_prefix(start).unwrap().split(end).next().unwrap();
            assert!(figure.parse::<f64>().is_ok_and(|n| n >= 0.0), "{figure:?} in {said}");
        };
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text:?} in {said}"));

        assert_eq!(lines[0], "=== APR Run ===");
        has(&format!("Source: {model}")); // F-UX-027
        let size = line("Using mmap for ").strip_prefix("Using mmap for ").unwrap();
        number(size.strip_suffix("MB model").unwrap()); // F-UX-028
        has("Loading model: ...");
        // F-UX-029, 030, 031
        has(&format!("Architecture: {architecture} (2 layers, vocab_size=512)"));
        measured("Model loaded in ", "ms"); // F-UX-032
        let backend = line("Backend: ");
        assert!(backend.starts_with("Backend: CPU (SIMD-accelerated)") || backend.starts_with("Backend: CPU (scalar)")); // F-UX-033
        assert!(!said.contains("VRAM") && !said.contains("GPU"), "F-UX-034 and 035 are about a GPU: {said}");
        // F-UX-036, 037, 038, 039
        has(&format!("Config: hidden_size=64, context_length=2048, quant={quant}, threads=2"));
        assert_eq!(lines[lines.len() - 2], "Output:");
        measured("Completed in ", "s"); // F-UX-040
    }
    let quiet = ok(&["run", &gguf, "hi", "-n", "2"]);
    assert_eq!(stderr(&quiet), "");
}

#[cfg(feature = "grammar")]
#[test]
fn an_answer_is_held_to_a_grammar() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("sum.lark");
    std::fs::write(&file, "start: NUMBER \" plus \" NUMBER\nNUMBER: /[0-9]{1,3}/\n").unwrap();
    let file = file.to_str().unwrap();
    let sampled: Vec<[String; 4]> =
        (0..4).map(|seed: u32| ["--temp", "1.5", "--seed", &seed.to_string()].map(str::to_owned)).collect();
    let mut settings: Vec<Vec<&str>> = vec![vec![]];
    settings.extend(sampled.iter().map(|options| options.iter().map(String::as_str).collect()));
    for options in settings {
        let report = report(&[&["run", TINY, QUESTION, "--grammar", file], options.as_slice()].concat());
        let text = report["text"].as_str().unwrap();
        let (a, b) = text.split_once(" plus ").unwrap_or_else(|| panic!("{text:?}"));
        for number in [a, b] {
            assert!((1..=3).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit()), "{text:?}");
        }
        assert_eq!(report["constraint"], "grammar");
        assert!(["stop", "complete"].contains(&report["finish_reason"].as_str().unwrap()), "{report}");
    }

    // What the model says anyway is said in the same way under a grammar that allows it.
    std::fs::write(work.path().join("any.lark"), "start: /(.|\\n)*/\n").unwrap();
    let any = work.path().join("any.lark").to_str().unwrap().to_owned();
    let (free, held) = (report(&["run", TINY, QUESTION]), report(&["run", TINY, QUESTION, "--grammar", &any]));
    for key in ["tokens", "text", "logits_digest", "stop_id"] {
        assert_eq!(free[key], held[key], "{key}");
    }

    for (name, text, says) in [
        ("bad.lark", "start: missing_rule", "missing_rule"),
        ("bad.gbnf", "root ::= \"a\"", "GBNF"),
        ("bad_regex.lark", "start: /[/", "unclosed character class"),
        ("empty.lark", "", "grammar"),
    ] {
        std::fs::write(work.path().join(name), text).unwrap();
        let path = work.path().join(name).to_str().unwrap().to_owned();
        let (status, said) = failure(&["run", TINY, QUESTION, "--grammar", &path]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains(says), "{name}: {said}");
    }
    std::fs::write(file, "start: start\n").unwrap();
    let (status, said) = failure(&["run", TINY, QUESTION, "--grammar", file]);
    assert!(status == 8 && said.contains("after 0 tokens the grammar allows no token"), "{status} {said}");
}

#[cfg(feature = "grammar")]
#[test]
fn an_answer_is_json_that_a_schema_accepts() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "sum": { "type": "integer", "minimum": 0, "maximum": 20 },
            "sure": { "enum": ["yes", "no"] },
            "steps": { "type": "array", "items": { "type": "boolean" }, "maxItems": 2 },
        },
        "required": ["sum", "sure", "steps"],
        "additionalProperties": false,
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("schema.json");
    std::fs::write(&file, schema.to_string()).unwrap();
    let (file, inline) = (file.to_str().unwrap(), schema.to_string());
    for given in [file, &inline] {
        for options in
            [&[] as &[&str], &["--temp", "1", "--seed", "5"], &["--temp", "2", "--seed", "6", "--top-k", "50"]]
        {
            let report = report(&[&["run", TINY, QUESTION, "--json-schema", given], options].concat());
            let text = report["text"].as_str().unwrap();
            let answer: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
            assert!(validator.is_valid(&answer), "{answer}");
            assert_eq!(report["constraint"], "json_schema");
        }
    }
    assert_eq!(failure(&["run", TINY, "x", "--json-schema", "{"]).0, 2);
    assert_eq!(failure(&["run", TINY, "x", "--json-schema", "/no/such/schema.json"]).0, 3);
    let (status, said) = failure(&["run", TINY, "x", "--json-schema", "{\"type\": \"frob\"}"]);
    assert!(status == 2 && said.contains("frob"), "{said}");
    assert_eq!(failure(&["run", TINY, "x", "--json-schema", file, "--grammar", file]).0, 2);
}

/// A story that may not end for a long time, stopped shortly after its begin.
#[cfg(feature = "grammar")]
fn interrupted(ignored: &[&str], more: &[&str]) -> Output {
    let grammar = tempfile::NamedTempFile::with_suffix(".lark").unwrap();
    std::fs::write(grammar.path(), "start: /[a-z ]{4000}/\n").unwrap();
    let mut child = support::apr_ignoring(ignored)
        .arg("run")
        .args([&nano("F32"), "Once upon a time", "-n", "100000", "-v", "--grammar"])
        .arg(grammar.path())
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut first = [0; 1];
    let pipe = child.stderr.as_mut().unwrap();
    while !said.ends_with(b"Output:\n") {
        assert_eq!(pipe.read(&mut first).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(first[0]);
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    support::send("INT", &child);
    let mut output = child.wait_with_output().unwrap();
    said.append(&mut output.stderr);
    Output { stderr: said, ..output }
}

#[cfg(feature = "grammar")]
#[test]
fn an_interrupted_run_reports_what_it_has() {
    for ignored in [&[][..], &["HUP"]] {
        let output = interrupted(ignored, &[]);
        assert_eq!(code(&output), 130, "{output:?}");
        let said = stderr(&output);
        assert!(said.contains("cancelled)") && said.contains("note: interrupted after "), "{said}");
        let output = interrupted(ignored, &["--json"]);
        assert_eq!(code(&output), 130, "{output:?}");
        let report = json(&output);
        assert_eq!(report["finish_reason"], "cancelled");
        assert_eq!(report["n_generated_tokens"], report["tokens"].as_array().unwrap().len());
        let decoded: String =
            report["tokens"].as_array().unwrap().iter().map(|token| token["text"].as_str().unwrap()).collect();
        assert_eq!(report["text"], decoded.as_str(), "the text so far");
        assert!(report["times"]["prefill_ms"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_prompt_that_does_not_fit_names_its_length_and_the_limit() {
    for (arguments, says) in [
        (&["-c", "16"] as &[&str], "prompt of 26 tokens exceeds the session's limit of 16 tokens"),
        (&["-c", "16"], "the model's context is 2048 tokens"),
    ] {
        let (status, said) = failure(&[&["run", &nano("Q8_0"), QUESTION], arguments].concat());
        assert!(status == 8 && said.contains(says), "{status} {said}");
    }
    let long = "word ".repeat(3000);
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    let output = apr.args(["run", &nano("Q8_0"), "-"]).write_stdin(long).output().unwrap();
    assert_eq!(code(&output), 8);
    assert!(stderr(&output).contains("exceeds the model's context of 2048 tokens"), "{}", stderr(&output));
    let (status, said) = failure(&["run", &nano("Q8_0"), "hi", "-c", "4096"]);
    assert!(status == 2 && said.contains("4096") && said.contains("2048"), "{said}");
}

/// A character of several tokens is shown once it is whole, before the answer has ended.
#[test]
fn characters_are_shown_as_they_are_completed() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_apr"))
        .args(["run", TINY, "-", "--raw", "-n", "40"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("Once upon a time".as_bytes()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    let n_first = stdout.read(&mut buffer).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(n_first > 0 && std::str::from_utf8(&buffer[..n_first]).is_ok());
    assert!(!rest.is_empty(), "the whole answer came at once: {:?}", String::from_utf8_lossy(&buffer[..n_first]));
}
