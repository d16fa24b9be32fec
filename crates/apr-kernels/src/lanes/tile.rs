//! Unpacked rows times many vectors.

use super::{LANES, Lanes};
use crate::set::Strip;

/// See [`crate::scalar::strip`]. `R` rows meet `T` ≤ 6 tokens at a time, each pair with its sixteen running sums in
/// registers, so that `R + T` loads feed `R * T` multiply-adds. Rows and tokens are interleaved by groups of sixteen, so
/// each side is one stream of ascending addresses; the tokens stay in the first-level cache while the rows pass by.
///
/// # Safety
/// `V` is available, and the lengths are those that the strip states.
#[inline(always)]
pub(crate) unsafe fn strip<V: Lanes, const R: usize>(strip: Strip<'_>) {
    // SAFETY: by the caller.
    unsafe {
        match strip.n_tokens {
            6 => tiles::<V, R, 6>(strip),
            5 => tiles::<V, R, 5>(strip),
            4 => tiles::<V, R, 4>(strip),
            3 => tiles::<V, R, 3>(strip),
            2 => tiles::<V, R, 2>(strip),
            1 => tiles::<V, R, 1>(strip),
            _ => unreachable!("a strip has at most six tokens"),
        }
    }
}

/// # Safety
/// As [`strip`], for `T` tokens.
#[inline(always)]
unsafe fn tiles<V: Lanes, const R: usize, const T: usize>(strip: Strip<'_>) {
    let n_groups = strip.x.len() / (T * LANES);
    let tile_sums = R * strip.max_tokens * LANES;
    // SAFETY: by the caller.
    unsafe {
        for first_row in (0..strip.n_rows).step_by(R) {
            let w = strip.w.as_ptr().add(first_row * n_groups * LANES);
            let sums_at = strip.sums.as_mut_ptr().wrapping_add(first_row / R * tile_sums);
            let mut sums = [[V::splat(0.0); R]; T];
            if !strip.is_first {
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = V::load(sums_at.add((t * R + r) * LANES));
                    }
                }
            }
            accumulate(w, strip.x.as_ptr(), n_groups, &mut sums);
            if !strip.is_last {
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r].store(sums_at.add((t * R + r) * LANES));
                    }
                }
                continue;
            }
            for t in 0..T {
                let mut y = [0.0; R];
                let n_rows = R.min(strip.n_rows - first_row);
                if R == 4 && n_rows == R {
                    V::sum4([sums[t][0], sums[t][1 % R], sums[t][2 % R], sums[t][3 % R]], y.as_mut_ptr());
                } else {
                    for r in 0..n_rows {
                        y[r] = sums[t][r].sum();
                    }
                }
                for r in 0..n_rows {
                    *strip.y.wrapping_add(t * strip.y_stride + (first_row + r) * strip.row_stride) = y[r];
                }
            }
        }
    }
}

/// Continues the running sums of `R` rows and `T` tokens by `n_groups` groups.
///
/// # Safety
/// `V` is available; `w` is `[n_groups, R, 16]`, `x` is `[n_groups, T, 16]`.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const R: usize, const T: usize>(
    mut w: *const f32,
    mut x: *const f32,
    n_groups: usize,
    sums: &mut [[V; R]; T],
) {
    // SAFETY: by the caller.
    unsafe {
        for _ in 0..n_groups {
            let mut w_k = [V::splat(0.0); R];
            for r in 0..R {
                w_k[r] = V::load(w.add(r * LANES));
            }
            for t in 0..T {
                let x_k = V::load(x.add(t * LANES));
                for r in 0..R {
                    sums[t][r] = w_k[r].mul_add(x_k, sums[t][r]);
                }
            }
            w = w.add(R * LANES);
            x = x.add(T * LANES);
        }
    }
}
