//! Templates render as Transformers and Jinja2 render them; the expected texts were made by those.

use apr_engine::{ChatTemplate, Message, TemplateError};
use apr_model::{HfTokenizerFiles, TokenizerSpec};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(repo(path)).unwrap()).unwrap()
}

/// `messages`, `tools` and `add_generation_prompt` of a golden case, rendered.
fn render(template: &ChatTemplate, case: &Value) -> Result<String, TemplateError> {
    let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
    let add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
    template.render(case["messages"].as_array().unwrap(), tools, add_generation_prompt)
}

#[test]
fn the_templates_of_the_models_render_as_transformers_renders_them() {
    for model in ["nano-qwen2", "nano-qwen3", "tiny-qwen2"] {
        let config = json(&format!("models/{model}/tokenizer_config.json"));
        let template = ChatTemplate::new(config["chat_template"].as_str().unwrap()).unwrap();
        let golden = json(&format!("models/{model}/golden.json"));
        let cases = golden["chat_template_cases"].as_array().unwrap();
        assert_eq!(cases.len(), 14, "{model}");
        for case in cases {
            assert_eq!(
                render(&template, case).unwrap(),
                case["expected"].as_str().unwrap(),
                "{model} {}",
                case["name"]
            );
        }
    }
}

#[test]
fn the_official_template_of_qwen2_5_renders_as_transformers_renders_it() {
    let golden = json("fixtures/templates/golden.json");
    let cases = golden["files"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let source = std::fs::read_to_string(repo("fixtures/templates").join(case["file"].as_str().unwrap())).unwrap();
        let template = ChatTemplate::new(&source).unwrap();
        assert_eq!(render(&template, case).unwrap(), case["expected"].as_str().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn small_templates_render_as_jinja_renders_them() {
    let golden = json("fixtures/templates/golden.json");
    let vocab = r#"{"model":{"type":"BPE","byte_fallback":true,"vocab":{"<s>":0,"</s>":1},"merges":[]},
        "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"}}"#;
    let config = br#"{"bos_token":"<s>","eos_token":"</s>"}"#;
    let files = HfTokenizerFiles {
        tokenizer_json: Some(vocab.as_bytes()),
        tokenizer_config: Some(config),
        ..HfTokenizerFiles::default()
    };
    let spec = TokenizerSpec::from_hf(&files).unwrap();
    let context = golden["context"].as_array().unwrap();
    let mut different = Vec::new();
    for case in golden["small"].as_array().unwrap() {
        let source = case["template"].as_str().unwrap();
        let found = ChatTemplate::new(source).and_then(|t| t.with_special_tokens(&spec).render(context, None, true));
        let expect = case["expected"].as_str().unwrap_or_else(|| case["error"].as_str().unwrap());
        let answer = match found {
            Ok(text) => text,
            Err(TemplateError::Syntax { .. }) => "syntax".to_owned(),
            Err(TemplateError::Refused(message)) if case["message"] == message.as_str() => "refused".to_owned(),
            Err(TemplateError::Refused(message)) => message,
            Err(TemplateError::Render { .. }) => "render".to_owned(),
            Err(TemplateError::Limit(limit)) => limit.to_owned(),
        };
        if answer != expect {
            different.push(format!("{source}\n  ours  {answer:?}\n  Jinja {expect:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn messages_may_be_typed() {
    let template = ChatTemplate::new("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}").unwrap();
    let messages = [Message::new("system", "Be brief."), Message::new("user", "{{ 1 + 1 }}")];
    assert_eq!(template.render(&messages, None, true).unwrap(), "system: Be brief.\nuser: {{ 1 + 1 }}\n");
}

#[test]
fn the_clock_can_be_set() {
    let now = jiff::civil::date(2024, 7, 26).at(9, 5, 0, 0);
    let template = ChatTemplate::new("{{ strftime_now('%d %b %Y %H:%M') }}").unwrap().with_time(now);
    assert_eq!(template.render::<Message>(&[], None, false).unwrap(), "26 Jul 2024 09:05");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let check = |source: &str, expect: &str| {
        let error = ChatTemplate::new(source).unwrap().render::<Message>(&[], None, true).unwrap_err();
        assert!(error.to_string().contains(expect), "{source}: {error}");
    };
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    check(loops, "too many steps");
    check("{% set x = 'a' * 99999 %}{% for a in range(9999) %}{{ x }}{% endfor %}", "writes too much");
    check("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion");
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}{% endfor %}";
    check(&format!("{nested}{{{{ ns.x | tojson }}}}"), "nested deeper than 128 levels");
}

#[test]
fn an_error_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}").unwrap_err();
    assert!(matches!(error, TemplateError::Syntax { line: 2, .. }), "{error}");
    let error = ChatTemplate::new("a\n{{ nope() }}").unwrap().render::<Message>(&[], None, true).unwrap_err();
    assert!(matches!(error, TemplateError::Render { line: 2, .. }), "{error}");
}

#[test]
fn values_nested_as_deep_as_the_steps_allow_do_not_overflow_the_stack() {
    let nested = "{% set ns = namespace(x=[], y=[]) %}{% for i in range(7000) %}{% set ns.x = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ns.x]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]] %}{% endfor %}";
    for (last, n_bytes) in [("", 0), ("{{ ns.x }}", 700_002), ("{{ ns.x ~ '' }}", 700_002), ("{{ ns.x == [ns.x] }}", 5)]
    {
        let template = ChatTemplate::new(&format!("{nested}{last}")).unwrap();
        let text = template.render::<Message>(&[], None, true).unwrap();
        assert_eq!(text.len(), n_bytes, "{last}");
    }
}

#[test]
fn a_long_conversation_stays_within_the_steps() {
    let source = std::fs::read_to_string(repo("fixtures/templates/Qwen-Qwen2.5-7B-Instruct.jinja")).unwrap();
    let template = ChatTemplate::new(&source).unwrap();
    let messages = vec![Message::new("user", "Hi"); 4000];
    assert_eq!(template.render(&messages, None, true).unwrap().matches("Hi").count(), 4000);
}
