//! `apr chat` through a pipe and on a terminal.

mod support;

use apr_engine::{
    ChatTemplate, GenerateOptions, Message, Model, SamplerSpec, Session, SessionOptions, Tokenizer, generate,
};
use apr_formats::{Limits, open};
use apr_kernels::Backend;
use rexpect::session::PtySession;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use support::{apr_ignoring, code, golden, nano, repository, run, send, stderr, stdout};

const TINY: &str = "builtin:tiny";

/// A conversation through a pipe.
fn chat(arguments: &[&str], lines: &str) -> Output {
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    apr.arg("chat").args(arguments).write_stdin(lines).timeout(std::time::Duration::from_secs(300)).output().unwrap()
}

/// The objects that a conversation with `--json` prints.
fn turns(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn the_second_turn_is_that_of_a_fresh_session_on_the_whole_text() {
    for model in [repository("models/tiny-qwen2"), nano("Q4_K_M").into(), repository("models/nano-qwen3")] {
        let output = chat(&[model.to_str().unwrap(), "--json", "-n", "24"], "What is 2+2?\nHi\n");
        assert_eq!((code(&output), stderr(&output)), (0, String::new()));
        let turns = turns(&output);
        assert_eq!(turns.len(), 2);
        assert_eq!(turns[0]["n_reused_tokens"], 0);

        let checkpoint = open(&model, &Limits::default()).unwrap();
        let tokenizer = Tokenizer::new(checkpoint.tokenizer.clone().unwrap()).unwrap();
        let template = ChatTemplate::new(checkpoint.chat_templates.default.as_ref().unwrap()).unwrap();
        let template = template.with_special_tokens(checkpoint.tokenizer.as_ref().unwrap());
        let said = |turn: usize, key: &str| turns[turn][key].as_str().unwrap();
        let messages = [
            Message::new("user", "What is 2+2?"),
            Message::new("assistant", said(0, "text")),
            Message::new("user", "Hi"),
        ];
        let ids = tokenizer.encode(&template.render(&messages, None, true).unwrap(), false).unwrap();
        let engine = Model::new(&checkpoint, Backend::detect().unwrap()).unwrap();
        let mut session = Session::new(&engine, SessionOptions::default()).unwrap();
        let stop_ids = tokenizer.special().stop.clone();
        let options = GenerateOptions { max_tokens: 24, sampler: SamplerSpec::default(), stop_ids };
        let fresh = generate(&mut session, &ids, &options, |_| ControlFlow::Continue(())).unwrap();

        assert_eq!(turns[1]["prompt_ids"], serde_json::json!(ids), "{}", model.display());
        let found: Vec<&Value> = turns[1]["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
        assert_eq!(found, fresh.tokens);
        assert_eq!(said(1, "logits_digest"), fresh.digest.unwrap().to_string(), "equal bits");
        // All of the first turn is reused, but for where its text is cut into other tokens than were generated.
        let reused = turns[1]["n_reused_tokens"].as_u64().unwrap() as usize;
        assert!(reused >= turns[0]["prompt_ids"].as_array().unwrap().len(), "{reused}");
    }
}

#[test]
fn answers_alone_are_on_stdout() {
    let output = chat(&[TINY], "What is 2+2?\n/stats\n\n/help\nHi\n/quit\nnot read\n");
    assert_eq!(code(&output), 0);
    let told: Vec<Value> = turns(&chat(&[TINY, "--json"], "What is 2+2?\nHi\n"));
    let expected: String = told.iter().map(|turn| format!("{}\n", turn["text"].as_str().unwrap())).collect();
    assert_eq!(stdout(&output), expected);
    assert!(expected.starts_with("2 + 2 equals 4.\n"));
    let said = stderr(&output);
    assert!(said.contains("1 turns; ") && said.contains("0 of them reused") && said.contains("/save FILE"), "{said}");
    assert!(!stdout(&output).contains('>') && !said.contains("> "), "a pipe gets no prompts");
    let empty = chat(&[TINY], "");
    assert_eq!((code(&empty), stdout(&empty), stderr(&empty)), (0, String::new(), String::new()));
}

#[test]
fn messages_of_several_lines() {
    for lines in ["one\\\ntwo\n", "\"\"\"\none\ntwo\n\"\"\"\n", "\"\"\"one\ntwo\"\"\"\n", "one\\\r\ntwo"] {
        let turns = turns(&chat(&[TINY, "--json", "-n", "1"], lines));
        assert_eq!(turns.len(), 1, "{lines:?}");
        assert_eq!(turns[0]["message"], "one\ntwo", "{lines:?}");
    }
    let output = chat(&[TINY, "-n", "1"], "\"\"\"\nnever ended\n");
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    assert!(stderr(&output).contains("the input ends inside"), "{}", stderr(&output));
}

#[test]
fn a_loaded_conversation_gives_the_ids_of_transformers() {
    let golden = golden("tiny-qwen2");
    let cases = golden["chat_template_cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == "multi_turn").unwrap();
    let messages = case["messages"].as_array().unwrap();
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();

    // A conversation that the command saved, with the messages of the golden in place of its own.
    let output = chat(&[TINY], &format!("Hi\n/save {}\n", path("saved.json")));
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(stderr(&output).contains("saved 2 messages"), "{}", stderr(&output));
    let mut saved: Value = serde_json::from_str(&std::fs::read_to_string(path("saved.json")).unwrap()).unwrap();
    assert_eq!(saved["schema"], "apr.conversation/1");
    assert_eq!((&saved["model"]["path"], &saved["model"]["architecture"]), (&TINY.into(), &"qwen2".into()));
    assert_eq!(saved["messages"][0], serde_json::json!({ "role": "user", "content": "Hi" }));
    saved["messages"] = Value::from(messages[..2].to_vec());
    std::fs::write(path("golden.json"), saved.to_string()).unwrap();

    let lines = format!("Hi\n/load {}\n{}\n", path("golden.json"), messages[2]["content"].as_str().unwrap());
    let output = chat(&[TINY, "--json"], &lines);
    let turns = turns(&output);
    assert_eq!((code(&output), &turns[1]["prompt_ids"]), (0, &case["ids"]));
    assert_eq!(turns[1]["text"], "Your name is Alice.");
    assert!(stderr(&output).contains("2 messages, held with builtin:tiny"), "{}", stderr(&output));

    // What is no conversation is neither read nor replaced.
    std::fs::write(path("notes.txt"), "mine").unwrap();
    for command in ["save", "load"] {
        let output = chat(&[TINY], &format!("/{command} {}\n", path("notes.txt")));
        assert_eq!(code(&output), 7, "{command}: {output:?}");
    }
    assert_eq!(std::fs::read(path("notes.txt")).unwrap(), b"mine");
    assert_eq!(code(&chat(&[TINY], &format!("Hi\n/save {}\n", path("saved.json")))), 0, "a conversation is replaced");
    assert_eq!(code(&chat(&[TINY], &format!("/load {}\n", path("none.json")))), 3);
    saved["messages"][0]["role"] = "robot".into();
    std::fs::write(path("robot.json"), saved.to_string()).unwrap();
    let output = chat(&[TINY], &format!("/load {}\n", path("robot.json")));
    assert!(code(&output) == 7 && stderr(&output).contains("robot"), "{output:?}");
    assert_eq!(code(&chat(&[TINY], "/save /no/such/directory/x.json\n")), 7);
    assert_eq!(names(work.path()), ["golden.json", "notes.txt", "robot.json", "saved.json"], "nothing half written");
    let other = chat(&[&nano("Q8_0")], &format!("/load {}\n", path("saved.json")));
    assert!(stderr(&other).contains("another model"), "{}", stderr(&other));
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn system_and_clear_change_what_the_model_is_told() {
    let golden = golden("tiny-qwen2");
    let cases = golden["chat_template_cases"].as_array().unwrap();
    let ids = |name: &str| &cases.iter().find(|case| case["name"] == name).unwrap()["ids"];
    let lines = "Hi\n/clear\nWhat is 2+2?\n/clear\n/system Answer with only the number.\nWhat is 7 times 8?\n/system\n";
    let output = chat(&[TINY, "--json"], lines);
    let told = turns(&output);
    assert_eq!((&told[1]["prompt_ids"], &told[2]["prompt_ids"]), (ids("user_only"), ids("system_user")));
    assert!(told[1]["n_reused_tokens"].as_u64().unwrap() > 0, "the begin of the template is the same");
    assert_eq!(stderr(&output), "Answer with only the number.\n");
    let told = turns(&chat(&[TINY, "--json", "--system", "Answer with only the number."], "What is 7 times 8?\n"));
    assert_eq!(&told[0]["prompt_ids"], ids("system_user"));
}

#[test]
fn a_conversation_that_does_not_fit_says_what_to_do_and_goes_on() {
    let long = "word ".repeat(60);
    let output = chat(&[TINY, "--json", "-c", "64"], &format!("{long}\n/clear\nHi\n"));
    let told = turns(&output);
    assert_eq!(code(&output), 8);
    assert_eq!((&told[0]["schema"], &told[0]["error"]["code"]), (&"apr.error/1".into(), &8.into()));
    let message = told[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("the session's limit of 64 tokens"), "{message}");
    assert!(told[0]["error"]["hint"].as_str().unwrap().contains("/clear"), "{}", told[0]);
    assert_eq!(told[1]["text"], "Hello! How can I help you today?");

    let full = chat(&[TINY, "--json", "-c", "30"], "What is 2+2?\n");
    let told = turns(&full);
    assert_eq!((code(&full), &told[0]["finish_reason"]), (0, &"context".into()));
    assert!(stderr(&full).contains("the context of 30 tokens is full; /save FILE"), "{}", stderr(&full));
}

#[test]
fn mistakes_are_named_and_models_without_a_template_refused() {
    let output = chat(&[TINY], "/frob\nWhat is 2+2?\n");
    assert_eq!((code(&output), stdout(&output).as_str()), (2, "2 + 2 equals 4.\n"));
    assert!(stderr(&output).contains("/frob is no command"), "{}", stderr(&output));
    let llama = repository("models/nano-llama");
    let output = run(&["chat", llama.to_str().unwrap()]);
    assert_eq!(code(&output), 6);
    assert!(stderr(&output).contains("no chat template"), "{}", stderr(&output));
    let output = run(&["chat", TINY, "--temp", "-1"]);
    assert!(code(&output) == 2 && stderr(&output).contains("--temp is -1"), "{}", stderr(&output));
    let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
    let output = apr.args(["chat", TINY]).write_stdin(b"\xff\n".as_slice()).output().unwrap();
    assert!(code(&output) == 7 && stderr(&output).contains("UTF-8"), "{}", stderr(&output));
}

#[test]
fn options_of_run_hold_in_every_turn() {
    let told = turns(&chat(&[TINY, "--json", "--stop", "equals"], "What is 2+2?\nWhat is 2+2?\n"));
    assert_eq!((&told[0]["text"], &told[0]["stop_text"]), (&"2 + 2 ".into(), &"equals".into()));
    assert!(told[1]["stop_text"] == "equals" || !told[1]["text"].as_str().unwrap().contains("equals"));
    let sampled = |seed: &str| {
        let told = turns(&chat(&[TINY, "--json", "--temp", "5", "--seed", seed, "-n", "12"], "Hi\nHi\n"));
        told.iter().map(|turn| turn["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sampled("3"), sampled("3"));
    assert_ne!(sampled("3"), sampled("4"));
}

#[cfg(feature = "grammar")]
#[test]
fn a_grammar_holds_every_answer() {
    let schema = r#"{"enum": ["yes", "no"]}"#;
    for turn in turns(&chat(&[TINY, "--json", "--json-schema", schema], "Hi\nAre you there?\n")) {
        assert!(["\"yes\"", "\"no\""].contains(&turn["text"].as_str().unwrap()), "{turn}");
    }
}

#[cfg(feature = "grammar")]
#[test]
fn an_interrupt_ends_a_conversation_through_a_pipe_and_reports_the_answer_so_far() {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let work = tempfile::tempdir().unwrap();
    let grammar = work.path().join("long.lark");
    std::fs::write(&grammar, "start: \"begin \" /[a-z ]{4000}/\n").unwrap();
    let mut child = apr_ignoring(&[])
        .args(["chat", TINY, "-n", "100000", "--grammar"])
        .arg(&grammar)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"Hi\nand another\n").unwrap();
    let mut begin = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"begin ");
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130, "{output:?}");
    assert!(stderr(&output).contains("note: stopped after "), "{output:?}");
    assert_eq!(stdout(&output).matches('\n').count(), 1, "no other answer was begun");
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    for signal in ["INT", "TERM", "HUP"] {
        let mut child = apr_ignoring(&[signal])
            .args(["chat", TINY, "-n", "4"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"Hi\n").unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        answers.next().unwrap().unwrap();
        // Twice: the second one of a signal that is caught ends the process whatever it does.
        send(signal, &child);
        send(signal, &child);
        child.stdin.as_mut().unwrap().write_all(b"and another\n").unwrap();
        drop(child.stdin.take());
        assert_eq!(answers.count(), 1, "the second answer after {signal}");
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output)), (0, String::new()), "{signal}");
    }
}

/// The command on a terminal of its own, with its state in `home`.
fn terminal(home: &Path, arguments: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apr"));
    command.arg("chat").args(arguments).env("XDG_STATE_HOME", home).env("TERM", "xterm").env_remove("NO_COLOR");
    rexpect::session::spawn_command(command, Some(120_000)).unwrap()
}

fn type_in(tty: &mut PtySession, keys: &str) {
    tty.send(keys).unwrap();
    tty.flush().unwrap();
}

#[test]
fn a_terminal_has_a_prompt_editing_and_a_history() {
    let home = tempfile::tempdir().unwrap();
    let mut tty = terminal(home.path(), &[TINY]);
    tty.exp_string("/help lists commands").unwrap();
    tty.exp_string("> ").unwrap();
    // A letter too many, taken back, and the end of the line typed in the middle of it.
    type_in(&mut tty, "What is 2+3\x7f2?");
    type_in(&mut tty, "\r");
    tty.exp_string("2 + 2 equals 4.").unwrap();
    tty.exp_string("> ").unwrap();
    // Upwards to the last line.
    type_in(&mut tty, "\x1b[A\r");
    tty.exp_string("equals").unwrap();
    tty.exp_string("> ").unwrap();
    type_in(&mut tty, "/stats\r");
    tty.exp_regex("2 turns; [0-9]+ of 2048 tokens in the context").unwrap();
    tty.exp_regex("[1-9][0-9]* of them reused").unwrap();
    tty.exp_string("> ").unwrap();
    tty.send_control('d').unwrap();
    tty.exp_eof().unwrap();
    assert!(ends_well(&tty));
    let history = std::fs::read_to_string(home.path().join("apr/chat_history")).unwrap();
    assert!(history.contains("What is 2+2?") && history.contains("/stats"), "{history:?}");

    let empty = tempfile::tempdir().unwrap();
    let mut tty = terminal(empty.path(), &[TINY, "--no-history"]);
    tty.exp_string("> ").unwrap();
    type_in(&mut tty, "Hi\r");
    tty.exp_string("help you").unwrap();
    tty.exp_string("> ").unwrap();
    type_in(&mut tty, "/quit\r");
    tty.exp_eof().unwrap();
    assert!(names(empty.path()).is_empty(), "no history was asked for");
}

/// Whether the program ends by itself with status 0.
fn ends_well(tty: &PtySession) -> bool {
    // The type of the status is not public there.
    format!("{:?}", tty.process().wait()).ends_with(", 0))")
}

#[cfg(feature = "grammar")]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let home = tempfile::tempdir().unwrap();
    let grammar = home.path().join("long.lark");
    std::fs::write(&grammar, "start: \"begin \" /[a-z ]{4000}/\n").unwrap();
    let mut tty = terminal(home.path(), &[TINY, "-n", "100000", "--grammar", grammar.to_str().unwrap()]);
    tty.exp_string("> ").unwrap();
    type_in(&mut tty, "Hi\r");
    tty.exp_string("begin ").unwrap();
    tty.send_control('c').unwrap();
    tty.exp_regex("note: stopped after [0-9]+ tokens").unwrap();
    tty.exp_string("> ").unwrap();
    type_in(&mut tty, "Hi again\r");
    tty.exp_string("begin ").unwrap();
    tty.send_control('c').unwrap();
    tty.exp_string("note: stopped after").unwrap();
    tty.exp_string("> ").unwrap();
    tty.send_control('c').unwrap();
    tty.exp_string("(Ctrl-C again or Ctrl-D ends)").unwrap();
    tty.exp_string("> ").unwrap();
    tty.send_control('c').unwrap();
    tty.exp_eof().unwrap();
    assert!(ends_well(&tty));
}

/// What asks a process to end is no Ctrl-C: it ends the conversation, at the prompt and in the middle of an answer.
#[cfg(feature = "grammar")]
#[test]
fn to_be_told_to_end_ends_the_conversation() {
    let home = tempfile::tempdir().unwrap();
    let grammar = home.path().join("long.lark");
    std::fs::write(&grammar, "start: \"begin \" /[a-z ]{4000}/\n").unwrap();
    for signal in ["SIGTERM", "SIGHUP"] {
        for at_the_prompt in [true, false] {
            let mut tty = terminal(home.path(), &[TINY, "-n", "100000", "--grammar", grammar.to_str().unwrap()]);
            tty.exp_string("> ").unwrap();
            if !at_the_prompt {
                type_in(&mut tty, "Hi\r");
                tty.exp_string("begin ").unwrap();
            }
            tty.process_mut().signal(signal.parse().unwrap()).unwrap();
            if !at_the_prompt {
                tty.exp_regex("note: stopped after [0-9]+ tokens").unwrap();
            }
            tty.exp_eof().unwrap();
            assert!(
                format!("{:?}", tty.process().wait()).ends_with(", 130))"),
                "{signal} at the prompt: {at_the_prompt}"
            );
        }
    }
}
