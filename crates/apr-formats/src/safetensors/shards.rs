//! A model spread over files: which tensors stand in which, and the index that says so.
//!
//! Source: `split_torch_state_dict_into_shards` of huggingface_hub, and the index that Transformers writes.

use crate::plan::Recode;
use serde_json::json;
use std::collections::BTreeMap;

/// Deals tensors out in their order: a file ends before the tensor that would make it larger than `most_bytes`, and one
/// that is larger by itself has a file of its own.
pub(super) fn deal(tensors: impl Iterator<Item = Recode>, most_bytes: u64) -> Vec<Vec<Recode>> {
    let mut shards = Vec::new();
    let (mut open, mut open_bytes) = (Vec::new(), 0u64);
    for tensor in tensors {
        let len = tensor.len_bytes as u64;
        if len > most_bytes {
            shards.push(vec![tensor]);
            continue;
        }
        if open_bytes + len > most_bytes {
            shards.push(std::mem::take(&mut open));
            open_bytes = 0;
        }
        open_bytes += len;
        open.push(tensor);
    }
    if !open.is_empty() {
        shards.push(open);
    }
    shards
}

/// Name of a file, from zero, among several.
pub(super) fn name(index: usize, n_files: usize) -> String {
    format!("model-{:05}-of-{n_files:05}.safetensors", index + 1)
}

/// The text of the index.
pub(super) fn index(shards: &[Vec<Recode>]) -> String {
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = name(index, shards.len());
        weight_map.extend(shard.iter().map(|recode| (recode.name.as_str(), file.clone())));
    }
    let total_size: u64 = shards.iter().flatten().map(|recode| recode.len_bytes as u64).sum();
    let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
    serde_json::to_string_pretty(&index).expect("a JSON value prints") + "\n"
}
