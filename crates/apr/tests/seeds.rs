//! Regression tests of reported defects that need the engine: the same answer from every format.

mod support;

use apr_engine::Tokenizer;
use apr_formats::{Limits, open};
use std::path::{Path, PathBuf};
use support::{code, json, nano, repository, run};

/// The same model in every format, made by the command.
fn in_every_format(source: &Path, work: &Path) -> Vec<PathBuf> {
    let mut paths = vec![source.to_owned()];
    for (name, to) in [("x.gguf", "gguf"), ("x.apr", "apr"), ("Qwen2.5-x", "safetensors")] {
        let target = work.join(name);
        let output = run(&["rosetta", "convert", source.to_str().unwrap(), target.to_str().unwrap(), "--to", to]);
        assert_eq!(code(&output), 0, "{output:?}");
        paths.push(target);
    }
    paths
}

/// Report 189: chat markers were split into characters by one of the loaders.
#[test]
fn gh_189_split_special_tokens() {
    let text = std::fs::read(repository("models/nano-qwen2/tokenizer.json")).unwrap();
    let published: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let id_of = |marker: &str| {
        let added = published["added_tokens"].as_array().unwrap();
        let token = added.iter().find(|token| token["content"] == marker).unwrap();
        u32::try_from(token["id"].as_u64().unwrap()).unwrap()
    };
    let (start, end) = (id_of("<|im_start|>"), id_of("<|im_end|>"));
    for source in [repository("models/nano-qwen2"), PathBuf::from(nano("Q4_K_M"))] {
        let work = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for path in in_every_format(&source, work.path()) {
            let checkpoint = open(&path, &Limits::default()).unwrap();
            let tokenizer = Tokenizer::new(checkpoint.tokenizer.clone().unwrap()).unwrap();
            let ids = |text: &str| tokenizer.encode(text, false).unwrap();
            assert_eq!(ids("<|im_start|>"), [start], "{}", path.display());
            assert_eq!(ids("<|im_end|>"), [end]);
            let turn = ids("<|im_start|>user\nHi<|im_end|>\n");
            assert_eq!((turn[0], turn.iter().filter(|&&id| id == start || id == end).count()), (start, 2));
            all.push(turn);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    }
}

/// Reports 001, 172 and 205: converted models answered something else, with differences of 40 to 95 %.
#[test]
fn seed_001_converted_models_answer_the_same() {
    for source in [repository("models/nano-qwen2"), PathBuf::from(nano("Q4_K_M")), repository("models/nano-llama")] {
        let work = tempfile::tempdir().unwrap();
        let paths = in_every_format(&source, work.path());
        for pair in paths.windows(2) {
            let [a, b] = [0, 1].map(|i: usize| pair[i].to_str().unwrap());
            let output = run(&["rosetta", "compare-inference", a, b, "-n", "8", "--json"]);
            assert_eq!(code(&output), 0, "{}", json(&output));
        }
    }
}
