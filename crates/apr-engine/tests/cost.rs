//! The account of a pass, against counts made by hand from the models' `config.json`.

mod support;

use apr_engine::{CacheDType, Model, Stage, Work};
use support::{MODELS, backend, checkpoint};

fn model(name: &str) -> Model {
    Model::new(&checkpoint(name), backend()).unwrap()
}

/// `nano-qwen2`: hidden 64, 2 layers, 4 heads and 2 kv heads of 16, ffn 160, vocabulary 512, tied, BF16.
#[test]
fn a_small_qwen2_counted_by_hand() {
    let model = model("nano-qwen2");
    let matrices = 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160) + 512 * 64;
    let vectors = 2 * (64 + (64 + 32 + 32) + 64) + 64;
    let weights = 2 * matrices + 4 * vectors + 2 * 64;
    for (position, cache, element) in [(0, CacheDType::F32, 4), (99, CacheDType::F32, 4), (99, CacheDType::F16, 2)] {
        let seen = position as u64 + 1;
        let expected = Work {
            n_bytes: weights + element * seen * 2 * 2 * 2 * 16,
            n_multiply_adds: matrices + seen * 2 * 2 * 4 * 16,
        };
        assert_eq!(model.decode_work(position, cache), expected, "position {position}, {cache} cache");
    }

    // Five tokens in chunks of two: three chunks; 1 + 2 + 3 + 4 + 5 positions seen, 2 + 4 + 5 read. Of the second and last
    // layer, keys and values of all five; its queries and what follows, for the fifth token alone.
    let head = 512 * 64;
    let keys_and_values = 2 * 64 * 32;
    let rest = 2 * 64 * 64 + 3 * 64 * 160;
    let (first_vectors, late_vectors) = (64 + 32 + 32, 64 + 64);
    let expected = Work {
        n_bytes: 3 * (2 * (keys_and_values + rest) + 4 * (first_vectors + late_vectors))
            + 3 * (2 * keys_and_values + 4 * first_vectors)
            + (2 * rest + 4 * late_vectors)
            + 2 * head
            + 4 * 64
            + 5 * 2 * 64
            + 4 * ((2 + 4 + 5) + 5) * 2 * 2 * 16,
        n_multiply_adds: 5 * (2 * keys_and_values + rest) + rest + head + (15 + 5) * 2 * 4 * 16,
    };
    assert_eq!(model.prompt_work(0..5, 2, CacheDType::F32), expected);
    assert_eq!(model.prompt_work(7..7, 2, CacheDType::F32), Work::default());
}

/// Every value of every matrix is multiplied once per token. Parameters as `models/README.md` states them.
#[test]
fn multiply_adds_are_the_parameters_without_vectors() {
    for (name, n_parameters, n_vector_values, n_embedding_values) in [
        ("nano-qwen2", 119_360, 2 * (64 + 128 + 64) + 64, 0),
        ("nano-qwen3", 143_808, 2 * (64 + 2 * 32 + 64) + 64, 0),
        ("nano-llama", 151_872, 2 * (64 + 64) + 64, 512 * 64),
    ] {
        let multiply_adds: u64 = model(name).costs().iter().map(|cost| cost.n_multiply_adds_per_token).sum();
        assert_eq!(multiply_adds, n_parameters - n_vector_values - n_embedding_values, "{name}");
    }
}

#[test]
fn costs_and_weights_are_in_the_order_of_the_pass_and_complete() {
    for name in MODELS {
        let model = model(name);
        let costs = model.costs();
        let places: Vec<_> = costs.iter().map(|cost| (cost.layer.unwrap_or(0), cost.stage)).collect();
        assert!(places[1..places.len() - 2].is_sorted(), "{name}: {places:?}");
        let matrices = costs.iter().filter(|cost| cost.n_multiply_adds_per_token > 0);
        let stored = model.weight_bytes();
        assert_eq!(matrices.clone().count(), stored.len(), "{name}");
        for (cost, stored) in matrices.zip(stored) {
            let bias = cost.n_weight_bytes - stored.len() as u64;
            assert!(bias == 0 || matches!(cost.stage, Stage::Query | Stage::Key | Stage::Value), "{name} {cost:?}");
        }
    }
}
