//! Attention of one query head; see `scalar/attention.rs` for its definition.

use super::{LANES, Lanes, load_n, softcap, softmax, store_n};
use crate::kv::{AttentionShape, KvHead, KvView};
use crate::scalar::CHUNK;

/// A number as the cache stores it.
trait Cached: Copy {
    /// The first `n` ≤ 16 numbers at `src`, then zeros.
    ///
    /// # Safety
    /// `V` is available and `src` is valid for `n` elements.
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V;
}

impl Cached for f32 {
    #[inline(always)]
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V {
        // SAFETY: by the caller.
        unsafe { load_n(src, n) }
    }
}

impl Cached for u16 {
    #[inline(always)]
    unsafe fn load_n<V: Lanes>(src: *const Self, n: usize) -> V {
        // SAFETY: by the caller; the copy has room for sixteen.
        unsafe {
            if n == LANES {
                return V::load_f16(src);
            }
            let mut copy = [0u16; LANES];
            std::ptr::copy_nonoverlapping(src, copy.as_mut_ptr(), n);
            V::load_f16(copy.as_ptr())
        }
    }
}

/// See [`crate::scalar::attend`].
///
/// # Safety
/// `V` is available; `head` holds `scores.len()` positions of `q.len() == out.len()` values, the first `n_hidden` of which
/// are fewer than a chunk.
#[inline(always)]
pub(crate) unsafe fn attend<V: Lanes>(
    q: &[f32],
    head: KvHead<'_>,
    shape: &AttentionShape,
    n_hidden: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (hidden, seen) = scores.split_at_mut(n_hidden);
    let first_seen = head.offset + n_hidden * head.stride;
    // SAFETY: by the caller; the head starts at `offset` in the first position.
    unsafe {
        match head.view {
            KvView::F32 { k, .. } => score::<V, f32>(q, k.as_ptr().add(first_seen), head.stride, shape.scale, seen),
            KvView::F16 { k, .. } => score::<V, u16>(q, k.as_ptr().add(first_seen), head.stride, shape.scale, seen),
        }
        if let Some(cap) = shape.softcap {
            softcap::<V>(seen, cap);
        }
        hidden.fill(f32::NEG_INFINITY);
        softmax::<V>(scores);
        match head.view {
            KvView::F32 { v, .. } => mix::<V, f32>(scores, n_hidden, v.as_ptr().add(head.offset), head.stride, out),
            KvView::F16 { v, .. } => mix::<V, u16>(scores, n_hidden, v.as_ptr().add(head.offset), head.stride, out),
        }
    }
}

/// `scores[j] = dot(q, k[j]) * scale`, four positions side by side.
///
/// # Safety
/// `V` is available; `k` points to `scores.len()` positions, `stride` apart, of `q.len()` values.
#[inline(always)]
unsafe fn score<V: Lanes, C: Cached>(q: &[f32], k: *const C, stride: usize, scale: f32, scores: &mut [f32]) {
    let (side_by_side, rest) = scores.as_chunks_mut::<4>();
    let n_side_by_side = 4 * side_by_side.len();
    // SAFETY: by the caller.
    unsafe {
        for (i, scores) in side_by_side.iter_mut().enumerate() {
            V::sum4(dots::<V, C, 4>(q, k.add(4 * i * stride), stride), scores.as_mut_ptr());
        }
        for (i, score) in rest.iter_mut().enumerate() {
            let [sums] = dots::<V, C, 1>(q, k.add((n_side_by_side + i) * stride), stride);
            *score = sums.sum();
        }
    }
    for score in scores {
        *score *= scale;
    }
}

/// The running sums of `q` with `P` consecutive positions.
///
/// # Safety
/// As [`score`], for `P` positions.
#[inline(always)]
unsafe fn dots<V: Lanes, C: Cached, const P: usize>(q: &[f32], k: *const C, stride: usize) -> [V; P] {
    // SAFETY: by the caller.
    unsafe {
        let mut sums = [V::splat(0.0); P];
        for start in (0..q.len()).step_by(LANES) {
            let n = LANES.min(q.len() - start);
            let q = load_n::<V>(q.as_ptr().add(start), n);
            for p in 0..P {
                sums[p] = q.mul_add(C::load_n(k.add(p * stride + start), n), sums[p]);
            }
        }
        sums
    }
}

/// `out = sum of p[j] * v[j]` for `j` from `n_hidden`, in chunks of positions; four groups of sixteen values at a time.
///
/// # Safety
/// `V` is available; `v` points to `p.len()` positions, `stride` apart, of `out.len()` values.
#[inline(always)]
unsafe fn mix<V: Lanes, C: Cached>(p: &[f32], n_hidden: usize, v: *const C, stride: usize, out: &mut [f32]) {
    const WIDE: usize = 4 * LANES;
    let wide = out.len() / WIDE * WIDE;
    // SAFETY: by the caller; the columns asked for exist.
    unsafe {
        for start in (0..wide).step_by(WIDE) {
            mix_columns::<V, C, 4>(p, n_hidden, v.add(start), stride, LANES, out.as_mut_ptr().add(start));
        }
        for start in (wide..out.len()).step_by(LANES) {
            let n = LANES.min(out.len() - start);
            mix_columns::<V, C, 1>(p, n_hidden, v.add(start), stride, n, out.as_mut_ptr().add(start));
        }
    }
}

/// [`mix`] for `G` groups of columns, each of sixteen or the only one of `n`.
///
/// # Safety
/// `V` is available; `v` points to `p.len()` positions and `out` has room, each for `G` groups of `n` values.
#[inline(always)]
unsafe fn mix_columns<V: Lanes, C: Cached, const G: usize>(
    p: &[f32],
    n_hidden: usize,
    v: *const C,
    stride: usize,
    n: usize,
    out: *mut f32,
) {
    // SAFETY: by the caller.
    unsafe {
        let mut total = [V::splat(0.0); G];
        let mut v = v.add(n_hidden * stride);
        for (chunk_idx, chunk) in p.chunks(CHUNK).enumerate() {
            let mut partial = [V::splat(0.0); G];
            for p in &chunk[if chunk_idx == 0 { n_hidden } else { 0 }..] {
                let p = V::splat(*p);
                for g in 0..G {
                    partial[g] = p.mul_add(C::load_n(v.add(g * LANES), n), partial[g]);
                }
                v = v.wrapping_add(stride);
            }
            for g in 0..G {
                total[g] = total[g].add(partial[g]);
            }
        }
        for g in 0..G {
            store_n(total[g], out.add(g * LANES), n);
        }
    }
}
