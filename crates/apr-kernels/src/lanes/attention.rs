//! Attention of a block of queries; see `scalar/attention.rs` for its definition.
//!
//! Queries go side by side, so that a key or a value that has been loaded serves several of them.

use super::{LANES, Lanes, load_n, scale, softcap, softmax, store_n};
use crate::kv::{KvView, QueryBlock};
use crate::scalar::CHUNK;

/// Positions that are scored side by side.
const POSITIONS: usize = 4;
/// How many positions ahead memory is asked for.
const AHEAD: usize = 16;
/// The most queries that go side by side in any set.
const MAX_QUERIES: usize = 6;

/// A number as the cache stores it.
trait Cached: Copy {
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
            _ => unreachable!("at most six queries go side by side"),
        }
    };
}

/// See [`crate::scalar::attend`]. At most `SCORED` queries are scored side by side, and `MIXED` mixed by `COLUMNS` groups
/// of sixteen values.
///
/// # Safety
/// `V` is available, and the lengths are those that the block states.
#[inline(always)]
pub(crate) unsafe fn attend<V: Lanes, const SCORED: usize, const MIXED: usize, const COLUMNS: usize>(
    block: QueryBlock<'_>,
) {
    // SAFETY: by the caller.
    unsafe {
        match block.head.view {
            KvView::F32 { k, v } => {
                attend_to::<V, f32, SCORED, MIXED, COLUMNS>(block, k.as_ptr(), v.as_ptr());
            }
            KvView::F16 { k, v } => {
                attend_to::<V, u16, SCORED, MIXED, COLUMNS>(block, k.as_ptr(), v.as_ptr());
            }
        }
    }
}

/// # Safety
/// As [`attend`]; `k` and `v` point to the keys and the values.
#[inline(always)]
unsafe fn attend_to<V: Lanes, C: Cached, const SCORED: usize, const MIXED: usize, const COLUMNS: usize>(
    block: QueryBlock<'_>,
    k: *const C,
    v: *const C,
) {
    let n_queries = block.n_queries();
    let (mut first, mut end) = (usize::MAX, 0);
    for query in 0..n_queries {
        let seen = block.seen(query);
        (first, end) = (first.min(seen.start), end.max(seen.end));
    }
    // SAFETY: by the caller; the rows of scores reach to the last position that any query sees.
    unsafe {
        for from in side_by_side(n_queries, SCORED) {
            for_queries!(from.len(), score, [V, C], [], (&block, from.start, k, first, end));
        }
        for query in 0..n_queries {
            let (seen, row) = (block.seen(query), block.row(query));
            let scores = std::slice::from_raw_parts_mut(block.scores_of(query), row.len());
            let (hidden, scored) = scores.split_at_mut(seen.start - row.start);
            scale::<V>(scored, block.shape.scale);
            if let Some(cap) = block.shape.softcap {
                softcap::<V>(scored, cap);
            }
            hidden.fill(f32::NEG_INFINITY);
            softmax::<V>(scores);
        }
        for from in side_by_side(n_queries, MIXED) {
            for_queries!(from.len(), mix, [V, C], [COLUMNS], (&block, from.start, v));
        }
    }
}

/// Cuts `n` queries into groups of nearly equal size, at most `most`.
fn side_by_side(n: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let n_groups = n.div_ceil(most.min(MAX_QUERIES));
    (0..n_groups).map(move |i| i * n / n_groups..(i + 1) * n / n_groups)
}

/// `scores[q][j] = dot(q, k[j])` for `Q` queries and positions `first..end`, four positions side by side.
///
/// # Safety
/// `V` is available; `k` points to the keys of `end` positions.
#[inline(always)]
unsafe fn score<V: Lanes, C: Cached, const Q: usize>(
    block: &QueryBlock<'_>,
    query: usize,
    k: *const C,
    first: usize,
    end: usize,
) {
    let head_dim = block.shape.head_dim;
    // SAFETY: by the caller; positions of a chunk are adjacent.
    unsafe {
        let q: [*const f32; Q] = std::array::from_fn(|i| block.q_of(query + i));
        let mut row: [*mut f32; Q] = std::array::from_fn(|i| block.position_0_of(query + i).wrapping_add(first));
        let mut position = first;
        while position < end {
            let mut k = k.add(block.head.layout.offset(position, block.head.kv_head));
            let mut left = end.min((position / CHUNK + 1) * CHUNK) - position;
            position += left;
            while left >= POSITIONS {
                for p in 0..POSITIONS {
                    V::prefetch(k.wrapping_add((AHEAD + p) * head_dim).cast());
                }
                let sums = dots::<V, C, Q, POSITIONS>(q, k, head_dim);
                for i in 0..Q {
                    V::sum4([sums[0][i], sums[1][i], sums[2][i], sums[3][i]], row[i]);
                    row[i] = row[i].wrapping_add(POSITIONS);
                }
                k = k.wrapping_add(POSITIONS * head_dim);
                left -= POSITIONS;
            }
            for _ in 0..left {
                let [sums] = dots::<V, C, Q, 1>(q, k, head_dim);
                for i in 0..Q {
                    *row[i] = sums[i].sum();
                    row[i] = row[i].wrapping_add(1);
                }
                k = k.wrapping_add(head_dim);
            }
        }
    }
}

/// The running sums of `Q` queries with `P` consecutive positions.
///
/// # Safety
/// `V` is available; the pointers are to `head_dim` values, at `k` for each position.
#[inline(always)]
unsafe fn dots<V: Lanes, C: Cached, const Q: usize, const P: usize>(
    q: [*const f32; Q],
    k: *const C,
    head_dim: usize,
) -> [[V; Q]; P] {
    // SAFETY: by the caller.
    unsafe {
        let mut sums = [[V::splat(0.0); Q]; P];
        let whole = head_dim / LANES * LANES;
        for start in (0..whole).step_by(LANES) {
            let mut k_p = [V::splat(0.0); P];
            for p in 0..P {
                k_p[p] = C::load(k.add(p * head_dim + start));
            }
            for i in 0..Q {
                let q = V::load(q[i].add(start));
                for p in 0..P {
                    sums[p][i] = q.mul_add(k_p[p], sums[p][i]);
                }
            }
        }
        if whole < head_dim {
            let n = head_dim - whole;
            for p in 0..P {
                let k = C::load_n(k.add(p * head_dim + whole), n);
                for i in 0..Q {
                    sums[p][i] = load_n::<V>(q[i].add(whole), n).mul_add(k, sums[p][i]);
                }
            }
        }
        sums
    }
}

/// `out = sum of p[j] * v[j]` for `Q` queries, in chunks of positions.
///
/// # Safety
/// `V` is available; `v` points to all positions that the queries see.
#[inline(always)]
unsafe fn mix<V: Lanes, C: Cached, const Q: usize, const COLUMNS: usize>(
    block: &QueryBlock<'_>,
    query: usize,
    v: *const C,
) {
    let wide = COLUMNS * LANES;
    let head_dim = block.shape.head_dim;
    // SAFETY: by the caller; the columns asked for exist.
    unsafe {
        let mut start = 0;
        while start + wide <= head_dim {
            mix_columns::<V, C, Q, COLUMNS>(block, query, v, start, LANES);
            start += wide;
        }
        while start < head_dim {
            mix_columns::<V, C, Q, 1>(block, query, v, start, LANES.min(head_dim - start));
            start += LANES;
        }
    }
}

/// [`mix`] for `G` groups of columns from `start`, each of sixteen or the only one of `n`.
///
/// # Safety
/// As [`mix`], and the columns exist.
#[inline(always)]
unsafe fn mix_columns<V: Lanes, C: Cached, const Q: usize, const G: usize>(
    block: &QueryBlock<'_>,
    query: usize,
    v: *const C,
    start: usize,
    n: usize,
) {
    let head_dim = block.shape.head_dim;
    let seen: [_; Q] = std::array::from_fn(|i| block.seen(query + i));
    let p: [*const f32; Q] = std::array::from_fn(|i| block.position_0_of(query + i).cast_const());
    let (first, end) = seen.iter().fold((usize::MAX, 0), |(first, end), s| (first.min(s.start), end.max(s.end)));
    // SAFETY: by the caller; each query's positions have scores.
    unsafe {
        let mut total = [[V::splat(0.0); G]; Q];
        for chunk in first / CHUNK..end.div_ceil(CHUNK) {
            // Where the chunk's position 0 would be if all positions were adjacent.
            let v = v.wrapping_add(block.head.layout.offset(chunk * CHUNK, block.head.kv_head) + start);
            let v = v.wrapping_sub(chunk * CHUNK * head_dim);
            let part: [_; Q] = std::array::from_fn(|i| {
                let (from, to) = (seen[i].start.max(chunk * CHUNK), seen[i].end.min((chunk + 1) * CHUNK));
                from..to.max(from)
            });
            // What all queries see is mixed together; what comes before and after, for each alone.
            let from = part.iter().map(|part| part.start).max().unwrap_or(0);
            let to = part.iter().map(|part| part.end).min().unwrap_or(0).max(from);
            let mut partial = [[V::splat(0.0); G]; Q];
            for i in 0..Q {
                let [sums] = &mut partial[i..=i] else { unreachable!("one query") };
                let alone = part[i].start..part[i].end.min(from);
                *sums = weigh::<V, C, 1, G>([p[i]], v, alone, head_dim, n, [*sums])[0];
            }
            partial = weigh::<V, C, Q, G>(p, v, from..to, head_dim, n, partial);
            for i in 0..Q {
                let alone = part[i].start.max(to)..part[i].end;
                partial[i] = weigh::<V, C, 1, G>([p[i]], v, alone, head_dim, n, [partial[i]])[0];
                if !part[i].is_empty() {
                    for g in 0..G {
                        total[i][g] = total[i][g].add(partial[i][g]);
                    }
                }
            }
        }
        for i in 0..Q {
            for g in 0..G {
                store_n(total[i][g], block.out_of(query + i).add(start + g * LANES), n);
            }
        }
    }
}

/// Continues the sums of `p[j] * v[j]` over some positions.
///
/// # Safety
/// `V` is available; `p` and `v` have these positions, `v` with `G` groups of `n` values in each.
#[inline(always)]
unsafe fn weigh<V: Lanes, C: Cached, const Q: usize, const G: usize>(
    p: [*const f32; Q],
    v: *const C,
    positions: std::ops::Range<usize>,
    stride: usize,
    n: usize,
    mut sums: [[V; G]; Q],
) -> [[V; G]; Q] {
    // SAFETY: by the caller.
    unsafe {
        for j in positions {
            let v = v.wrapping_add(j * stride);
            V::prefetch(v.wrapping_add(AHEAD * stride).cast());
            let mut v_j = [V::splat(0.0); G];
            for g in 0..G {
                v_j[g] = if n == LANES { C::load(v.add(g * LANES)) } else { C::load_n(v.add(g * LANES), n) };
            }
            for i in 0..Q {
                let p = V::splat(*p[i].add(j));
                for g in 0..G {
                    sums[i][g] = p.mul_add(v_j[g], sums[i][g]);
                }
            }
        }
        sums
    }
}
