//! Attention of a block of queries; see `scalar/attention.rs` for its definition.
//!
//! Queries go side by side, so that a key or a value that has been loaded serves several of them: scores by sixteen
//! positions, one in each lane, and mixed values by sixteen dimensions.

use std::ops::Range;

use super::nonlinear::exp_in_range;
use super::{LANES, Lanes, load_n, softcap, store_n};
use crate::kv::{KvView, QueryBlock};
use crate::scalar::{CHUNK, LOWEST};

/// The most queries that go through a chunk together; their scores stay in the first-level cache.
const QUERIES: usize = 14;
/// How far ahead a pass over keys or values asks for them in the first-level cache. In the second they are already: the
/// pass before, over values or keys, asked for them.
const NEAR_BYTES: usize = 1024;
/// The most queries that share a register of keys or values in any set.
const MAX_SIDE_BY_SIDE: usize = 8;

/// Scores and then weights of the positions of a chunk.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([f32; CHUNK]);

/// A number as the cache stores it.
trait Cached: Copy {
    /// Groups of sixteen in 64 bytes, a cache line.
    const GROUPS_OF_LINE: usize = 4 / size_of::<Self>();

    /// Sixteen numbers.
    ///
    /// # Safety
    /// `V` is available and `src` is valid for sixteen elements.
    unsafe fn load<V: Lanes>(src: *const Self) -> V;

    /// The first `n` ≤ 16 numbers at `src`, then zeros.
    ///
    /// # Safety
    /// `V` is available and `src` is valid for `n` elements.
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V;
}

impl Cached for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(src: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load(src) }
    }

    #[inline(always)]
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V {
        // SAFETY: by the caller.
        unsafe { load_n(src, n) }
    }
}

impl Cached for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(src: *const Self) -> V {
        // SAFETY: by the caller.
        unsafe { V::load_f16(src) }
    }

    #[inline(always)]
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V {
        // SAFETY: by the caller; the copy has room for sixteen.
        unsafe {
            let mut copy = [0u16; LANES];
            std::ptr::copy_nonoverlapping(src, copy.as_mut_ptr(), n);
            V::load_f16(copy.as_ptr())
        }
    }
}

/// Calls a function that is generic over a number of queries with the number at hand.
macro_rules! for_queries {
    ($n:expr, $of:ident, [$($before:ty),*], [$($after:tt),*], $args:tt) => {
        match $n {
            1 => $of::<$($before,)* 1 $(, $after)*> $args,
            2 => $of::<$($before,)* 2 $(, $after)*> $args,
            3 => $of::<$($before,)* 3 $(, $after)*> $args,
            4 => $of::<$($before,)* 4 $(, $after)*> $args,
            5 => $of::<$($before,)* 5 $(, $after)*> $args,
            6 => $of::<$($before,)* 6 $(, $after)*> $args,
            7 => $of::<$($before,)* 7 $(, $after)*> $args,
            8 => $of::<$($before,)* 8 $(, $after)*> $args,
            _ => unreachable!("at most eight queries go side by side"),
        }
    };
}

/// See [`crate::scalar::attend`]. At most `SCORED` queries by `GROUPS` groups of sixteen positions are scored side by
/// side, and at most `MIXED` by `COLUMNS` groups of sixteen dimensions mixed.
///
/// # Safety
/// `V` is available, and the lengths are those that the block states.
#[inline(always)]
pub(crate) unsafe fn attend<
    V: Lanes,
    const SCORED: usize,
    const GROUPS: usize,
    const MIXED: usize,
    const COLUMNS: usize,
>(
    block: QueryBlock<'_>,
    chunks: Range<usize>,
) {
    // SAFETY: by the caller.
    unsafe {
        match block.head.view {
            KvView::F32 { k, v } => {
                attend_to::<V, f32, SCORED, GROUPS, MIXED, COLUMNS>(&block, chunks, k.as_ptr(), v.as_ptr());
            }
            KvView::F16 { k, v } => {
                attend_to::<V, u16, SCORED, GROUPS, MIXED, COLUMNS>(&block, chunks, k.as_ptr(), v.as_ptr());
            }
        }
    }
}

/// # Safety
/// As [`attend`]; `k` and `v` point to the keys and the values.
#[inline(always)]
unsafe fn attend_to<
    V: Lanes,
    C: Cached,
    const SCORED: usize,
    const GROUPS: usize,
    const MIXED: usize,
    const COLUMNS: usize,
>(
    block: &QueryBlock<'_>,
    chunks: Range<usize>,
    k: *const C,
    v: *const C,
) {
    let mut rows = [Row([0.0; CHUNK]); QUERIES];
    let offset = |chunk| block.head.layout.chunk_offset(chunk, block.head.kv_head);
    for chunk in chunks.clone() {
        // SAFETY: by the caller; the cache holds whole chunks.
        let (k, v, next_k) =
            unsafe { (k.add(offset(chunk)), v.add(offset(chunk)), k.add(offset((chunk + 1).min(chunks.end - 1)))) };
        let (k_to_v, v_to_next_k) = (v as isize - k as isize, next_k as isize - v as isize);
        for queries in side_by_side(0..block.n_queries(), QUERIES) {
            // All that any of them sees: the first token sees the furthest back, and the last the furthest on.
            let seen = block.seen_of_chunk(queries.start, chunk).start..block.seen_of_chunk(queries.end - 1, chunk).end;
            // SAFETY: by the caller.
            unsafe {
                score_chunk::<V, C, SCORED, GROUPS>(block, queries.clone(), seen, k, k_to_v, &mut rows);
                weigh_chunk::<V>(block, queries.clone(), chunk, &mut rows);
                mix_chunk::<V, C, MIXED, COLUMNS>(block, queries, chunk, v, v_to_next_k, &rows);
            }
        }
    }
}

/// Cuts some queries into ranges of nearly equal size, at most `most`.
fn side_by_side(queries: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, n) = (queries.start, queries.len());
    let n_ranges = n.div_ceil(most);
    (0..n_ranges).map(move |i| first + i * n / n_ranges..first + (i + 1) * n / n_ranges)
}

/// Scores the groups of sixteen of a chunk that hold some positions, by some queries.
///
/// # Safety
/// `V` is available; `k` points to the keys of the chunk.
#[inline(always)]
unsafe fn score_chunk<V: Lanes, C: Cached, const SCORED: usize, const GROUPS: usize>(
    block: &QueryBlock<'_>,
    queries: Range<usize>,
    positions: Range<usize>,
    k: *const C,
    ahead: isize,
    rows: &mut [Row; QUERIES],
) {
    let end = positions.end.next_multiple_of(LANES);
    let mut start = positions.start / LANES * LANES;
    while start < end {
        // SAFETY: by the caller; groups of positions lie one after the other.
        unsafe {
            let k = k.add(start * block.shape.head_dim);
            let is_wide = start + GROUPS * LANES <= end;
            for at_once in side_by_side(queries.clone(), SCORED.min(MAX_SIDE_BY_SIDE)) {
                let row = at_once.start - queries.start;
                let rows = rows[row..].as_mut_ptr().cast::<f32>().add(start);
                if is_wide {
                    for_queries!(at_once.len(), score, [V, C], [GROUPS], (block, at_once.start, k, ahead, rows));
                } else {
                    for_queries!(at_once.len(), score, [V, C], [1], (block, at_once.start, k, ahead, rows));
                }
            }
            start += if is_wide { GROUPS * LANES } else { LANES };
        }
    }
}

/// Asks for what will follow `at` soon and, `ahead` bytes from it, for what will be read after this pass over the chunk.
///
/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn prefetch<V: Lanes>(at: *const u8, ahead: isize) {
    // SAFETY: by the caller.
    unsafe {
        V::prefetch(at.wrapping_add(NEAR_BYTES));
        V::prefetch_far(at.wrapping_offset(ahead));
    }
}

/// The scaled scores of `G` groups of sixteen positions by `Q` queries, to `scores` and further rows of a chunk.
///
/// # Safety
/// `V` is available; `k` points to the keys of these positions.
#[inline(always)]
unsafe fn score<V: Lanes, C: Cached, const Q: usize, const G: usize>(
    block: &QueryBlock<'_>,
    query: usize,
    k: *const C,
    ahead: isize,
    scores: *mut f32,
) {
    let head_dim = block.shape.head_dim;
    // SAFETY: by the caller.
    unsafe {
        let q: [*const f32; Q] = std::array::from_fn(|i| block.q_of(query + i));
        let mut sums = [[V::splat(0.0); G]; Q];
        for d in 0..head_dim {
            let mut keys = [V::splat(0.0); G];
            for g in 0..G {
                let k = k.add((g * head_dim + d) * LANES);
                if d % C::GROUPS_OF_LINE == 0 {
                    prefetch::<V>(k.cast(), ahead);
                }
                keys[g] = C::load(k);
            }
            for i in 0..Q {
                let q = V::splat(*q[i].add(d));
                for g in 0..G {
                    sums[i][g] = q.mul_add(keys[g], sums[i][g]);
                }
            }
        }
        let scale = V::splat(block.shape.scale);
        for i in 0..Q {
            for g in 0..G {
                sums[i][g].mul(scale).store(scores.add(i * CHUNK + g * LANES));
            }
        }
    }
}

/// Makes weights of the scores that some queries give to a chunk, zero for positions of the first or the last group that
/// are not seen, and leaves each query's largest score and sum of weights: minus infinity and zero where it sees nothing.
///
/// # Safety
/// `V` is available; the parts have room.
#[inline(always)]
unsafe fn weigh_chunk<V: Lanes>(
    block: &QueryBlock<'_>,
    queries: Range<usize>,
    chunk: usize,
    rows: &mut [Row; QUERIES],
) {
    // Each step for all queries, so that none waits for the end of another's chain.
    let mut lanes = [[0.0f32; LANES]; QUERIES.next_multiple_of(4)];
    // SAFETY: by the caller; the groups lie within the row.
    unsafe {
        for ((query, row), maxima) in queries.clone().zip(&mut *rows).zip(&mut lanes) {
            let (seen, groups) = (block.seen_of_chunk(query, chunk), block.groups_of_chunk(query, chunk));
            // Keys that are not seen may be anything.
            row.0[groups.start..seen.start].fill(f32::NEG_INFINITY);
            row.0[seen.end..groups.end].fill(f32::NEG_INFINITY);
            if let Some(cap) = block.shape.softcap {
                softcap::<V>(&mut row.0[seen], cap);
            }
            // The maximum of numbers does not depend on their order. A NaN is never greater.
            let mut max = V::splat(f32::NEG_INFINITY);
            for group in row.0[groups].chunks_exact(LANES) {
                max = V::load(group.as_ptr()).max(max);
            }
            max.store(maxima.as_mut_ptr());
        }
        for (query, maxima) in queries.clone().zip(&mut lanes) {
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    maxima[i] = if maxima[i + half] > maxima[i] { maxima[i + half] } else { maxima[i] };
                }
            }
            *block.parts.max(query, chunk) = maxima[0];
        }
        for ((query, row), sums) in queries.clone().zip(&mut *rows).zip(&mut lanes) {
            let max = V::splat(*block.parts.max(query, chunk));
            let mut sum = V::splat(0.0);
            for group in row.0[block.groups_of_chunk(query, chunk)].chunks_exact_mut(LANES) {
                let weights = weight(V::load(group.as_ptr()).sub(max));
                weights.store(group.as_mut_ptr());
                sum = sum.add(weights);
            }
            sum.store(sums.as_mut_ptr());
        }
        let mut sums = [0.0; QUERIES.next_multiple_of(4)];
        for (lanes, sums) in lanes.chunks_exact(4).zip(sums.chunks_exact_mut(4)) {
            V::sum4(std::array::from_fn(|i| V::load(lanes[i].as_ptr())), sums.as_mut_ptr());
        }
        for (query, sum) in queries.zip(sums) {
            *block.parts.sum(query, chunk) = sum;
        }
    }
}

/// `e^x`, or zero where `x` is too low; `x` is not positive.
///
/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn weight<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let lowest = V::splat(LOWEST);
        exp_in_range(lowest.max(x)).zero_where_less(x, lowest)
    }
}

/// Mixes the values of a chunk by the weights of some queries, each those that it sees.
///
/// # Safety
/// `V` is available; `v` points to the values of the chunk, and the parts have room.
#[inline(always)]
unsafe fn mix_chunk<V: Lanes, C: Cached, const MIXED: usize, const COLUMNS: usize>(
    block: &QueryBlock<'_>,
    queries: Range<usize>,
    chunk: usize,
    v: *const C,
    ahead: isize,
    rows: &[Row; QUERIES],
) {
    for at_once in side_by_side(queries.clone(), MIXED.min(MAX_SIDE_BY_SIDE)) {
        let (query, rows) = (at_once.start, &rows[at_once.start - queries.start..]);
        // SAFETY: by the caller.
        unsafe { for_queries!(at_once.len(), mix, [V, C], [COLUMNS], (block, query, chunk, v, ahead, rows)) }
    }
}

/// [`mix_chunk`] for `Q` queries.
///
/// # Safety
/// As [`mix_chunk`].
#[inline(always)]
unsafe fn mix<V: Lanes, C: Cached, const Q: usize, const COLUMNS: usize>(
    block: &QueryBlock<'_>,
    query: usize,
    chunk: usize,
    v: *const C,
    ahead: isize,
    rows: &[Row],
) {
    let head_dim = block.shape.head_dim;
    let weights: [*const f32; Q] = std::array::from_fn(|i| rows[i].0.as_ptr());
    let sums: [*mut f32; Q] = std::array::from_fn(|i| block.parts.mixed(query + i, chunk));
    let seen: [Range<usize>; Q] = std::array::from_fn(|i| block.seen_of_chunk(query + i, chunk));
    // What all queries see is mixed together; what comes before and after, for each alone.
    let start = seen.iter().map(|seen| seen.start).max().unwrap_or(0);
    let end = seen.iter().map(|seen| seen.end).min().unwrap_or(0).max(start);
    // SAFETY: by the caller.
    unsafe {
        for i in 0..Q {
            std::slice::from_raw_parts_mut(sums[i], head_dim).fill(0.0);
            let before = seen[i].start..seen[i].end.min(start);
            mix_positions::<V, C, 1, COLUMNS>([weights[i]], v, ahead, before, head_dim, [sums[i]]);
        }
        mix_positions::<V, C, Q, COLUMNS>(weights, v, ahead, start..end, head_dim, sums);
        for i in 0..Q {
            let after = seen[i].start.max(end)..seen[i].end;
            mix_positions::<V, C, 1, COLUMNS>([weights[i]], v, ahead, after, head_dim, [sums[i]]);
        }
    }
}

/// Continues the sums of `Q` queries over some positions of a chunk.
///
/// # Safety
/// `V` is available; `v` points to the values of the chunk and `sums` to `[head_dim]` each.
#[inline(always)]
unsafe fn mix_positions<V: Lanes, C: Cached, const Q: usize, const COLUMNS: usize>(
    weights: [*const f32; Q],
    v: *const C,
    ahead: isize,
    positions: Range<usize>,
    head_dim: usize,
    sums: [*mut f32; Q],
) {
    if positions.is_empty() {
        return;
    }
    let mut start = 0;
    // SAFETY: by the caller; the columns asked for exist.
    unsafe {
        while start + COLUMNS * LANES <= head_dim {
            let (v, sums) = (v.add(start), sums.map(|sums| sums.add(start)));
            mix_columns::<V, C, Q, COLUMNS>(weights, v, ahead, positions.clone(), head_dim, LANES, sums);
            start += COLUMNS * LANES;
        }
        while start < head_dim {
            let (v, sums) = (v.add(start), sums.map(|sums| sums.add(start)));
            let n = LANES.min(head_dim - start);
            mix_columns::<V, C, Q, 1>(weights, v, ahead, positions.clone(), head_dim, n, sums);
            start += LANES;
        }
    }
}

/// [`mix_positions`] for `G` groups of columns, each of sixteen or the only one of `n`.
///
/// # Safety
/// `V` is available; the pointers are to these columns.
#[inline(always)]
unsafe fn mix_columns<V: Lanes, C: Cached, const Q: usize, const G: usize>(
    weights: [*const f32; Q],
    v: *const C,
    ahead: isize,
    positions: Range<usize>,
    stride: usize,
    n: usize,
    results: [*mut f32; Q],
) {
    // SAFETY: by the caller.
    unsafe {
        let mut sums = [[V::splat(0.0); G]; Q];
        for i in 0..Q {
            for g in 0..G {
                sums[i][g] = load_n(results[i].add(g * LANES), n);
            }
        }
        for j in positions {
            let v = v.add(j * stride);
            let mut values = [V::splat(0.0); G];
            for g in 0..G {
                if g % C::GROUPS_OF_LINE == 0 {
                    prefetch::<V>(v.add(g * LANES).cast(), ahead);
                }
                values[g] = if n == LANES { C::load(v.add(g * LANES)) } else { C::load_n(v.add(g * LANES), n) };
            }
            for i in 0..Q {
                let weight = V::splat(*weights[i].add(j));
                for g in 0..G {
                    sums[i][g] = weight.mul_add(values[g], sums[i][g]);
                }
            }
        }
        for i in 0..Q {
            for g in 0..G {
                store_n(sums[i][g], results[i].add(g * LANES), n);
            }
        }
    }
}

/// See [`crate::scalar::join`].
///
/// # Safety
/// `V` is available, and the lengths are those that the block states.
#[inline(always)]
pub(crate) unsafe fn join<V: Lanes>(block: QueryBlock<'_>) {
    let (head_dim, all_chunks) = (block.shape.head_dim, block.all_chunks());
    for first in (0..block.n_queries()).step_by(LANES) {
        // SAFETY: by the caller; there is room for whole groups of queries, of which those that don't exist may hold
        // anything. A chunk that a query doesn't see weighs nothing.
        unsafe {
            let mut max = V::splat(f32::NEG_INFINITY);
            for chunk in all_chunks.clone() {
                max = V::load(block.parts.max(first, chunk)).max(max);
            }
            let mut sum = V::splat(0.0);
            for chunk in all_chunks.clone() {
                let maxima = block.parts.max(first, chunk);
                let weights = weight(V::load(maxima).sub(max));
                weights.store(maxima);
                sum = weights.mul_add(V::load(block.parts.sum(first, chunk)), sum);
            }
            let mut sums = [0.0; LANES];
            sum.store(sums.as_mut_ptr());
            for (query, sum) in (first..block.n_queries()).zip(sums) {
                for start in (0..head_dim).step_by(LANES) {
                    let n = LANES.min(head_dim - start);
                    let mut joined = V::splat(0.0);
                    for chunk in block.chunks(query) {
                        let weight = V::splat(*block.parts.max(query, chunk));
                        joined = weight.mul_add(load_n(block.parts.mixed(query, chunk).add(start), n), joined);
                    }
                    store_n(joined.div(V::splat(sum)), block.out_of(query).add(start), n);
                }
            }
        }
    }
}
