//! Attention of query heads.

use apr_tensor::codec::f16_to_f32;

use super::elementwise::{softcap, softmax};
use super::sums::dot;
use crate::kv::{KvHead, KvView, QueryBlock};

/// Positions whose weighted values are summed before the sum joins the result. A fixed number, so that a long context
/// may be shared between threads without changing a bit. Chunks begin at multiples of it, with a window too.
pub(crate) const CHUNK: usize = 256;

/// Attends with each query of a block, `[head_dim]`, to the positions that it sees.
///
/// `scores[j] = dot(q, k[j]) * scale`, capped where the shape says so and minus infinity for positions that are not seen
/// but share a chunk with one that is, then softmax over the row, which begins with the first chunk. Each chunk of 256
/// positions adds `p[j] * v[j]` by ascending `j` with fused multiply-adds from zero; the sums of the chunks are added to
/// `out` in order, from zero. Positions that are not seen take no part.
///
/// # Safety
/// The block's pointers are valid for what it says they point to.
pub(crate) unsafe fn attend(block: QueryBlock<'_>) {
    let head_dim = block.shape.head_dim;
    for query in 0..block.n_queries() {
        let (seen, row) = (block.seen(query), block.row(query));
        // SAFETY: by the caller; a query's row lies within its scores.
        let (q, scores, out) = unsafe {
            (
                std::slice::from_raw_parts(block.q_of(query), head_dim),
                std::slice::from_raw_parts_mut(block.scores_of(query), row.len()),
                std::slice::from_raw_parts_mut(block.out_of(query), head_dim),
            )
        };
        let (hidden, scored) = scores.split_at_mut(seen.start - row.start);
        for (j, score) in seen.clone().zip(&mut *scored) {
            *score = dot(q, &key(block.head, j, head_dim)) * block.shape.scale;
        }
        if let Some(cap) = block.shape.softcap {
            softcap(scored, cap);
        }
        hidden.fill(f32::NEG_INFINITY);
        softmax(scores);
        out.fill(0.0);
        for chunk in row.clone().step_by(CHUNK) {
            let mut partial = vec![0.0f32; head_dim];
            for j in chunk.max(seen.start)..row.end.min(chunk + CHUNK) {
                for (partial, v) in partial.iter_mut().zip(value(block.head, j, head_dim)) {
                    *partial = scores[j - row.start].mul_add(v, *partial);
                }
            }
            for (out, partial) in out.iter_mut().zip(partial) {
                *out += partial;
            }
        }
    }
}

fn key(head: KvHead<'_>, position: usize, head_dim: usize) -> Vec<f32> {
    let start = head.layout.offset(position, head.kv_head);
    match head.view {
        KvView::F32 { k, .. } => k[start..][..head_dim].to_vec(),
        KvView::F16 { k, .. } => k[start..][..head_dim].iter().map(|&bits| f16_to_f32(bits)).collect(),
    }
}

fn value(head: KvHead<'_>, position: usize, head_dim: usize) -> Vec<f32> {
    let start = head.layout.offset(position, head.kv_head);
    match head.view {
        KvView::F32 { v, .. } => v[start..][..head_dim].to_vec(),
        KvView::F16 { v, .. } => v[start..][..head_dim].iter().map(|&bits| f16_to_f32(bits)).collect(),
    }
}
