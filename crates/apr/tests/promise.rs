//! The promise of the exact numerics as a matrix: a model and a dtype have one digest of logits, whatever the
//! container, the instruction set, the number of threads, and the way in which the tokens arrive.
//!
//! What a test cannot vary within a process, the build and the machine, is in `tests/promise.sh`.

use apr_engine::{CacheDType, LogitsDigest, LogitsHasher, Model, Session, SessionOptions};
use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_kernels::{Backend, Isa, KernelSet};
use apr_model::{Checkpoint, Format};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// How the tokens of a prompt reach the session.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    TokenByToken,
    /// Calls of different lengths, some of which the session cuts again.
    Ragged,
    /// Behind a context that began in the same way and went on differently.
    PrefixReuse,
}

const WAYS: [Way; 4] = [Way::Whole, Way::TokenByToken, Way::Ragged, Way::PrefixReuse];
const N_THREADS: [usize; 3] = [1, 2, 5];

/// Digest of the logits at every position of `ids`.
fn digest(model: &Model, cache_dtype: CacheDType, ids: &[u32], way: Way) -> LogitsDigest {
    let chunk = if matches!(way, Way::Ragged) { 5 } else { ids.len() };
    let chunk_tokens = NonZeroUsize::new(chunk).unwrap();
    let mut session =
        Session::new(model, SessionOptions { cache_dtype, chunk_tokens, ..SessionOptions::default() }).unwrap();
    let mut hasher = LogitsHasher::default();
    let mut rest = ids;
    for n in [1, 7, 2, 19, 3, 11].into_iter().cycle() {
        let n = match way {
            Way::Whole => rest.len(),
            Way::TokenByToken => 1,
            Way::Ragged => n.min(rest.len()),
            Way::PrefixReuse => rest.len().min(ids.len() * 2 / 3),
        };
        let (piece, after) = rest.split_at(n);
        session.prefill_each(piece, |_, logits| hasher.update(logits)).unwrap();
        rest = after;
        if rest.is_empty() {
            break;
        }
        if matches!(way, Way::PrefixReuse) {
            session.prefill(&[rest[0] ^ 1, 3, 2]).unwrap();
            assert_eq!(session.keep_common_prefix(ids), n);
        }
    }
    assert_eq!(session.tokens(), ids);
    hasher.digest()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The models of a folder of `models/` that differ in dtype: the Transformers files, and what llama.cpp made of them.
fn sources(name: &str) -> Vec<PathBuf> {
    let folder = repository("models").join(name);
    let mut gguf: Vec<_> = std::fs::read_dir(folder.join("gguf")).unwrap().map(|e| e.unwrap().path()).collect();
    gguf.sort();
    std::iter::once(folder.join("model.safetensors")).chain(gguf).collect()
}

/// The model at `source` in every container; one of them is the source itself.
fn containers(source: &Path, dir: &Path) -> Vec<(Format, Checkpoint)> {
    let original = open(source, &Limits::default()).unwrap();
    let formats = [Format::Gguf, Format::SafeTensors, Format::Apr].into_iter();
    let opened = formats.map(|format| {
        if format == original.origin.format {
            return (format, open(source, &Limits::default()).unwrap());
        }
        let target = Target { path: dir.join(format.name()), format };
        write(&original, &target, &WriteOptions::default(), &mut |_, _| ControlFlow::Continue(())).unwrap();
        (format, open(&target.path, &Limits::default()).unwrap())
    });
    opened.collect()
}

/// Every instruction set of this machine, with each number of threads.
fn backends() -> Vec<(Isa, usize, Backend)> {
    let sets = KernelSet::available().into_iter();
    sets.flat_map(|set| N_THREADS.map(|n| (set.isa(), n, Backend::new(set, n)))).collect()
}

/// The long prompt of the goldens, which no one chose for this test.
fn prompt(name: &str, n_tokens: usize) -> Vec<u32> {
    let text = std::fs::read_to_string(repository("models").join(name).join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let long = golden["prompts"].as_array().unwrap().iter().find(|prompt| prompt["id"] == "long").unwrap();
    let ids = long["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
    ids.take(n_tokens).collect()
}

/// Runs the matrix on a model: `n_tokens` of prompt for the Transformers files, `n_tokens_gguf` for the others.
fn check(name: &str, n_tokens: usize, n_tokens_gguf: usize) {
    let backends = backends();
    let mut found = BTreeMap::new();
    for source in sources(name) {
        let label = source.file_stem().unwrap().to_str().unwrap();
        let is_gguf = source.extension().unwrap() == "gguf";
        let ids = prompt(name, if is_gguf { n_tokens_gguf } else { n_tokens });
        let dir = tempfile::tempdir().unwrap();
        let mut expected = None;
        let mut n_runs = 0;
        for (format, checkpoint) in containers(&source, dir.path()) {
            for (isa, n_threads, backend) in &backends {
                let model = Model::new(&checkpoint, backend.clone()).unwrap();
                for way in WAYS {
                    let digest = digest(&model, CacheDType::F32, &ids, way);
                    let expected = *expected.get_or_insert(digest);
                    assert_eq!(digest, expected, "{label} as {format}, {isa}, {n_threads} threads, {way:?}");
                    n_runs += 1;
                }
            }
        }
        println!("{name}/{label}: {n_runs} runs, digest {}", expected.unwrap());
        found.insert(label.to_owned(), expected.unwrap());
    }
    // Where llama.cpp widened the same values, the dtype does not matter either; where it rounded them, it does. F16
    // is neither: whether these BF16 values fit depends on the model.
    let ids = prompt(name, n_tokens_gguf);
    let checkpoint = open(&sources(name)[0], &Limits::default()).unwrap();
    let model = Model::new(&checkpoint, backends[0].2.clone()).unwrap();
    let of_values = digest(&model, CacheDType::F32, &ids, Way::Whole);
    for (label, digest) in found.iter().filter(|(label, _)| *label != "model" && !label.ends_with("-F16")) {
        let same_values = label.ends_with("-BF16") || label.ends_with("-F32");
        assert_eq!(*digest == of_values, same_values, "{label}");
    }
    // An f16 cache is a choice that reports name. It has one digest of its own.
    let half = digest(&model, CacheDType::F16, &ids, Way::Whole);
    assert_ne!(half, of_values, "{name}");
    for (isa, n_threads, backend) in &backends {
        let model = Model::new(&checkpoint, backend.clone()).unwrap();
        for way in WAYS {
            let digest = digest(&model, CacheDType::F16, &ids, way);
            assert_eq!(digest, half, "{name}, f16 cache, {isa}, {n_threads} threads, {way:?}");
        }
    }
}

// The nano models' prompt passes attention's chunk of 256 positions.

#[test]
fn tiny_qwen2_has_one_digest_per_dtype() {
    check("tiny-qwen2", 5, 5);
}

#[test]
fn nano_qwen2_has_one_digest_per_dtype() {
    check("nano-qwen2", 270, 14);
}

#[test]
fn nano_qwen3_has_one_digest_per_dtype() {
    check("nano-qwen3", 270, 14);
}

#[test]
fn nano_llama_has_one_digest_per_dtype() {
    check("nano-llama", 270, 14);
}
