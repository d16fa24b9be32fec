//! Tensors in dtypes that hold no weights: every container carries their bytes, and nothing that is asked for of weights
//! touches them.
//!
//! `fixtures/containers/nano-qwen2-Q4_0.carried.gguf` is written by gguf-py, and the SafeTensors library accepts
//! `every-dtype.safetensors`; see `make_containers.py` there.

mod common;

use apr_formats::{
    DTypeRequest, Limits, Recoding, Target, WriteError, WriteOptions, Written, open, open_source, write,
};
use apr_model::{Checkpoint, Format, Tensor, Tensors, compare_values};
use apr_tensor::{DTYPES, DType, codec};
use common::bytes::gguf_model;
use common::{in_memory, models, no_progress};
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    models().join("../fixtures/containers/nano-qwen2-Q4_0.carried.gguf")
}

fn read(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

fn put(checkpoint: &Checkpoint, path: &Path, format: Format, options: &WriteOptions) -> Result<Written, WriteError> {
    write(checkpoint, &Target { path: path.to_owned(), format }, options, &mut no_progress())
}

fn carried(checkpoint: &Checkpoint) -> Vec<&Tensor> {
    checkpoint.tensors.iter().filter(|tensor| !tensor.dtype.holds_weights()).collect()
}

/// The header of a SafeTensors file, without this project's reader.
fn header(path: &Path) -> serde_json::Value {
    let file = std::fs::read(path).unwrap();
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&file[8..8 + n]).unwrap()
}

#[test]
fn every_container_has_the_same_bytes_under_the_name_that_it_has_for_them() {
    let (work, source) = (tempfile::tempdir().unwrap(), read(&fixture()));
    let names: Vec<_> = carried(&source).iter().map(|tensor| format!("{} {}", tensor.name, tensor.dtype)).collect();
    assert_eq!(names, ["test.I8 I8", "test.I16 I16", "test.I32 I32", "test.I64 I64", "test.F64 F64", "test.Q8_K Q8_K"]);
    for format in [Format::SafeTensors, Format::Apr] {
        let path = work.path().join(format.name());
        put(&source, &path, format, &WriteOptions::default()).unwrap();
        let copy = read(&path);
        for tensor in carried(&source) {
            let there = copy.tensors.get(&tensor.name).unwrap();
            assert_eq!((there.dtype, &there.shape), (tensor.dtype, &tensor.shape), "{format} {}", tensor.name);
            assert!(*there.data == *tensor.data, "{format} {}", tensor.name);
        }
    }
    let header = header(&work.path().join("safetensors/model.safetensors"));
    let of = |name: &str| (header[name]["dtype"].as_str().unwrap().to_owned(), header[name]["shape"].to_string());
    assert_eq!(of("test.I64"), ("I64".into(), "[3,5]".into()));
    assert_eq!(of("test.F64"), ("F64".into(), "[2,7]".into()));
    assert_eq!(of("test.Q8_K"), ("U8".into(), "[2,292]".into()), "blocks are packed");
}

#[test]
fn another_dtype_is_for_weights() {
    let (work, source) = (tempfile::tempdir().unwrap(), read(&fixture()));
    for format in Format::ALL {
        let path = work.path().join(format!("to-{format}"));
        let recoding = Some(Recoding::DType(DTypeRequest::new(DType::F16).unwrap()));
        let written = put(&source, &path, format, &WriteOptions { recoding, ..WriteOptions::default() }).unwrap();
        let copy = read(&path);
        assert_eq!(copy.tensors.role(apr_model::TensorRole::TokenEmbed).unwrap().dtype, DType::F16);
        for tensor in carried(&source) {
            let there = copy.tensors.get(&tensor.name).unwrap();
            assert!((there.dtype, &*there.data) == (tensor.dtype, &*tensor.data), "{format} {}", tensor.name);
            assert!(written.steps.iter().all(|step| step.tensor != tensor.name));
            assert!(written.lossy.iter().all(|loss| loss.tensor != tensor.name));
        }
    }
    for dtype in [DType::F64, DType::I8, DType::Q8_1, DType::F8E4M3] {
        assert!(DTypeRequest::new(dtype).unwrap_err().contains("carries it where it is"), "{dtype}");
    }
}

/// The lowest bit of an integer beyond 2^53 is no bit of any float that it decodes to.
#[test]
fn one_bit_that_no_float_shows_is_a_difference() {
    let source = read(&fixture());
    for name in ["test.I64", "test.F64"] {
        let sound = source.tensors.get(name).unwrap();
        let mut bytes = sound.data.to_vec();
        bytes[8] ^= 1;
        let values = |bytes: &[u8]| {
            let mut values = vec![0.0; sound.shape.n_elements()];
            codec::decode(sound.dtype, bytes, &mut values);
            values
        };
        assert_eq!(values(&bytes), values(&sound.data), "the values look the same");
        let mutant = Tensor { data: bytes.into(), ..sound.clone() };
        let found = compare_values(sound, &mutant);
        assert_eq!((found.n_different, found.first.unwrap().0), (1, 1), "{name}");
        assert_eq!(compare_values(sound, &sound.clone()).n_different, 0);
    }
}

/// All tensors of a model as binary64.
fn widened(model: &str) -> Checkpoint {
    let source = read(&common::hf_dir(model).keep());
    let mut tensors = Tensors::default();
    for tensor in &source.tensors {
        let mut values = vec![0.0; tensor.shape.n_elements()];
        codec::decode(tensor.dtype, &tensor.data, &mut values);
        let bytes: Vec<u8> = values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
        tensors.push(Tensor { dtype: DType::F64, data: bytes.into(), ..tensor.clone() }).unwrap();
    }
    Checkpoint { tensors, ..source }
}

/// Weights in F64 are carried like anything else, norms too, and rows of q and k still stand in the order of the target.
#[test]
fn weights_of_64_bits_come_back_from_every_format() {
    for model in ["nano-qwen2", "nano-llama"] {
        let work = tempfile::tempdir().unwrap();
        let first = work.path().join("first");
        put(&widened(model), &first, Format::SafeTensors, &WriteOptions::default()).unwrap();
        for via in [Format::Gguf, Format::Apr] {
            let (there, back) = (work.path().join(format!("{via}")), work.path().join(format!("back-{via}")));
            put(&read(&first), &there, via, &WriteOptions::default()).unwrap();
            let copy = read(&there);
            for (a, b) in read(&first).tensors.iter().map(|a| (a, copy.tensors.get(&a.name).unwrap())) {
                assert_eq!(b.dtype, DType::F64, "{via} {}", b.name);
                assert_eq!(compare_values(a, b).n_different, 0, "{via} {}", b.name);
            }
            assert_eq!(put(&copy, &back, Format::SafeTensors, &WriteOptions::default()).unwrap().restored, Ok(()));
            assert_eq!(common::content(&back), common::content(&first), "{via}");
        }
    }
}

/// ggml's block of Q8_1 has 36 bytes; a reader that takes it for 40 finds the next tensor inside it.
#[test]
fn a_block_of_q8_1_has_36_bytes() {
    let file = |n: u64| gguf_model("qwen2", &[("a", 9, &[2, 64], 0), ("b", 0, &[4], n)], 192);
    let checkpoint = open_source(&in_memory("x.gguf", &file(160)).unwrap(), &Limits::default()).unwrap();
    assert_eq!(checkpoint.tensors.get("a").unwrap().data.len(), 4 * 36);
    let refused = open_source(&in_memory("x.gguf", &file(128)).unwrap(), &Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("\"a\""), "{refused}");
    let partial = gguf_model("qwen2", &[("a", 9, &[2, 33], 0)], 192);
    let refused = open_source(&in_memory("x.gguf", &partial).unwrap(), &Limits::default()).unwrap_err();
    assert!(refused.to_string().contains("rows of 33 elements, Q8_1 needs a multiple of 32"), "{refused}");
}

/// The fixture of the SafeTensors library, in a directory of its own.
fn every_dtype() -> PathBuf {
    let dir = common::hf_dir("nano-qwen2").keep();
    std::fs::copy(models().join("../fixtures/containers/every-dtype.safetensors"), dir.join("model.safetensors"))
        .unwrap();
    dir
}

#[test]
fn every_dtype_of_safetensors_comes_back_from_apr_with_and_without_a_capsule() {
    let (work, source) = (tempfile::tempdir().unwrap(), every_dtype());
    let original = read(&source);
    let mut found: Vec<_> = original.tensors.iter().map(|tensor| tensor.dtype).collect();
    let mut expected: Vec<_> =
        DTYPES.iter().filter(|row| row.safetensors_name.is_some()).map(|row| row.dtype).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for capsule in [true, false] {
        let options = WriteOptions { capsule, ..WriteOptions::default() };
        let (there, back) = (work.path().join(format!("{capsule}.apr")), work.path().join(format!("back-{capsule}")));
        assert_eq!(put(&original, &there, Format::Apr, &options).unwrap().n_verbatim, found.len());
        let copy = read(&there);
        for tensor in &original.tensors {
            let other = copy.tensors.get(&tensor.name).unwrap();
            assert_eq!((other.dtype, &other.shape), (tensor.dtype, &tensor.shape), "{}", tensor.name);
            assert!(*other.data == *tensor.data, "{}", tensor.name);
        }
        let written = put(&copy, &back, Format::SafeTensors, &options).unwrap();
        assert_eq!(written.restored.is_ok(), capsule);
        if capsule {
            assert_eq!(common::content(&back), common::content(&source));
        }
        let (a, b) = (header(&source.join("model.safetensors")), header(&back.join("model.safetensors")));
        for tensor in &original.tensors {
            for field in ["dtype", "shape"] {
                assert_eq!(a[&tensor.name][field], b[&tensor.name][field], "{}", tensor.name);
            }
            assert!(*read(&back).tensors.get(&tensor.name).unwrap().data == *tensor.data, "{}", tensor.name);
        }
    }
}

#[test]
fn gguf_refuses_what_it_has_no_dtype_for_by_tensor_and_dtype() {
    let (work, original) = (tempfile::tempdir().unwrap(), read(&every_dtype()));
    let path = work.path().join("x.gguf");
    let mut n_refused = 0;
    for tensor in &original.tensors {
        let mut tensors = Tensors::default();
        tensors.push(tensor.clone()).unwrap();
        let written = put(&Checkpoint { tensors, ..original.clone() }, &path, Format::Gguf, &WriteOptions::default());
        match (written, tensor.dtype.ggml_id()) {
            (Ok(_), Some(_)) => std::fs::remove_file(&path).unwrap(),
            (Err(error), None) => {
                let (name, dtype) = (&tensor.name, tensor.dtype);
                let expected = format!("tensor {name}: GGUF has no {dtype}; SafeTensors and APR carry it");
                assert!(error.to_string().contains(&expected), "{error}");
                assert!(!path.exists());
                n_refused += 1;
            }
            (written, _) => panic!("{}: {written:?}", tensor.name),
        }
    }
    assert_eq!(n_refused, 14);
}

/// As Transformers once saved them: positions, a mask, and frequencies.
#[test]
fn buffers_that_no_architecture_knows_do_not_stop_a_conversion() {
    let (work, source) = (tempfile::tempdir().unwrap(), read(&common::hf_dir("nano-qwen2").keep()));
    let mut tensors = source.tensors.clone();
    for (name, dtype, n_bytes, dims) in [
        ("model.embeddings.position_ids", DType::I64, 8 * 16, [1, 16]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", DType::F32, 4 * 8, [1, 8]),
    ] {
        let data: Vec<u8> = (0..n_bytes).map(|i| i as u8).collect();
        let shape = apr_tensor::Shape::new(&dims).unwrap();
        tensors
            .push(Tensor::new(name.into(), None, dtype, shape, data.into(), apr_model::Relayout::Identity).unwrap())
            .unwrap();
    }
    let first = work.path().join("first");
    put(&Checkpoint { tensors, ..source }, &first, Format::SafeTensors, &WriteOptions::default()).unwrap();
    for via in [Format::Gguf, Format::Apr] {
        let (there, back) = (work.path().join(format!("{via}")), work.path().join(format!("back-{via}")));
        put(&read(&first), &there, via, &WriteOptions::default()).unwrap();
        assert_eq!(read(&there).tensors.get("model.embeddings.position_ids").unwrap().dtype, DType::I64);
        assert_eq!(put(&read(&there), &back, Format::SafeTensors, &WriteOptions::default()).unwrap().restored, Ok(()));
        assert_eq!(common::content(&back), common::content(&first), "{via}");
    }
}
