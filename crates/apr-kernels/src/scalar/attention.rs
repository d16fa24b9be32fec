//! Attention of one query head.

use apr_tensor::codec::f16_to_f32;

use super::elementwise::{softcap, softmax};
use super::sums::dot;
use crate::kv::{AttentionShape, KvHead, KvView};

/// Positions whose weighted values are summed before the sum joins the result. A fixed number, so that a long context
/// may be shared between threads without changing a bit. Chunks begin at multiples of it, with a window too.
pub(crate) const CHUNK: usize = 256;

/// Attends with query `q`, `[head_dim]`, to positions `n_hidden..scores.len()` of `head`, whose position 0 is a multiple
/// of [`CHUNK`] in the context.
///
/// `scores[j] = dot(q, k[j]) * scale`, capped where the shape says so and minus infinity for the first `n_hidden`, then
/// softmax over the row. Each chunk of 256 positions adds `p[j] * v[j]` by ascending `j` with fused multiply-adds from
/// zero; the sums of the chunks are added to `out` in order, from zero. Hidden positions take no part.
pub(crate) fn attend(
    q: &[f32],
    head: KvHead<'_>,
    shape: &AttentionShape,
    n_hidden: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (hidden, seen) = scores.split_at_mut(n_hidden);
    for (j, score) in seen.iter_mut().enumerate() {
        *score = dot(q, &key(head, n_hidden + j, q.len())) * shape.scale;
    }
    if let Some(cap) = shape.softcap {
        softcap(seen, cap);
    }
    hidden.fill(f32::NEG_INFINITY);
    softmax(scores);
    out.fill(0.0);
    for (chunk_idx, chunk) in scores.chunks(CHUNK).enumerate() {
        let mut partial = vec![0.0f32; out.len()];
        for (j, p) in chunk.iter().enumerate().filter(|(j, _)| chunk_idx * CHUNK + j >= n_hidden) {
            for (partial, v) in partial.iter_mut().zip(value(head, chunk_idx * CHUNK + j, q.len())) {
                *partial = p.mul_add(v, *partial);
            }
        }
        for (out, partial) in out.iter_mut().zip(partial) {
            *out += partial;
        }
    }
}

fn key(head: KvHead<'_>, position: usize, head_dim: usize) -> Vec<f32> {
    let start = position * head.stride + head.offset;
    match head.view {
        KvView::F32 { k, .. } => k[start..][..head_dim].to_vec(),
        KvView::F16 { k, .. } => k[start..][..head_dim].iter().map(|&bits| f16_to_f32(bits)).collect(),
    }
}

fn value(head: KvHead<'_>, position: usize, head_dim: usize) -> Vec<f32> {
    let start = position * head.stride + head.offset;
    match head.view {
        KvView::F32 { v, .. } => v[start..][..head_dim].to_vec(),
        KvView::F16 { v, .. } => v[start..][..head_dim].iter().map(|&bits| f16_to_f32(bits)).collect(),
    }
}
