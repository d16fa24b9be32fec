//! Every family of the architecture table against Transformers in float32, and the promise for each.
//!
//! `fixtures/families` has a tiny model of each, with what Transformers computes; `make_families.py` there makes them.

use apr_engine::{LogitsHasher, Model, Session, SessionOptions};
use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_kernels::{Backend, KernelSet};
use apr_model::{
    ARCHITECTURES, AttnScale, Checkpoint, Format, ModelSpec, Relayout, RopeScaling, Tensor, TensorRole, Tensors,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Largest |Δlogit|, as a part of the largest |logit|.
const TOLERANCE: f32 = 1e-4;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap());
    let models = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = models.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn load(name: &str) -> Checkpoint {
    open(&directory().join(name), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn backend() -> Backend {
    Backend::new(KernelSet::detect().unwrap(), 1)
}

/// A prompt and the logits that Transformers gives at each of its positions.
struct Golden {
    prompt: String,
    ids: Vec<u32>,
    logits: Vec<f32>,
}

fn goldens(name: &str) -> Vec<Golden> {
    let text = std::fs::read_to_string(directory().join(format!("{name}.golden.json"))).unwrap();
    let file = std::fs::read(directory().join(format!("{name}.golden.safetensors"))).unwrap();
    let data_start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..data_start]).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let prompts = json["prompts"].as_array().unwrap().iter().map(|entry| {
        let prompt = entry["id"].as_str().unwrap().to_owned();
        assert_eq!(header[&prompt]["dtype"], "F32");
        let at = |i: usize| data_start + header[&prompt]["data_offsets"][i].as_u64().unwrap() as usize;
        let logits = file[at(0)..at(1)].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let ids = entry["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        Golden { prompt, ids, logits }
    });
    prompts.collect()
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let model = Model::new(checkpoint, backend()).unwrap_or_else(|error| panic!("{error}"));
    Session::new(&model, SessionOptions::default()).unwrap().forward_all(ids).unwrap()
}

/// Largest |Δlogit| as a part of the largest |logit| of `expected`.
fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) }) / largest
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[test]
fn every_row_of_the_table_has_a_model_here() {
    let found: BTreeSet<_> = names().iter().map(|name| load(name).spec.arch().unwrap().id).collect();
    let rows: BTreeSet<_> = ARCHITECTURES.iter().map(|row| row.id).collect();
    assert_eq!(found, rows);
}

#[test]
fn logits_are_those_of_transformers_at_every_position() {
    for name in names() {
        let checkpoint = load(&name);
        let vocab = checkpoint.spec.known().unwrap().vocab_size as usize;
        for golden in goldens(&name) {
            let found = logits(&checkpoint, &golden.ids);
            let difference = relative_difference(&found, &golden.logits);
            println!("{name} {}: {} positions, max |Δ| {difference:.1e}", golden.prompt, golden.ids.len());
            assert!(difference <= TOLERANCE, "{name} {}: {difference}", golden.prompt);
            for (position, (ours, theirs)) in found.chunks(vocab).zip(golden.logits.chunks(vocab)).enumerate() {
                assert_eq!(argmax(ours), argmax(theirs), "{name} {} position {position}", golden.prompt);
            }
        }
    }
}

#[test]
fn digest_is_the_same_for_every_instruction_set_thread_count_and_cut() {
    for name in names() {
        let checkpoint = load(&name);
        let golden = goldens(&name).pop().unwrap();
        let digest = |backend: Backend, chunk: usize, pieces: &[usize]| {
            let model = Model::new(&checkpoint, backend).unwrap();
            let options = SessionOptions { chunk_tokens: chunk.try_into().unwrap(), ..SessionOptions::default() };
            let mut session = Session::new(&model, options).unwrap();
            let (mut hasher, mut rest) = (LogitsHasher::default(), &golden.ids[..]);
            for n in pieces.iter().copied().cycle() {
                let (piece, after) = rest.split_at(n.min(rest.len()));
                session.prefill_each(piece, |_, logits| hasher.update(logits)).unwrap();
                rest = after;
                if rest.is_empty() {
                    return hasher.digest();
                }
            }
            unreachable!("the pieces have lengths")
        };
        let expected = digest(backend(), 64, &[64]);
        for set in KernelSet::available() {
            for n_threads in [1, 2] {
                let backend = Backend::new(set, n_threads);
                for (chunk, pieces) in [(64, &[64][..]), (1, &[1]), (5, &[1, 7, 2, 19, 3])] {
                    let found = digest(backend.clone(), chunk, pieces);
                    assert_eq!(found, expected, "{name} {backend:?}, pieces {pieces:?} in chunks of {chunk}");
                }
            }
        }
    }
}

/// Fused, permuted and widened tensors are other bytes of the same model.
#[test]
fn logits_are_the_same_bits_in_every_format() {
    for name in names() {
        let checkpoint = load(&name);
        let ids = goldens(&name).pop().unwrap().ids;
        let expected = logits(&checkpoint, &ids);
        for format in [Format::Apr, Format::Gguf] {
            let work = tempfile::tempdir().unwrap();
            let target = Target { path: work.path().join(format!("m.{}", format.name())), format };
            let written = write(&checkpoint, &target, &WriteOptions::default(), &mut |_, _| ControlFlow::Continue(()));
            written.unwrap_or_else(|error| panic!("{name}: {error}"));
            let converted = open(&target.path, &Limits::default()).unwrap();
            assert_eq!(logits(&converted, &ids), expected, "{name} as {format}");
        }
    }
}

fn as_gguf(name: &str) -> Checkpoint {
    let work = tempfile::tempdir().unwrap();
    let target = Target { path: work.path().join("m.gguf"), format: Format::Gguf };
    write(&load(name), &target, &WriteOptions::default(), &mut |_, _| ControlFlow::Continue(())).unwrap();
    open(&target.path, &Limits::default()).unwrap()
}

/// A file of llama.cpp's with factors alone: they are the scaling, whatever they came from.
#[test]
fn factors_of_a_file_scale_what_turns() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("m.gguf");
    let target = Target { path: path.clone(), format: Format::Gguf };
    let options = WriteOptions { capsule: false, ..WriteOptions::default() };
    write(&load("llama-llama3"), &target, &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"apr.rope_scaling";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at..at + 3].copy_from_slice(b"not");
    std::fs::write(&path, &bytes).unwrap();
    let by_factors = open(&path, &Limits::default()).unwrap();
    assert_eq!(by_factors.spec.known().unwrap().variation.rope_scaling, RopeScaling::None);
    assert!(by_factors.tensors.role(TensorRole::RopeFactors).is_some());
    let golden = goldens("llama-llama3").pop().unwrap();
    let found = logits(&by_factors, &golden.ids);
    let difference = relative_difference(&found, &golden.logits);
    println!("by factors: {difference:.1e}");
    assert!(difference <= TOLERANCE, "{difference}");
    for format in [Format::Apr, Format::SafeTensors] {
        let target = Target { path: work.path().join(format.name()), format };
        write(&by_factors, &target, &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(logits(&open(&target.path, &Limits::default()).unwrap(), &golden.ids), found, "as {format}");
    }

    // Without them, or with those of another context, it is another model.
    let mut tensors = Tensors::default();
    let others = by_factors.tensors.iter().filter(|tensor| tensor.role != Some(TensorRole::RopeFactors));
    others.for_each(|tensor| tensors.push(tensor.clone()).unwrap());
    let without = Checkpoint { tensors, ..by_factors };
    let difference = relative_difference(&logits(&without, &golden.ids), &golden.logits);
    assert!(difference > 10.0 * TOLERANCE, "{difference}");
}

/// What GGUF stores otherwise is read otherwise: the same bytes taken as Transformers' are another model.
#[test]
fn each_stored_form_matters() {
    let check = |name: &str, form: Relayout, of: &dyn Fn(&Tensor) -> bool| {
        let mut changed = as_gguf(name);
        let mut n_changed = 0;
        let mut tensors = Tensors::default();
        for tensor in &changed.tensors {
            let hit = tensor.relayout == form && of(tensor);
            n_changed += usize::from(hit);
            let relayout = if hit { Relayout::Identity } else { tensor.relayout };
            tensors.push(Tensor { relayout, ..tensor.clone() }).unwrap();
        }
        changed.tensors = tensors;
        let golden = goldens(name).pop().unwrap();
        let difference = relative_difference(&logits(&changed, &golden.ids), &golden.logits);
        println!("{name} with {n_changed} tensors stored as {form:?} taken as they are: {difference:.1e}");
        assert!(n_changed > 0 && difference > 10.0 * TOLERANCE, "{name}: {n_changed}, {difference}");
    };
    check("gemma", Relayout::PlusOne, &|tensor| tensor.role == Some(TensorRole::OutputNorm));
    check("gemma2", Relayout::PlusOne, &|tensor| tensor.name.ends_with("post_feedforward_layernorm.weight"));
    check("gemma3", Relayout::PlusOne, &|tensor| tensor.name.ends_with("q_norm.weight"));
    check("gpt2", Relayout::Transposed, &|tensor| tensor.name.ends_with("attn.c_proj.weight"));
    check("mistral", Relayout::RotaryInterleaved { head_dim: 16 }, &|tensor| tensor.name.ends_with("k_proj.weight"));
}

/// A stack of experts in another order is another model.
#[test]
fn the_order_of_experts_matters() {
    for name in ["qwen2-moe", "qwen3-moe"] {
        let mut changed = as_gguf(name);
        let swapped = |tensor: &Tensor| {
            let other = match tensor.role {
                Some(role) if role.expert() == Some(0) => role.of_expert(1),
                Some(role) if role.expert() == Some(1) => role.of_expert(0),
                _ => return tensor.clone(),
            };
            Tensor { data: changed.tensors.role(other).unwrap().data.clone(), ..tensor.clone() }
        };
        let mut tensors = Tensors::default();
        changed.tensors.iter().for_each(|tensor| tensors.push(swapped(tensor)).unwrap());
        changed.tensors = tensors;
        let golden = goldens(name).pop().unwrap();
        let difference = relative_difference(&logits(&changed, &golden.ids), &golden.logits);
        println!("{name} with two experts exchanged: {difference:.1e}");
        assert!(difference > 10.0 * TOLERANCE, "{name}: {difference}");
    }
}

/// Leaving one thing out of the hyper-parameters shows in the logits, so the comparison above sees it.
#[test]
fn each_hyper_parameter_matters() {
    let check = |name: &str, what: &str, change: &dyn Fn(&mut ModelSpec)| {
        let mut changed = load(name);
        let before = changed.spec.clone();
        change(changed.spec.known_mut().unwrap());
        assert_ne!(changed.spec, before, "{name}: {what} was not there");
        let golden = goldens(name).pop().unwrap();
        let difference = relative_difference(&logits(&changed, &golden.ids), &golden.logits);
        println!("{name} without {what}: {difference:.1e}");
        assert!(difference > 10.0 * TOLERANCE, "{name} without {what}: {difference}");
    };
    let no_window: &dyn Fn(&mut ModelSpec) = &|spec| spec.variation.window = None;
    for name in ["mistral", "qwen2-window", "gemma2", "phi3", "starcoder2"] {
        check(name, "its window", no_window);
    }
    check("mistral", "one position of its window", &|spec| spec.variation.window.as_mut().unwrap().size -= 1);
    check("gemma2", "which layers have the window", &|spec| {
        spec.variation.window.as_mut().unwrap().layers = vec![0, 1, 2];
    });
    check("gemma2", "the cap of scores", &|spec| spec.variation.attn_softcap = None);
    check("gemma2", "the cap of logits", &|spec| spec.variation.logit_softcap = None);
    check("gemma2", "the scale of scores", &|spec| spec.variation.attn_scale = AttnScale::Plain);
    check("gemma3", "the base of layers with a window", &|spec| spec.variation.window_rope_theta = None);
    let unscaled: &dyn Fn(&mut ModelSpec) = &|spec| spec.variation.rope_scaling = RopeScaling::None;
    for name in ["gemma3", "llama-linear", "llama-llama3", "llama-yarn", "llama-dynamic"] {
        let lengthened: &dyn Fn(&mut ModelSpec) = &|spec| {
            spec.context_length = spec.longest_context();
            unscaled(spec);
        };
        check(name, "its rotary scaling", lengthened);
    }
    check("llama-yarn", "its attention factor", &|spec| {
        let RopeScaling::Yarn { attention_factor, .. } = &mut spec.variation.rope_scaling else { panic!("not YaRN") };
        *attention_factor = Some(1.0);
    });
    check("stablelm", "turning a part only", &|spec| spec.variation.rotary_dim = None);
    check("smollm3", "the layers that don't turn", &|spec| spec.variation.unrotated_layers.clear());
    check("granite", "the scale of embeddings", &|spec| spec.variation.embed_scale = None);
    check("granite", "the scale of residuals", &|spec| spec.variation.residual_scale = None);
    check("granite", "the divisor of logits", &|spec| spec.variation.logit_divisor = None);
    check("granite", "the scale of scores", &|spec| spec.variation.attn_scale = AttnScale::Plain);
    for name in ["qwen2-moe", "qwen3-moe"] {
        check(name, "how weights of experts add up", &|spec| {
            let experts = spec.variation.experts.as_mut().unwrap();
            experts.normalise = !experts.normalise;
        });
        check(name, "how many experts a token uses", &|spec| spec.variation.experts.as_mut().unwrap().n_used = 3);
    }
}
