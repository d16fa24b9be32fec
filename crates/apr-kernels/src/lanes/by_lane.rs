//! Long unpacked rows times very many vectors, lane by lane of the definition.

use std::mem::MaybeUninit;

use super::{LANES, Lanes};
use crate::by_lane::{LANE_AT, LANE_GAP, LaneStrip};

/// See [`crate::scalar::lane_major`].
///
/// # Safety
/// `V` is available; `src` is sixteen rows of `n_groups` groups, each row `stride` values after the one before; `dst` is
/// valid for sixteen values in each of the places that the definition names.
#[inline(always)]
pub(crate) unsafe fn lane_major<V: Lanes>(
    src: *const f32,
    stride: usize,
    n_groups: usize,
    dst: *mut f32,
    lane_stride: usize,
    width: usize,
) {
    // SAFETY: by the caller.
    unsafe {
        for g in 0..n_groups {
            let mut columns = [dst; LANES];
            for (position, lane) in LANE_AT.into_iter().enumerate() {
                columns[lane] = dst.add(position * lane_stride + g * width);
            }
            V::transpose(src.add(g * LANES), stride, columns);
        }
    }
}

/// How many values ahead of the multiply-adds rows are asked for, which come from the second-level cache.
const ROWS_AHEAD: usize = 512;
/// How many values ahead the tokens are.
const TOKENS_AHEAD: usize = 256;

/// See [`crate::scalar::lane_strip`]. A register holds one lane of sixteen rows, so that `R` registers of rows meet `T`
/// tokens, or `LESS`, with `R + T` loads for `R * T` multiply-adds, a token's value being the same for all rows; and the
/// tree adds registers.
///
/// # Safety
/// `V` is available, and the lengths are those that the strip states.
#[inline(always)]
pub(crate) unsafe fn lane_strip<V: Lanes, const R: usize, const T: usize, const LESS: usize>(strip: LaneStrip<'_>) {
    // SAFETY: by the caller.
    unsafe {
        if strip.n_tokens == T {
            tiles::<V, R, T>(strip);
        } else {
            assert_eq!(strip.n_tokens, LESS, "strips have {T} tokens or one fewer");
            tiles::<V, R, LESS>(strip);
        }
    }
}

/// # Safety
/// As [`lane_strip`], for `T` tokens.
#[inline(always)]
unsafe fn tiles<V: Lanes, const R: usize, const T: usize>(strip: LaneStrip<'_>) {
    let n_groups = strip.x.len() / (LANES * T);
    let mut tree = MaybeUninit::<Tree<R, T>>::uninit();
    let tree = tree.as_mut_ptr().cast::<f32>();
    // SAFETY: by the caller.
    unsafe {
        let mut w = strip.w.as_ptr();
        for first_row in (0..strip.n_rows).step_by(R * LANES) {
            let n_rows = (R * LANES).min(strip.n_rows - first_row);
            let y = strip.y.wrapping_add(first_row);
            let mut x = strip.x.as_ptr();
            // Which subtrees a lane completes is written out as far as a processor cannot predict it.
            for quarter in 0..4 {
                let mut sums = accumulate::<V, R, T>(&mut w, &mut x, n_groups);
                join::<V, R, T, 0>(&sums, tree);
                sums = accumulate(&mut w, &mut x, n_groups);
                join::<V, R, T, 1>(&sums, tree);
                sums = accumulate(&mut w, &mut x, n_groups);
                join::<V, R, T, 0>(&sums, tree);
                sums = accumulate(&mut w, &mut x, n_groups);
                match quarter {
                    1 => join::<V, R, T, 3>(&sums, tree),
                    3 => join::<V, R, T, 4>(&sums, tree),
                    _ => join::<V, R, T, 2>(&sums, tree),
                }
            }
            for t in 0..T {
                let (root, y) = (tree.add((4 * T + t) * R * LANES), y.wrapping_add(t * strip.y_stride));
                if n_rows == R * LANES {
                    for r in 0..R {
                        V::load(root.add(r * LANES)).store(y.add(r * LANES));
                    }
                } else {
                    std::ptr::copy_nonoverlapping(root, y, n_rows);
                }
            }
        }
    }
}

/// The complete subtrees of a tile, by height: each waits for the one to its right.
type Tree<const R: usize, const T: usize> = [[[[f32; LANES]; R]; T]; 5];

/// The sums of `R` registers of rows and `T` tokens over one lane, whose values the pointers then have passed.
///
/// # Safety
/// `V` is available; `w` is `[n_groups, R, 16]` and `x` is `[n_groups, T]`, where `n_groups` is not zero.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const R: usize, const T: usize>(
    w: &mut *const f32,
    x: &mut *const f32,
    n_groups: usize,
) -> [[V; R]; T] {
    // SAFETY: by the caller.
    unsafe {
        let mut sums = [[V::splat(0.0); R]; T];
        let end = x.add(n_groups * T);
        loop {
            let mut w_k = [V::splat(0.0); R];
            for r in 0..R {
                w_k[r] = V::load(w.add(r * LANES));
                V::prefetch(w.wrapping_add(r * LANES + ROWS_AHEAD).cast());
            }
            V::prefetch(x.wrapping_add(TOKENS_AHEAD).cast());
            for t in 0..T {
                let x_k = V::splat(*x.add(t));
                for r in 0..R {
                    sums[t][r] = w_k[r].mul_add(x_k, sums[t][r]);
                }
            }
            *w = w.add(R * LANES);
            *x = x.add(T);
            if *x == end {
                *w = w.add(LANE_GAP);
                return sums;
            }
        }
    }
}

/// Joins a lane's sums with the subtrees to their left, which gives one of height `H`.
///
/// # Safety
/// `V` is available; `tree` points to a [`Tree`] that has the subtrees of lesser height.
#[inline(always)]
unsafe fn join<V: Lanes, const R: usize, const T: usize, const H: usize>(sums: &[[V; R]; T], tree: *mut f32) {
    // SAFETY: by the caller.
    unsafe {
        for t in 0..T {
            for r in 0..R {
                let at = |height: usize| tree.add(((height * T + t) * R + r) * LANES);
                let mut sum = sums[t][r];
                for height in 0..H {
                    sum = V::load(at(height)).add(sum);
                }
                sum.store(at(H));
            }
        }
    }
}
