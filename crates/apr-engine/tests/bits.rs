//! The promise of the exact numerics, for what only the engine knows of: the order of stored rows, equal values in
//! another dtype, and what a session keeps. The matrix of containers, instruction sets, threads and ways of cutting
//! the prompt is in `apr/tests/promise.rs`.

mod support;

use apr_engine::{CacheDType, LogitsDigest, LogitsHasher, Model, Session, SessionOptions};
use apr_model::{Checkpoint, Tensor};
use support::{Golden, MODELS, backend, checkpoint, interleaved, is_rotary, map_tensors, max_difference, widened};

/// How a prompt is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    TokenByToken,
}

/// Digest of the logits at every position of `ids`.
fn digest(checkpoint: &Checkpoint, ids: &[u32], cut: Cut) -> LogitsDigest {
    let model = Model::new(checkpoint, backend()).unwrap();
    let chunk_tokens = ids.len().try_into().unwrap();
    let mut session = Session::new(&model, SessionOptions { chunk_tokens, ..SessionOptions::default() }).unwrap();
    let mut hasher = LogitsHasher::default();
    let piece = match cut {
        Cut::Whole => ids.len(),
        Cut::TokenByToken => 1,
    };
    for piece in ids.chunks(piece) {
        session.prefill_each(piece, |_, logits| hasher.update(logits)).unwrap();
    }
    assert_eq!(session.tokens(), ids);
    hasher.digest()
}

/// A prompt that is long enough for attention to pass its 256-position chunk where the model is small.
fn prompt(model: &str, golden: &Golden) -> Vec<u32> {
    let ids = &golden.prompt("long").ids;
    let n = if model.starts_with("nano") { 270 } else { 23 };
    ids[..n].to_vec()
}

#[test]
fn digest_is_the_same_for_canonical_and_interleaved_rows() {
    // Biases are permuted with their rows; nano-qwen2 has them, nano-llama does not.
    for name in ["nano-llama", "nano-qwen2"] {
        let (canonical, ids) = (checkpoint(name), prompt(name, &Golden::load(name)));
        let head_dim = canonical.spec.known().unwrap().head_dim as usize;
        let store = |which: fn(&Tensor) -> bool| {
            map_tensors(&canonical, |t| Some(if which(t) { interleaved(t, head_dim) } else { t.clone() }))
        };
        // What GGUF files do, and a relayout of everything: the engine asks the tensor, not its role.
        let (stored, all) = (store(is_rotary), store(|_| true));
        let moved = |t: &&Tensor| canonical.tensors.get(&t.name).unwrap().data[..] != t.data[..];
        assert!(
            stored.tensors.iter().filter(moved).count() >= 2 * canonical.spec.known().unwrap().n_layers as usize,
            "{name}"
        );
        for cut in [Cut::Whole, Cut::TokenByToken] {
            let expected = digest(&canonical, &ids, cut);
            for stored in [&stored, &all] {
                assert_eq!(digest(stored, &ids, cut), expected, "{name} {cut:?}");
            }
        }
        // The test can fail: without the relayout the same bytes are another model.
        let wrong = map_tensors(&stored, |t| Some(Tensor { relayout: apr_model::Relayout::Identity, ..t.clone() }));
        assert_ne!(digest(&wrong, &ids, Cut::Whole), digest(&canonical, &ids, Cut::Whole));
    }
}

#[test]
fn digest_is_the_same_for_equal_values_in_another_dtype() {
    for name in MODELS {
        let (bf16, ids) = (checkpoint(name), prompt(name, &Golden::load(name)));
        let f32 = map_tensors(&bf16, |tensor| Some(widened(tensor)));
        let expected = digest(&bf16, &ids, Cut::Whole);
        assert_eq!(digest(&f32, &ids, Cut::Whole), expected, "{name}");
    }
}

#[test]
fn logits_are_the_same_when_the_cache_is_reused() {
    for name in ["nano-qwen3", "nano-llama"] {
        let model = Model::new(&checkpoint(name), backend()).unwrap();
        let ids = prompt(name, &Golden::load(name));
        let mut fresh = Session::new(&model, SessionOptions::default()).unwrap();
        let expected = fresh.prefill(&ids).unwrap();

        let mut reused = Session::new(&model, SessionOptions::default()).unwrap();
        let mut other = ids[..200].to_vec();
        other.extend([1, 2, 3, 4, 5]);
        other[150] ^= 1;
        reused.prefill(&other).unwrap();
        assert_eq!(reused.keep_common_prefix(&ids), 150, "{name}");
        assert_eq!(reused.prefill(&ids[150..]).unwrap(), expected, "{name}");
        assert_eq!(reused.keep_common_prefix(&ids), ids.len() - 1, "{name}: the last token is computed again");
        assert_eq!(reused.prefill(&ids[ids.len() - 1..]).unwrap(), expected, "{name}");
    }
}

#[test]
fn f16_cache_is_another_numerics_close_to_f32() {
    for name in MODELS {
        let model = Model::new(&checkpoint(name), backend()).unwrap();
        let ids = prompt(name, &Golden::load(name));
        let logits = |cache_dtype| {
            let mut session =
                Session::new(&model, SessionOptions { cache_dtype, ..SessionOptions::default() }).unwrap();
            assert_eq!(session.cache_dtype(), cache_dtype);
            (session.forward_all(&ids).unwrap(), session.cache_bytes())
        };
        let ((full, full_bytes), (half, half_bytes)) = (logits(CacheDType::F32), logits(CacheDType::F16));
        assert_eq!(full_bytes, 2 * half_bytes);
        let difference = max_difference(&full, &half);
        println!("{name}: f16 cache, max |Δlogit| {difference:e}");
        assert!(difference > 0.0 && difference < 0.1, "{name}: {difference}");
    }
}
