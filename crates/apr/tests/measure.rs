//! `bench`, `profile` and `eval` from outside. No test depends on how fast this machine is.

mod support;

use apr_report::{
    BenchPhase, BenchReport, EvalReport, ExitCode, PhaseProfile, ProfileCiReport, ProfileCompareReport, ProfileReport,
    Report, from_json,
};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use support::{apr_ignoring, code, json, nano, repository, run, send};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report<R: Report>(arguments: &[&str]) -> R {
    let output = run(&[arguments, &["--json"]].concat());
    from_json(&stdout(&output)).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {output:?}"))
}

/// The command ends with this status, says this, and gives the error as an object with `--json`.
fn refused(arguments: &[&str], expected: i32, says: &str) {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), expected, "{arguments:?}: {output:?}");
    assert!(said.contains(says), "{arguments:?}: {said:?} should say {says:?}");
    assert_eq!(stdout(&output), "", "{arguments:?}: an error is conversation");
    let error = json(&run(&[arguments, &["--json"]].concat()));
    assert_eq!((&error["schema"], &error["error"]["code"]), (&"apr.error/1".into(), &expected.into()), "{error}");
}

/// Equal but for the rounding of float32 logits.
fn near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 2e-5 * expected.abs() + 1e-6, "{what}: {found}, expected {expected}");
}

const SMALL: [&str; 8] = ["-p", "20", "-n", "3", "-r", "2", "-t", "1"];

#[test]
fn bench_times_loading_prompts_and_generation() {
    let (q8, f16) = (nano("Q8_0"), nano("F16"));
    let arguments = ["bench", &q8, &f16, "-p", "20,7", "-n", "3", "-d", "0,5", "-t", "1,2", "-r", "2"];
    let report: BenchReport = report(&arguments);
    assert_eq!((report.models.len(), report.repetitions), (2, 2));
    assert_eq!(report.models[0].main_dtype, "Q8_0");
    let names: Vec<_> = report.tests.iter().map(|test| test.test.as_str()).collect();
    let one = ["load", "pp20", "pp7", "tg3", "pp20 @ d5", "pp7 @ d5", "tg3 @ d5"];
    assert_eq!(names, one.repeat(4));
    for test in &report.tests {
        assert_eq!((test.absent.as_ref(), test.samples_ms.len()), (None, 2), "{test:?}");
        assert!(test.samples_ms.iter().all(|&ms| ms > 0.0), "{test:?}");
        let ms = test.elapsed_ms.unwrap();
        assert!(ms.min <= ms.median && ms.median <= ms.max, "{test:?}");
        assert!(test.rooflines.read_bytes_per_second.value.unwrap() > 0.0);
        assert!(test.rooflines.multiply_adds_per_second.value.unwrap() > 0.0);
        if test.phase == BenchPhase::Load {
            let load = test.load.unwrap();
            assert!(load.open_ms.median + load.plan_ms.median + load.first_prefill_ms.median <= 2.0 * ms.max);
            assert_eq!((test.tokens_per_second, test.roofline), (None, None));
        } else {
            let rate = test.tokens_per_second.unwrap();
            near(rate.median, test.n_tokens as f64 / (ms.median / 1e3), "tokens per second");
            assert!(rate.min <= rate.median && rate.median <= rate.max);
            let share = test.roofline.unwrap();
            assert_eq!(share.percent, share.bytes_percent.max(share.multiply_adds_percent));
            assert_eq!(share.exceeds, share.percent > 100.0);
        }
    }
    // From config.json: 43,008 weights in the matrices of each of 2 layers, 4,096 of them for keys and values, and 32,768
    // that make logits; 128 multiply-adds per layer and position seen. Of a prompt's last layer, tokens before the last
    // need keys and values only.
    let work =
        |name: &str| report.tests.iter().find(|test| test.test == name).unwrap().roofline.unwrap().n_multiply_adds;
    let first_layer = 20 * 43_008 + 128 * (1..=20).sum::<u64>();
    let last_layer = 19 * 4_096 + 43_008 + 128 * 20;
    assert_eq!(work("pp20"), first_layer + last_layer + 32_768);
    assert_eq!(work("tg3 @ d5"), 3 * (2 * 43_008 + 32_768) + 256 * (6 + 7 + 8));
}

#[test]
fn bench_prints_tables() {
    let q8 = nano("Q8_0");
    let bench = |rest: &[&str]| run(&[&["bench", &q8] as &[&str], &SMALL, rest].concat());
    let text = stdout(&bench(&[]));
    for expected in ["load", "pp20", "tg3", "% of roofline", "rooflines of", "exact numerics"] {
        assert!(text.contains(expected), "{text}");
    }
    let output = bench(&["-o", "csv", "--kv-cache", "f16"]);
    let mut table = csv::Reader::from_reader(output.stdout.as_slice());
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|cell| cell == name).unwrap();
    let rows: Vec<_> = table.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 3);
    for (row, test) in rows.iter().zip(["load", "pp20", "tg3"]) {
        assert_eq!((&row[column("test")], &row[column("kv_cache")]), (test, "f16"));
        assert_eq!(row[column("samples_ms")].split(';').count(), 2);
        assert_eq!(row[column("tokens_per_second")].is_empty(), test == "load", "what is absent is empty, not 0");
    }
    let markdown = stdout(&bench(&["-o", "md"]));
    assert_eq!(markdown.lines().take_while(|line| line.starts_with("| ")).count(), 2 + 3, "{markdown}");
    let json: BenchReport = from_json(&stdout(&bench(&["-o", "json"]))).unwrap();
    assert_eq!(json.tests.len(), 3);
}

#[test]
fn bench_says_what_it_could_not_measure() {
    let q8 = nano("Q8_0");
    let output = run(&["bench", &q8, "-p", "2049,4", "-n", "0", "-r", "1", "-t", "1", "--load-prompt", "0", "--json"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let report: BenchReport = from_json(&stdout(&output)).unwrap();
    let [too_long, measured] = report.tests.as_slice() else { panic!("{report:?}") };
    assert!(too_long.absent.as_ref().unwrap().contains("the model's context of 2048 tokens"), "{too_long:?}");
    assert_eq!((too_long.elapsed_ms, too_long.tokens_per_second, too_long.samples_ms.len()), (None, None, 0));
    assert_eq!(measured.absent, None);

    let too_deep = run(&["bench", &q8, "-p", "0", "-n", "1", "-d", "2048", "-r", "1", "-t", "1", "--json"]);
    assert_eq!(code(&too_deep), 1);
    assert!(json(&too_deep)["tests"][1]["absent"].as_str().unwrap().contains("2048"));

    refused(&["bench"], 2, "required");
    refused(&["bench", &q8, "-p", "0", "-n", "0", "--load-prompt", "0"], 2, "nothing to measure");
    refused(&["bench", &q8, "-r", "0"], 2, "'0'");
    refused(&["bench", &q8, "-t", "0"], 2, "'0'");
    refused(&["bench", "missing.gguf"], 3, "no such file");
    let both = run(&["bench", &q8, "--json", "-o", "csv"]);
    assert_eq!((code(&both), json(&both)["error"]["code"].as_i64()), (2, Some(2)));
}

/// An interrupt ends the measurement, and what was measured until then is reported.
#[test]
fn an_interrupted_bench_reports_what_it_has() {
    let q8 = nano("Q8_0");
    let many = ["bench", &q8, "-p", "8", "-n", "4", "-t", "1", "-r", "100000000", "--load-prompt", "0", "--json"];
    let child = apr_ignoring(&[]).args(many).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(ExitCode::Interrupted.code().into()), "{output:?}");
    let report: BenchReport = from_json(&stdout(&output)).unwrap();
    assert!(report.interrupted);
    let last = report.tests.last().unwrap();
    assert_eq!((last.test.as_str(), last.absent.as_deref()), ("tg4", Some("interrupted")), "{last:?}");
}

const SHORT: [&str; 8] = ["-p", "20", "--tokens", "4", "--measure", "3", "--warmup", "1"];

/// The parts of a pass are the pass, and the work of its parts is its work.
fn accounts_for_everything(phase: &PhaseProfile) {
    for parts in [&phase.operations, &phase.stages] {
        let sum: f64 = parts.iter().map(|part| part.mean_ms).sum();
        near(sum + phase.unattributed_ms, phase.mean_ms, "parts and rest");
        let share = phase.roofline.unwrap();
        let work: (u64, u64) = parts.iter().fold((0, 0), |sum, part| (sum.0 + part.n_bytes, sum.1 + part.n_flops));
        let whole = (share.n_bytes, 2 * share.n_multiply_adds);
        // An observer is shown the last layer of every token of a prompt, which otherwise only the last token has.
        let more = phase.depth == 0;
        assert!(if more { work.0 >= whole.0 && work.1 > whole.1 } else { work == whole }, "{work:?} {whole:?}");
        for part in parts {
            assert_eq!(part.roofline.is_some(), part.n_bytes > 0, "{part:?}");
        }
    }
    assert!(phase.operations.is_sorted_by(|a, b| a.mean_ms >= b.mean_ms));
    assert!(phase.unattributed_ms >= 0.0 && phase.pass_ms.min > 0.0 && phase.unobserved_pass_ms.min > 0.0);
}

#[test]
fn profile_accounts_for_the_whole_pass() {
    for model in [nano("Q4_K_M"), repository("models/nano-qwen3").to_str().unwrap().to_owned()] {
        let report: ProfileReport = report(&[&["profile", &model] as &[&str], &SHORT].concat());
        accounts_for_everything(&report.prefill);
        accounts_for_everything(&report.decode);
        assert_eq!((report.prefill.n_tokens, report.decode.n_tokens, report.decode.depth), (20, 4, 20));
        for phase in [&report.prefill, &report.decode] {
            for expected in ["embed", "attn_qkv", "attention", "attn_out", "mlp_gate_up", "mlp_down", "logits"] {
                assert!(phase.operations.iter().any(|part| part.operation == expected), "{expected}");
            }
            let layers: Vec<_> = phase.stages.iter().filter_map(|part| part.layer).collect();
            assert!(layers.is_sorted() && layers.first() == Some(&0) && layers.last() == Some(&1), "{layers:?}");
        }
        assert_eq!(report.latency.n_samples, 12);
        assert_eq!(report.latency.p99_ms.absent.as_deref(), Some("p99 needs ≥ 100 samples, have 12"));
        let text = stdout(&run(&[&["profile", &model, "--granular"] as &[&str], &SHORT].concat()));
        for expected in ["PREFILL", "DECODE", "attention", "% of pass", "in no stage"] {
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn a_flame_graph_is_an_image() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("a <b> & \"c\".gguf");
    std::fs::copy(nano("Q8_0"), &path).unwrap();
    let arguments = ["profile", path.to_str().unwrap(), "--format", "flamegraph"];
    let output = run(&[&arguments as &[&str], &SHORT].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    let svg = stdout(&output);
    assert!(svg.starts_with("<?xml") && svg.contains("<svg xmlns=") && svg.ends_with("</svg>\n"));
    for expected in ["prefill:", "decode:", "layer 1:", "attention:", "a &lt;b&gt; &amp; &quot;c&quot;.gguf"] {
        assert!(svg.contains(expected), "{expected}");
    }
    for tag in ["g", "title", "text", "svg"] {
        let opened = svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // Bars of one row never reach beyond the image.
    for bar in svg.split("<rect x=\"").skip(1) {
        let number = |text: &str| text.split('"').next().unwrap().parse::<f64>().unwrap();
        let width = number(bar.split("width=\"").nth(1).unwrap());
        assert!(number(bar) >= 10.0 && number(bar) + width <= 1190.02, "{bar}");
    }
    refused(&[&arguments as &[&str], &["--assert-p50", "1"]].concat(), 2, "flame graph");
}

/// Report 003: the flags and the block as they stand there.
#[test]
fn seed_003_profile_ci() {
    let q8 = nano("Q8_0");
    let ci = ["profile", &q8, "--ci", "--warmup", "3", "--measure", "10"];
    let with = |rest: &[&str]| run(&[&ci as &[&str], rest].concat());
    let output = with(&["--assert-throughput", "0.001"]);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "CI PROFILE REPORT (PMAT-192)");
    for (line, (start, end)) in
        lines[1..4].iter().zip([("  Throughput:  ", " tok/s"), ("  Latency p50: ", " ms"), ("  Latency p99: ", " ms")])
    {
        let number =
            line.strip_prefix(start).and_then(|line| line.strip_suffix(end)).unwrap_or_else(|| panic!("{line}"));
        assert!(number.parse::<f64>().unwrap() >= 0.0);
    }
    assert_eq!(lines[4..6], ["", "ASSERTIONS"]);
    assert!(lines[6].starts_with("  PASS throughput: ") && lines[6].ends_with(" tok/s (expected >= 0.0 tok/s)"));

    // Nothing is that fast.
    let output = with(&["--assert-throughput", "1e12", "--assert-p50", "1e9", "--assert-p99", "1e9"]);
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    assert!(
        text.contains("\n  FAIL throughput: ") && text.contains("\n  PASS p50: ") && text.contains("\n  PASS p99: ")
    );
    for impossible in [["--assert-p50", "1e-9"], ["--assert-p99", "1e-9"]] {
        assert_eq!(code(&with(&impossible)), 1, "{impossible:?}");
    }

    let report: ProfileCiReport = report(&[&ci as &[&str], &["--assert-p99", "1e9", "--assert-p50", "1e9"]].concat());
    assert_eq!((report.passed, report.samples_ms.len(), report.assertions.len()), (true, 320, 2));
    let (p50, p99) = (report.latency_p50_ms.value.unwrap(), report.latency_p99_ms.value.unwrap());
    assert!(p50 <= p99);
    // At least 99 of 100 samples, and no fewer than that many, stay within.
    let within = |limit: f64| report.samples_ms.iter().filter(|&&ms| ms <= limit).count();
    let below = |limit: f64| report.samples_ms.iter().filter(|&&ms| ms < limit).count();
    assert!(within(p99) >= 317 && below(p99) < 317 && within(p50) >= 160 && below(p50) < 160);
}

/// Report 2391: a threshold that is no number disarmed the gate.
#[test]
fn no_assertion_is_disarmed() {
    let q8 = nano("Q8_0");
    refused(&["profile", &q8, "--ci"], 2, "--ci without an assertion could not fail");
    for flag in ["--assert-throughput", "--assert-p50", "--assert-p99"] {
        for threshold in ["nan", "NaN", "-1", "0", "-0.0", "inf", "x", ""] {
            refused(&["profile", &q8, "--ci", flag, threshold], 2, "is no threshold");
        }
    }
    // An assertion counts without --ci, and what was not measured can't pass.
    let few = ["profile", &q8, "--assert-p99", "1e9", "--measure", "2", "--tokens", "4", "--warmup", "0", "-p", "4"];
    let output = run(&few);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).contains("FAIL p99: not measured: p99 needs ≥ 100 samples, have 8"), "{output:?}");
    let report: ProfileCiReport = report(&few);
    assert_eq!((report.passed, report.latency_p99_ms.value), (false, None));
    refused(&["profile", &q8, "-p", "2048", "--assert-p50", "1e9"], 8, "the model's context of 2048 tokens");
    refused(&["profile"], 2, "required");
}

#[test]
fn profiles_are_compared_operation_by_operation() {
    let work = tempfile::tempdir().unwrap();
    let (q8, f32) = (nano("Q8_0"), nano("F32"));
    let saved = work.path().join("saved.json");
    let output = run(&[&["profile", &q8, "--format", "json"] as &[&str], &SHORT].concat());
    std::fs::write(&saved, &output.stdout).unwrap();
    let saved = saved.to_str().unwrap();
    let compare = |a: &str, b: &str| [&["profile", "--compare", a, b] as &[&str], &SHORT].concat().join("\n");
    let compared =
        |a: &str, b: &str| -> ProfileCompareReport { report(&compare(a, b).split('\n').collect::<Vec<_>>()) };

    let same = compared(saved, saved);
    assert_eq!(same.differences, Vec::<String>::new());
    assert!(same.rows.iter().all(|row| row.ratio.is_none_or(|ratio| ratio == 1.0)), "{same:?}");
    let other = compared(saved, &f32);
    assert_eq!(other.differences, ["main dtype: Q8_0 against F32"]);
    for phase in ["prefill", "decode"] {
        let row = other.rows.iter().find(|row| row.phase == phase && row.operation == "attention").unwrap();
        near(row.ratio.unwrap(), row.b_ms.unwrap() / row.a_ms.unwrap(), "ratio");
    }
    std::fs::write(work.path().join("other.json"), r#"{"schema": "apr.run/1"}"#).unwrap();
    let no_profile = work.path().join("other.json");
    refused(&["profile", "--compare", saved, no_profile.to_str().unwrap()], 4, "apr.profile/1 report expected");
    refused(&["profile", "--compare", saved], 2, "2 values required");
}

/// The text of a golden prompt in a file.
fn long_text(dir: &Path) -> String {
    let golden = std::fs::read_to_string(repository("models/nano-qwen2/golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let prompt = golden["prompts"].as_array().unwrap().iter().find(|prompt| prompt["id"] == "long").unwrap();
    let path = dir.join("long.txt");
    std::fs::write(&path, prompt["text"].as_str().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Expected values from Transformers 5.23.0 in float32: `models/train/eval_reference.py models/nano-qwen2
/// models/nano-qwen2/gguf/nano-qwen2-Q4_0.gguf`; that of the whole text stands in `golden.json` too.
#[test]
fn perplexity_and_divergence_are_those_of_transformers() {
    let work = tempfile::tempdir().unwrap();
    let (file, source) = (long_text(work.path()), repository("models/nano-qwen2"));
    let source = source.to_str().unwrap();
    for (window, stride, n_scored, mean_nll) in
        [("64", "32", 699, 3.036_879), ("64", "64", 689, 3.616_719), ("1024", "1024", 699, 4.229_684)]
    {
        let eval = ["eval", source, "--file", &file, "--window", window, "--stride", stride];
        let report: EvalReport = report(&eval);
        assert_eq!((report.n_tokens, report.n_scored, report.n_unscored), (700, n_scored, 700 - n_scored));
        near(report.mean_nll, mean_nll, "mean nll");
        near(report.perplexity, mean_nll.exp(), "perplexity");
        assert!(report.perplexity_standard_error.value.unwrap() > 0.0);
    }

    let q4 = nano("Q4_0");
    let eval = ["eval", &q4, "--reference", source, "--file", &file, "--window", "1024", "--positions"];
    let report: EvalReport = report(&eval);
    near(report.mean_nll, 4.244_070, "mean nll of Q4_0");
    let reference = report.reference.as_ref().unwrap();
    near(reference.mean_nll, 4.229_684, "mean nll of the reference");
    near(reference.kl.mean, 2.088_730e-1, "mean KL");
    near(reference.kl.median, 1.272_583e-2, "median KL");
    near(reference.kl.p99.value.unwrap(), 2.489_157, "99 % KL");
    near(reference.kl.max, 4.775_428, "greatest KL");
    near(reference.delta_nll.mean, 1.438_641e-2, "mean difference");
    near(reference.delta_nll.rms, 1.113_735, "rms difference");
    assert_eq!((reference.n_same_top, report.n_scored), (606, 699));
    let positions = report.positions.as_ref().unwrap();
    assert!(positions.iter().map(|p| p.position).eq(1..700));
    near(positions.iter().map(|p| p.nll).sum::<f64>() / 699.0, report.mean_nll, "the mean of the positions");
}

#[test]
fn a_model_does_not_differ_from_itself_in_another_format() {
    let work = tempfile::tempdir().unwrap();
    let file = long_text(work.path());
    let eval = |threads: &str, model: &str| -> EvalReport {
        let reference = nano("BF16");
        let arguments = ["eval", model, "--reference", &reference, "--file", &file, "-w", "48", "-t", threads];
        report(&[&arguments as &[&str], &["--max-tokens", "120"]].concat())
    };
    let source = repository("models/nano-qwen2");
    let one = eval("1", source.to_str().unwrap());
    let two = eval("2", &nano("F32"));
    for report in [&one, &two] {
        let reference = report.reference.as_ref().unwrap();
        assert_eq!((report.n_tokens, report.n_tokens_read, report.n_scored), (700, 120, 119));
        assert_eq!((reference.kl.max, reference.n_same_top, reference.n_bits_equal), (0.0, 119, 119));
        assert_eq!((reference.delta_nll.min, reference.delta_nll.max), (0.0, 0.0));
    }
    assert_eq!(one.mean_nll.to_bits(), two.mean_nll.to_bits());
}

#[test]
fn eval_refuses_what_has_no_answer() {
    let work = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = work.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let q8 = nano("Q8_0");
    let text = write("text.txt", b"Once upon a time, there was a little cat.");
    let eval = |rest: &[&str]| [&["eval", &q8, "--file"] as &[&str], rest].concat().join("\n");
    let refused = |arguments: String, expected, says| {
        refused(&arguments.split('\n').collect::<Vec<_>>(), expected, says);
    };
    refused(eval(&[&write("empty.txt", b"")]), 1, "0 tokens");
    refused(eval(&[&write("one.txt", b"a")]), 1, "1 tokens, none of which has a token before it");
    refused(eval(&["missing.txt"]), 3, "missing.txt");
    refused(eval(&[&write("latin.txt", b"caf\xe9 au lait")]), 7, "offset 3 is not UTF-8");
    refused(eval(&[&text, "--window", "1"]), 2, "windows of 1 tokens");
    refused(eval(&[&text, "--window", "2049"]), 2, "the context of 2048 tokens");
    refused(eval(&[&text, "--window", "8", "--stride", "9"]), 2, "would leave out text");
    refused(eval(&[&text, "--reference", "missing.gguf"]), 3, "missing.gguf");
    refused(eval(&[&text, "--reference", "builtin:tiny"]), 5, "token ids");
    let llama = repository("models/nano-llama");
    refused(eval(&[&text, "--reference", llama.to_str().unwrap()]), 5, "other tokens, from token 0 on");

    // A weight that is no number: the last tensor's last value.
    let mut file = std::fs::read(nano("F32")).unwrap();
    let end = file.len();
    file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = write("nan.gguf", &file);
    refused(["eval", &damaged, "--file", &text].join("\n"), 8, "expected a finite number");
}

#[test]
fn capabilities_list_the_measuring_commands() {
    let commands = json(&run(&["capabilities", "--json"]))["commands"].clone();
    for command in ["bench", "profile", "eval"] {
        assert!(commands.as_array().unwrap().contains(&command.into()), "{commands}");
    }
}
