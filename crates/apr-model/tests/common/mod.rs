//! What the tokenizer tests of several crates share: the models of the repository, and a reader of GGUF's key-value
//! section that is written apart from the one under test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use apr_model::{ChatTemplates, GgufTokenizer, HfTokenizerFiles, Texts, TokenizerSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Models of the repository that have a tokenizer.
pub const MODELS: &[&str] = &["nano-llama", "nano-qwen2", "nano-qwen3", "tiny-qwen2"];

/// A path relative to the root of the repository.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Owned bytes of the tokenizer files of a Transformers directory, by name.
pub struct HfDirectory(BTreeMap<&'static str, Vec<u8>>);

const NAMES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "config.json",
    "special_tokens_map.json",
    "tokenizer.model",
];

impl HfDirectory {
    pub fn open(model: &str) -> Self {
        let dir = repo("models").join(model);
        HfDirectory(NAMES.into_iter().filter_map(|name| Some((name, std::fs::read(dir.join(name)).ok()?))).collect())
    }

    /// The files that the writers give.
    pub fn written(spec: &TokenizerSpec, with_scores: bool) -> Self {
        let mut files = BTreeMap::from([
            ("tokenizer.json", spec.to_tokenizer_json().into_bytes()),
            (
                "tokenizer_config.json",
                spec.to_tokenizer_config_json(&ChatTemplates::only("{{ messages }}"), Some(2048)).into_bytes(),
            ),
            ("generation_config.json", spec.to_generation_config_json().into_bytes()),
        ]);
        files.extend(spec.to_sentencepiece_model().filter(|_| with_scores).map(|bytes| ("tokenizer.model", bytes)));
        HfDirectory(files)
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub fn with(mut self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name, bytes.into());
        self
    }

    pub fn text(&self, name: &str) -> &str {
        std::str::from_utf8(&self.0[name]).unwrap()
    }

    pub fn files(&self) -> HfTokenizerFiles<'_> {
        let get = |name| self.0.get(name).map(Vec::as_slice);
        HfTokenizerFiles {
            tokenizer_json: get("tokenizer.json"),
            tokenizer_config: get("tokenizer_config.json"),
            generation_config: get("generation_config.json"),
            config: get("config.json"),
            special_tokens_map: get("special_tokens_map.json"),
            tokenizer_model: get("tokenizer.model"),
        }
    }

    pub fn spec(&self) -> TokenizerSpec {
        TokenizerSpec::from_hf(&self.files()).unwrap()
    }
}

/// GGUF files of a model.
pub fn ggufs(model: &str) -> Vec<PathBuf> {
    let dir = repo("models").join(model).join("gguf");
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty(), "{model} has GGUF files");
    found
}

#[derive(Clone, Debug)]
pub enum Value {
    Integer(i64),
    Float(f32),
    Text(String),
    List(Vec<Value>),
}

/// Reads the key-value section of a GGUF file of the repository.
pub fn key_values(path: &Path) -> BTreeMap<String, Value> {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = Reader(&bytes);
    assert_eq!(reader.take(4), b"GGUF");
    reader.u32();
    reader.u64();
    let n_keys = reader.u64();
    (0..n_keys)
        .map(|_| {
            let key = reader.text();
            let kind = reader.u32();
            (key, reader.value(kind))
        })
        .collect()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 7 => Value::Integer(self.take(1)[0].into()),
            4 => Value::Integer(self.u32().into()),
            5 => Value::Integer((self.u32() as i32).into()),
            6 => Value::Float(f32::from_bits(self.u32())),
            8 => Value::Text(self.text()),
            9 => {
                let (kind, len) = (self.u32(), self.u64());
                Value::List((0..len).map(|_| self.value(kind)).collect())
            }
            10 => Value::Integer(self.u64() as i64),
            other => panic!("GGUF value type {other} is not used by these files"),
        }
    }
}

/// The tokenizer keys of a GGUF file.
pub fn gguf_tokenizer(path: &Path) -> GgufTokenizer {
    let keys = key_values(path);
    let get = |key: &str| keys.get(&format!("tokenizer.ggml.{key}"));
    let id = |key| get(key).map(|value| value.integer() as u32);
    let flag = |key| get(key).map(|value| value.integer() != 0);
    let texts = |key| get(key).map(|value| value.list().iter().map(Value::text).collect::<Texts>());
    GgufTokenizer {
        model: get("model").unwrap().text(),
        pre: get("pre").map(Value::text),
        tokens: texts("tokens").unwrap(),
        scores: get("scores").map(|value| value.list().iter().map(Value::float).collect()),
        token_types: get("token_type").map(|value| value.list().iter().map(|v| v.integer() as i32).collect()),
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        eot: id("eot_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        stop_ids: None,
        space_prefix: None,
    }
}

impl Value {
    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(value) => *value,
            other => panic!("{other:?} is no integer"),
        }
    }

    pub fn float(&self) -> f32 {
        match self {
            Value::Float(value) => *value,
            other => panic!("{other:?} is no float"),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Value::Text(value) => value.clone(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn list(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            other => panic!("{other:?} is no list"),
        }
    }
}
