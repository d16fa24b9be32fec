//! Random models come back: A → B → A and A → B → C → A give the same files, for every format and every way.
//!
//! The files are built here byte by byte, not by the writers. A failure names the seed.

mod common;

use apr_formats::{Limits, WriteOptions, open};
use apr_model::{Checkpoint, Format};
use apr_tensor::{DTYPES, DTypeInfo, FIRST_OWN_ID};
use common::bytes::{
    APR_METADATA, Random, array_value, crc32, f32_value, gguf, model_pairs, seal_apr, str_value, text_bytes, u32_value,
};
use common::content;
use std::fs;
use std::path::{Path, PathBuf};

const SEEDS: u64 = 8;

/// Parts of names and texts: what formats, JSON and recipes give a meaning, and what some program once could not write.
const PARTS: [&str; 16] = [
    "model",
    "layers",
    "weight",
    ".",
    "..",
    "_",
    " ",
    "0",
    "é",
    "名前",
    "\u{1f600}",
    "\"",
    "\\",
    "/",
    "\n",
    "apr.capsule",
];

struct RandomTensor {
    name: String,
    dtype: &'static DTypeInfo,
    dims: Vec<u64>,
    data: Vec<u8>,
}

fn text(random: &mut Random, most: usize) -> String {
    (0..random.below(most + 1)).map(|_| PARTS[random.below(PARTS.len())]).collect()
}

/// An architecture of the table, and one that is in no table.
const ARCHITECTURES: [&str; 2] = ["qwen2", "foo"];

/// Some tensors: of every dtype that `takes` allows and every format holds, of one to four dimensions, which may be zero.
fn tensors(random: &mut Random, takes: impl Fn(&DTypeInfo) -> bool) -> Vec<RandomTensor> {
    let dtypes: Vec<_> = DTYPES.iter().filter(|dtype| dtype.id < FIRST_OWN_ID && takes(dtype)).collect();
    let n = random.below(8);
    let tensor = |i: usize| {
        let dtype = dtypes[random.below(dtypes.len())];
        let name = format!("{i}{}", text(random, 6));
        let mut dims: Vec<u64> = (0..random.below(4)).map(|_| [0, 1, 2, 3, 3, 5][random.below(6)]).collect();
        dims.push((dtype.block_elements * (1 + random.below(3))) as u64);
        let n_blocks = dims.iter().product::<u64>() as usize / dtype.block_elements;
        // Any bits: not a number, too, and blocks that no quantiser would write.
        RandomTensor { name, dtype, dims, data: random.bytes(n_blocks * dtype.block_bytes) }
    };
    (0..n).map(tensor).collect()
}

/// Puts the tensors one after the other in a random order, at multiples of `alignment`; gives back offsets and data.
fn laid_out(random: &mut Random, tensors: &[RandomTensor], alignment: usize) -> (Vec<u64>, Vec<u8>) {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    let (mut offsets, mut data) = (vec![0; tensors.len()], Vec::new());
    for i in order {
        offsets[i] = data.len() as u64;
        data.extend(&tensors[i].data);
        data.resize(data.len().next_multiple_of(alignment), 0);
    }
    (offsets, data)
}

fn random_gguf(architecture: &str, random: &mut Random) -> Vec<u8> {
    let tensors = tensors(random, |_| true);
    let (offsets, data) = laid_out(random, &tensors, 32);
    let mut pairs = model_pairs(architecture);
    for i in 0..random.below(6) {
        let value = match random.below(4) {
            0 => u32_value(random.below(1 << 30) as u32),
            1 => f32_value(0.1),
            2 => str_value(&text(random, 20)),
            _ => array_value(8, &(0..random.below(4)).map(|_| text_bytes(&text(random, 3))).collect::<Vec<_>>()),
        };
        pairs.insert(random.below(pairs.len() + 1), (format!("{i}{}", text(random, 4)), value));
    }
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let infos: Vec<_> = tensors
        .iter()
        .zip(offsets)
        .map(|(t, offset)| (t.name.as_str(), t.dtype.id, t.dims.as_slice(), offset))
        .collect();
    let mut file = gguf(&pairs, &infos, 0);
    file.extend(data);
    file
}

fn random_safetensors(random: &mut Random) -> Vec<u8> {
    let tensors = tensors(random, |dtype| dtype.safetensors_name.is_some());
    let mut header = serde_json::Map::new();
    if random.below(2) == 0 {
        let pairs = (0..random.below(4)).map(|i| (format!("{i}{}", text(random, 3)), text(random, 20).into()));
        header.insert("__metadata__".to_owned(), pairs.collect::<serde_json::Map<_, _>>().into());
    }
    let mut end = 0;
    for tensor in &tensors {
        let start = end;
        end += tensor.data.len();
        let dtype = tensor.dtype.safetensors_name;
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.dims, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', random.below(20)));
    let data: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.data.clone()).collect();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn random_apr(architecture: &str, random: &mut Random) -> Vec<u8> {
    let tensors = tensors(random, |_| true);
    let (offsets, data) = laid_out(random, &tensors, 64);
    let keys = (0..random.below(4)).map(|i| format!("{:?}:{:?},", format!("{i}é"), "a \u{1f600} of another tool"));
    let metadata =
        APR_METADATA.replace("qwen2", architecture).replacen('{', &format!("{{{}", keys.collect::<String>()), 1);
    let mut index = Vec::new();
    for (tensor, offset) in tensors.iter().zip(offsets) {
        index.extend((tensor.name.len() as u16).to_le_bytes());
        index.extend(tensor.name.as_bytes());
        index.extend([tensor.dtype.id as u8, tensor.dims.len() as u8]);
        tensor.dims.iter().for_each(|dim| index.extend(dim.to_le_bytes()));
        index.extend(offset.to_le_bytes());
        index.extend((tensor.data.len() as u64).to_le_bytes());
    }
    let index_at = (64 + metadata.len()).next_multiple_of(64);
    let data_at = (index_at + index.len()).next_multiple_of(64);
    let magic: &[u8] = if random.below(2) == 0 { b"APR\0" } else { b"APR2" };
    let mut file = [magic, &[2, 0, 0, 4], &(tensors.len() as u32).to_le_bytes(), &64u64.to_le_bytes()].concat();
    file.extend((metadata.len() as u32).to_le_bytes());
    file.extend((index_at as u64).to_le_bytes());
    file.extend((data_at as u64).to_le_bytes());
    file.resize(64, 0);
    seal_apr(&mut file);
    for (section, next) in [(metadata.into_bytes(), index_at), (index, data_at)] {
        file.extend(section);
        file.resize(next, 0);
    }
    file.extend(data);
    let crc = crc32(&[&file]);
    file.extend(crc.to_le_bytes());
    file
}

/// Writes a random model of `format` into `dir`.
fn source(format: Format, architecture: &str, random: &mut Random, dir: &Path) -> PathBuf {
    let file = |name: &str, bytes: Vec<u8>| {
        fs::write(dir.join(name), bytes).unwrap();
        dir.join(name)
    };
    match format {
        Format::Gguf => file("source.gguf", random_gguf(architecture, random)),
        Format::Apr => file("source.apr", random_apr(architecture, random)),
        Format::SafeTensors => {
            let class = if architecture == "qwen2" { "Qwen2ForCausalLM" } else { "FooForCausalLM" };
            let with_tokenizer = random.below(2) == 0;
            let model = common::hf_dir("nano-qwen2").keep();
            if !with_tokenizer {
                for name in ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"] {
                    fs::remove_file(model.join(name)).unwrap();
                }
            }
            let config = fs::read_to_string(model.join("config.json")).unwrap();
            let config = config.replace("Qwen2ForCausalLM", class).replace("\"qwen2\"", &format!("{architecture:?}"));
            fs::write(model.join("config.json"), config).unwrap();
            fs::write(model.join("model.safetensors"), random_safetensors(random)).unwrap();
            fs::rename(&model, dir.join("source")).unwrap();
            dir.join("source")
        }
    }
}

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap()
}

/// Converts along `way` and demands the same tensors on it and the same files at its end.
fn check(seed: u64, source: &Path, way: &[Format]) {
    let work = tempfile::tempdir().unwrap();
    let before = opened(source);
    let why = format!("seed {seed}: {} {} along {way:?}", before.spec.architecture(), before.origin.format);
    let mut current = source.to_owned();
    for (step, &format) in way.iter().enumerate() {
        let next = work.path().join(format!("{step}"));
        let written = common::convert(&current, &next, format, &WriteOptions::default());
        let written = written.unwrap_or_else(|error| panic!("{why}: {error}"));
        assert!(step + 1 < way.len() || written.restored == Ok(()), "{why}: {:?}", written.restored);
        let after = opened(&next);
        assert_eq!(after.identity(), before.identity(), "{why}");
        assert_eq!(after.tensors.len(), before.tensors.len(), "{why}");
        for tensor in &before.tensors {
            let other = after.tensors.get(&tensor.name).unwrap_or_else(|| panic!("{why}: {:?}", tensor.name));
            assert_eq!((tensor.dtype, &tensor.shape), (other.dtype, &other.shape), "{why}: {:?}", tensor.name);
            assert!(tensor.data[..] == other.data[..], "{why}: {:?} has other bytes", tensor.name);
        }
        current = next;
    }
    let (before, after) = (content(source), content(&current));
    assert_eq!(before.len(), after.len(), "{why}");
    for ((name, a), (_, b)) in before.iter().zip(&after) {
        assert!(a == b, "{why}: {name} differs");
    }
}

#[test]
fn random_models_come_back_by_every_way_of_two_and_three_steps() {
    let mut n_tensors = 0;
    for seed in 0..SEEDS {
        for (from, architecture) in Format::ALL.into_iter().flat_map(|from| ARCHITECTURES.map(|name| (from, name))) {
            let work = tempfile::tempdir().unwrap();
            let mut random = Random::new(seed);
            let source = source(from, architecture, &mut random, work.path());
            assert_eq!(opened(&source).spec.known().is_some(), architecture == "qwen2");
            n_tensors += opened(&source).tensors.len();
            let others = || Format::ALL.into_iter().filter(|&format| format != from);
            for via in others() {
                check(seed, &source, &[via, from]);
                for then in others().filter(|&then| then != via) {
                    check(seed, &source, &[via, then, from]);
                }
            }
        }
    }
    assert!(n_tensors > 50, "{n_tensors} tensors in all");
}
