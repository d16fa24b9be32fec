//! Every dtype in a model: the logits are those of Transformers over the values that ggml decodes, and the containers
//! carry the bytes. Files and expected values: `fixtures/dtypes/make_every_dtype.py`.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use apr_engine::{LogitsDigest, LogitsHasher, Model, Session, SessionOptions};
use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_kernels::Backend;
use apr_model::{Checkpoint, Format, Tensor, Tensors};
use apr_tensor::{DType, weight_dtypes};
use serde::Deserialize;

const EVERY_DTYPE: &str = "fixtures/dtypes/every-dtype.gguf";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    files: BTreeMap<String, Logits>,
}

/// Of Transformers in float32.
#[derive(Deserialize)]
struct Logits {
    /// The highest token at each position.
    argmax: Vec<usize>,
    /// At the last position.
    last_logits: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(repository("fixtures/dtypes/logits.json")).unwrap()).unwrap()
}

fn checkpoint(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The logits at every position, and their digest.
fn run(checkpoint: &Checkpoint, ids: &[u32]) -> (Vec<Vec<f32>>, LogitsDigest) {
    let model = Model::new(checkpoint, Backend::detect().unwrap()).unwrap();
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let (mut logits, mut hasher) = (Vec::new(), LogitsHasher::default());
    session
        .prefill_each(ids, |_, values| {
            logits.push(values.to_vec());
            hasher.update(values);
        })
        .unwrap();
    (logits, hasher.digest())
}

fn dtypes(checkpoint: &Checkpoint) -> HashSet<DType> {
    checkpoint.tensors.iter().map(|tensor| tensor.dtype).collect()
}

#[test]
fn the_fixtures_have_every_dtype() {
    let mut found = HashSet::new();
    for path in golden().files.keys() {
        found.extend(dtypes(&checkpoint(&repository(path))));
    }
    let missing: Vec<_> = weight_dtypes().filter(|row| !found.contains(&row.dtype)).map(|row| row.name).collect();
    assert_eq!(missing, ["Q2_0"], "gguf-py cannot write it");
}

#[test]
fn logits_are_those_of_transformers_over_the_values_of_ggml() {
    let golden = golden();
    for (path, expected) in &golden.files {
        let (logits, _) = run(&checkpoint(&repository(path)), &golden.ids);
        let highest = |logits: &Vec<f32>| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(logits.iter().map(highest).collect::<Vec<_>>(), expected.argmax, "{path}");
        let last = logits.last().unwrap();
        assert_eq!(last.len(), expected.last_logits.len(), "{path}");
        let largest = expected.last_logits.iter().fold(0.0f32, |max, logit| max.max(logit.abs()));
        let worst = last.iter().zip(&expected.last_logits).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
        println!("{path}: max |Δlogit| {worst:e} of {largest}");
        assert!(worst <= 1e-4 * largest, "{path}: {worst} of {largest}");
    }
}

/// A weight that is carried can't be computed with, and a tensor that the model does not use is not passed over.
#[test]
fn what_holds_no_weights_is_refused_by_name_when_a_model_is_run() {
    let refusal = |checkpoint: &Checkpoint| {
        let model = Model::new(checkpoint, Backend::detect().unwrap());
        model.err().expect("a model that can't be run").to_string()
    };
    let carried = checkpoint(&repository("fixtures/containers/nano-qwen2-Q4_0.carried.gguf"));
    let error = refusal(&carried);
    assert!(error.contains("test.I8") && error.contains("doesn't use it"), "{error}");

    let plain = checkpoint(&repository("models/nano-qwen2/gguf/nano-qwen2-Q4_0.gguf"));
    assert_eq!(carried.tensors.len(), plain.tensors.len() + 6);
    for name in ["model.norm.weight", "model.layers.1.mlp.down_proj.weight"] {
        let mut tensors = Tensors::default();
        for tensor in &plain.tensors {
            let mut tensor = tensor.clone();
            if tensor.name == name {
                let data = vec![0; 8 * tensor.shape.n_elements()].into();
                tensor = Tensor { dtype: DType::F64, data, ..tensor };
            }
            tensors.push(tensor).unwrap();
        }
        let error = refusal(&Checkpoint { tensors, ..plain.clone() });
        assert_eq!(error, format!("tensor {name}: F64 holds no weights: no kernel computes with it"));
    }
}

/// GGUF → A → B → GGUF: the same logits on the way, the same bytes at its end.
#[test]
fn every_dtype_survives_every_container() {
    let (ids, source) = (golden().ids, repository(EVERY_DTYPE));
    let original = checkpoint(&source);
    let (_, expected) = run(&original, &ids);
    for way in [[Format::SafeTensors, Format::Apr], [Format::Apr, Format::SafeTensors]] {
        let work = tempfile::tempdir().unwrap();
        let mut current = source.clone();
        for (step, format) in way.into_iter().chain([Format::Gguf]).enumerate() {
            let path = work.path().join(match format {
                Format::SafeTensors => format!("{step}"),
                _ => format!("{step}.{}", format.name()),
            });
            let target = Target { path: path.clone(), format };
            let mut progress = |_: u64, _: u64| ControlFlow::Continue(());
            write(&checkpoint(&current), &target, &WriteOptions::default(), &mut progress).unwrap();
            let there = checkpoint(&path);
            assert_eq!(dtypes(&there), dtypes(&original), "{format}");
            assert_eq!(run(&there, &ids).1, expected, "{format} after {}", current.display());
            current = path;
        }
        assert!(std::fs::read(&current).unwrap() == std::fs::read(&source).unwrap(), "{way:?}");
    }
}
