//! A model's chat templates: the default one and those with a name, in every format and back.

mod common;

use apr_formats::{Limits, Source, WriteOptions, open, open_source};
use apr_model::{ChatTemplates, Checkpoint, Format};
use common::bytes::{array_value, gguf, model_pairs, str_value, text_bytes};
use common::{convert, fixtures, hf_dir, in_memory};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const TOOL_USE: &str = "{{ tools }}{{ messages }}";
const RAG: &str = "{{ documents }}\n";
const DIR: &str = "additional_chat_templates";

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

/// nano-qwen2 with `chat_template` of its tokenizer_config.json replaced.
fn with_config(template: impl FnOnce(&Value) -> Value) -> TempDir {
    let dir = hf_dir("nano-qwen2");
    let path = dir.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = template(&config["chat_template"]);
    fs::write(&path, config.to_string()).unwrap();
    dir
}

fn as_list() -> TempDir {
    let entry = |name: &str, template: &str| json!({"name": name, "template": template});
    with_config(|default| {
        json!([entry("default", default.as_str().unwrap()), entry("tool_use", TOOL_USE), entry("rag", RAG)])
    })
}

/// The form that Transformers 5 saves.
fn as_files() -> TempDir {
    let mut default = String::new();
    let dir = with_config(|text| {
        default = text.as_str().unwrap().to_owned();
        json!("not read beside the files")
    });
    fs::create_dir(dir.path().join(DIR)).unwrap();
    for (path, text) in [
        ("chat_template.jinja", default.as_str()),
        ("additional_chat_templates/tool_use.jinja", TOOL_USE),
        ("additional_chat_templates/rag.jinja", RAG),
        ("additional_chat_templates/notes.txt", "no template"),
    ] {
        fs::write(dir.path().join(path), text).unwrap();
    }
    dir
}

fn expected() -> ChatTemplates {
    let default = opened(hf_dir("nano-qwen2").path()).chat_templates.default;
    let named = [("tool_use", TOOL_USE), ("rag", RAG)];
    ChatTemplates { default, named: named.map(|(name, text)| (name.to_owned(), text.to_owned())).into() }
}

#[test]
fn several_templates_are_carried_by_every_format_and_back() {
    let expected = expected();
    for source in [as_list(), as_files()] {
        let work = tempfile::tempdir().unwrap();
        let checkpoint = opened(source.path());
        assert_eq!(checkpoint.chat_templates, expected);
        for (format, capsule) in
            [(Format::Gguf, true), (Format::Gguf, false), (Format::Apr, true), (Format::Apr, false)]
        {
            let options = WriteOptions { capsule, ..WriteOptions::default() };
            let target = work.path().join(format!("{format}-{capsule}"));
            convert(source.path(), &target, format, &options).unwrap();
            let copy = opened(&target);
            assert_eq!(copy.chat_templates, expected, "{format}");
            assert_eq!(copy.identity(), checkpoint.identity(), "{format}");
            let back = work.path().join(format!("back-{format}-{capsule}"));
            let written = convert(&target, &back, Format::SafeTensors, &options).unwrap();
            assert_eq!(written.restored.is_ok(), capsule, "{format}");
            assert_eq!(opened(&back).chat_templates, expected, "{format}");
            for file in written.files.iter().filter(|_| capsule) {
                let name = file.path.strip_prefix(&back).unwrap();
                assert!(fs::read(&file.path).unwrap() == fs::read(source.path().join(name)).unwrap(), "{name:?}");
            }
            let is_files = source.path().join(DIR).exists();
            assert_eq!(back.join(DIR).join("rag.jinja").exists(), capsule && is_files, "{format}");
            // A second time into the same directory, which then holds the files.
            let again = WriteOptions { force: true, ..options };
            convert(&target, &back, Format::SafeTensors, &again).unwrap();
        }
    }
}

#[test]
fn the_keys_are_those_of_gguf_py() {
    let base = model_pairs("qwen2");
    let mut pairs: Vec<_> = base.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    pairs.push(("tokenizer.chat_templates", array_value(8, &[text_bytes("tool_use"), text_bytes("gone")])));
    pairs.push(("tokenizer.chat_template.tool_use", str_value(TOOL_USE)));
    pairs.push(("tokenizer.chat_template.rag", str_value(RAG)));
    let read = |pairs: &[(&str, Vec<u8>)]| {
        open_source(&in_memory("model.gguf", &gguf(pairs, &[], 0)).unwrap(), &Limits::default())
    };
    let checkpoint = read(&pairs).unwrap();
    assert_eq!(checkpoint.chat_templates, ChatTemplates { default: None, ..expected() });
    let notes: Vec<String> = checkpoint.notes.iter().map(ToString::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("gone")), "a listed template that is not there: {notes:?}");
    pairs.push(("tokenizer.chat_template", str_value("a")));
    pairs.push(("tokenizer.chat_template.default", str_value("b")));
    let error = read(&pairs).unwrap_err().to_string();
    assert!(error.contains("two chat templates are called \"default\""), "{error}");
}

#[test]
fn what_is_no_template_is_named() {
    for (value, expect) in [
        (json!(5), "chat_template is 5"),
        (json!([{"name": "rag"}]), "expected a text, or a list of objects with a name and a template"),
        (json!([{"name": "", "template": ""}]), "has 0 bytes"),
        (json!([{"name": "a", "template": "1"}, {"name": "a", "template": "2"}]), "two chat templates"),
    ] {
        let dir = with_config(|_| value);
        let error = open(dir.path(), &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} says {expect:?}");
    }
}

#[test]
fn a_template_of_another_model_is_not_mixed_in() {
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join(DIR)).unwrap();
    fs::write(work.path().join(DIR).join("rag.jinja"), RAG).unwrap();
    let options = WriteOptions { force: true, ..WriteOptions::default() };
    let source = &fixtures("nano-llama", "gguf")[0];
    let error = convert(source, work.path(), Format::SafeTensors, &options).unwrap_err().to_string();
    assert!(error.contains("additional_chat_templates/rag.jinja of another model is there"), "{error}");
    assert!(!Source::locate(as_files().path()).unwrap().files.iter().any(|file| file.name.ends_with("notes.txt")));
}
