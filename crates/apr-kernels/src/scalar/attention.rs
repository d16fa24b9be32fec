//! Attention of query heads.

use std::ops::Range;

use apr_tensor::codec::f16_to_f32;

use super::elementwise::softcap;
use super::exp::exp;
use super::sums::{LANES, sum};
use crate::kv::{KvView, QueryBlock};

/// Positions whose weights and weighted values are summed before the sums join others. A fixed number, so that a long
/// context may be shared between threads without changing a bit. Chunks begin at multiples of it, with a window too.
pub(crate) const CHUNK: usize = 256;

/// Scores and maxima that lie further below the largest have no weight. What they would add is less than 2^-92 of the sum
/// for each of them; on the other hand, subnormal numbers cost a processor a hundred cycles each.
pub(crate) const LOWEST: f32 = -64.0;

/// Attends with each query of a block to the positions that it sees in some chunks, and leaves the parts of those chunks
/// of which it sees any.
///
/// The score of a position is `dot(q, k) * scale`, capped where the shape says so. This dot product is one chain of fused
/// multiply-adds by ascending dimension, from zero. With `max` the largest score that is seen in the chunk, a position
/// that is seen weighs `p = e^(score - max)`, or nothing where the exponent is below -64. The chunk's weights are summed in sixteen lanes, by position, and the tree;
/// `p * v` is added by ascending position with fused multiply-adds, from zero. Positions that are not seen take no part.
///
/// # Safety
/// The block's pointers are valid for what it says they point to, and the parts have room for these chunks.
pub(crate) unsafe fn attend(block: QueryBlock<'_>, chunks: Range<usize>) {
    let head_dim = block.shape.head_dim;
    for (query, chunk) in (0..block.n_queries()).flat_map(|query| chunks.clone().map(move |chunk| (query, chunk))) {
        let seen = block.seen_of_chunk(query, chunk);
        if seen.is_empty() {
            continue;
        }
        // SAFETY: by the caller; there is room for the parts of this query and chunk.
        let (q, mixed) = unsafe {
            (
                std::slice::from_raw_parts(block.q_of(query), head_dim),
                std::slice::from_raw_parts_mut(block.parts.mixed(query, chunk), head_dim),
            )
        };
        let offset = block.head.layout.chunk_offset(chunk, block.head.kv_head);
        let mut scores = [0.0; CHUNK];
        for group in seen.start / LANES..seen.end.div_ceil(LANES) {
            let keys = offset + group * LANES * head_dim;
            let scores = &mut scores[group * LANES..][..LANES];
            match block.head.view {
                KvView::F32 { k, .. } => dots(q, &k[keys..], |number| number, scores),
                KvView::F16 { k, .. } => dots(q, &k[keys..], f16_to_f32, scores),
            }
        }
        let scored = &mut scores[seen.clone()];
        scored.iter_mut().for_each(|score| *score *= block.shape.scale);
        if let Some(cap) = block.shape.softcap {
            softcap(scored, cap);
        }
        let max = scored.iter().fold(f32::NEG_INFINITY, |max, &score| if score > max { score } else { max });
        let mut weights = [0.0; CHUNK];
        for j in seen.clone() {
            weights[j] = weight(scores[j] - max);
        }
        mixed.fill(0.0);
        for j in seen {
            let values = offset + j * head_dim..offset + (j + 1) * head_dim;
            match block.head.view {
                KvView::F32 { v, .. } => add_weighted(mixed, weights[j], &v[values], |number| number),
                KvView::F16 { v, .. } => add_weighted(mixed, weights[j], &v[values], f16_to_f32),
            }
        }
        // SAFETY: as above.
        unsafe {
            *block.parts.max(query, chunk) = max;
            *block.parts.sum(query, chunk) = sum(&weights);
        }
    }
}

fn weight(x: f32) -> f32 {
    if x < LOWEST { 0.0 } else { exp(x) }
}

/// The dot products of `q` with sixteen keys, which lie dimension by dimension.
fn dots<T: Copy>(q: &[f32], keys: &[T], number: impl Fn(T) -> f32, dots: &mut [f32]) {
    dots.fill(0.0);
    for (q, keys) in q.iter().zip(keys.chunks_exact(LANES)) {
        for (dot, &key) in dots.iter_mut().zip(keys) {
            *dot = q.mul_add(number(key), *dot);
        }
    }
}

fn add_weighted<T: Copy>(mixed: &mut [f32], weight: f32, values: &[T], number: impl Fn(T) -> f32) {
    for (mixed, &value) in mixed.iter_mut().zip(values) {
        *mixed = weight.mul_add(number(value), *mixed);
    }
}

/// Joins what the chunks have left of each query, all those of which it sees a position.
///
/// With `max` the largest of the chunks' maxima, a chunk weighs `w = e^(its max - max)`, or nothing as above. The result is the sum of `w *
/// mixed` divided by the sum of `w * sum`, both by ascending chunk with fused multiply-adds, from zero.
///
/// # Safety
/// The block's pointers are valid for what it says they point to, and the parts are there.
pub(crate) unsafe fn join(block: QueryBlock<'_>) {
    let head_dim = block.shape.head_dim;
    for query in 0..block.n_queries() {
        // SAFETY: by the caller.
        unsafe {
            let parts = |chunk| {
                let mixed = std::slice::from_raw_parts(block.parts.mixed(query, chunk), head_dim);
                (*block.parts.max(query, chunk), *block.parts.sum(query, chunk), mixed)
            };
            let chunks = block.chunks(query);
            let max = chunks.clone().map(parts).fold(f32::NEG_INFINITY, |max, (m, ..)| if m > max { m } else { max });
            let out = std::slice::from_raw_parts_mut(block.out_of(query), head_dim);
            let mut joined_sum = 0.0f32;
            out.fill(0.0);
            for (chunk_max, sum, mixed) in chunks.map(parts) {
                let weight = weight(chunk_max - max);
                joined_sum = weight.mul_add(sum, joined_sum);
                add_weighted(out, weight, mixed, |number| number);
            }
            out.iter_mut().for_each(|out| *out /= joined_sum);
        }
    }
}
