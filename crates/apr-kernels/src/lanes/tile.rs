//! Unpacked rows times many vectors.

use super::{LANES, Lanes};

/// See [`crate::scalar::tile`]. `R` rows meet `T` ≤ 6 tokens at a time, each pair with its sixteen running sums in
/// registers, so that `R + T` loads feed `R * T` multiply-adds. The tokens of a tile stay in the first-level cache
/// while the rows pass by.
///
/// # Safety
/// `V` is available; `w` is `[n_rows, depth]`, `x` is `[n, depth]`, `sums` is `[n, n_rows, 16]`; `depth` ≥ 1 is a
/// multiple of 16.
#[inline(always)]
pub(crate) unsafe fn tile<V: Lanes, const R: usize, const T: usize>(
    w: &[f32],
    x: &[f32],
    depth: usize,
    sums: &mut [f32],
) {
    let (n_rows, n) = (w.len() / depth, x.len() / depth);
    let corner = Corner { w: w.as_ptr(), x: x.as_ptr(), depth, sums: sums.as_mut_ptr(), n_rows };
    // SAFETY: by the caller; rows `r..r + R` and `n_tokens` tokens from `t` on exist where they are asked for.
    unsafe {
        for t in (0..n).step_by(T) {
            let n_tokens = T.min(n - t);
            let mut r = 0;
            while r + R <= n_rows {
                corner.at(r, t).rows::<V, R>(n_tokens);
                r += R;
            }
            while r < n_rows {
                corner.at(r, t).rows::<V, 1>(n_tokens);
                r += 1;
            }
        }
    }
}

/// Where a tile starts in `w`, `x` and `sums`.
#[derive(Clone, Copy)]
struct Corner {
    w: *const f32,
    x: *const f32,
    depth: usize,
    sums: *mut f32,
    n_rows: usize,
}

impl Corner {
    /// # Safety
    /// Row `r` and token `t` exist.
    #[inline(always)]
    unsafe fn at(self, r: usize, t: usize) -> Self {
        // SAFETY: by the caller.
        unsafe {
            Self {
                w: self.w.add(r * self.depth),
                x: self.x.add(t * self.depth),
                sums: self.sums.add((t * self.n_rows + r) * LANES),
                ..self
            }
        }
    }

    /// # Safety
    /// `V` is available, and `R` rows and `n_tokens` tokens lie from here on.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const R: usize>(self, n_tokens: usize) {
        // SAFETY: by the caller.
        unsafe {
            match n_tokens {
                6 => self.pairs::<V, R, 6>(),
                5 => self.pairs::<V, R, 5>(),
                4 => self.pairs::<V, R, 4>(),
                3 => self.pairs::<V, R, 3>(),
                2 => self.pairs::<V, R, 2>(),
                1 => self.pairs::<V, R, 1>(),
                _ => unreachable!("a tile has at most six tokens"),
            }
        }
    }

    /// # Safety
    /// `V` is available, and `R` rows and `T` tokens lie from here on.
    #[inline(always)]
    unsafe fn pairs<V: Lanes, const R: usize, const T: usize>(self) {
        let Self { w, x, depth, sums: at, n_rows } = self;
        // SAFETY: by the caller.
        unsafe {
            let mut sums = [[V::splat(0.0); R]; T];
            for t in 0..T {
                for r in 0..R {
                    sums[t][r] = V::load(at.add((t * n_rows + r) * LANES));
                }
            }
            let mut k = 0;
            while k < depth {
                let mut w_k = [V::splat(0.0); R];
                for r in 0..R {
                    w_k[r] = V::load(w.add(r * depth + k));
                }
                for t in 0..T {
                    let x_k = V::load(x.add(t * depth + k));
                    for r in 0..R {
                        sums[t][r] = w_k[r].mul_add(x_k, sums[t][r]);
                    }
                }
                k += LANES;
            }
            for t in 0..T {
                for r in 0..R {
                    sums[t][r].store(at.add((t * n_rows + r) * LANES));
                }
            }
        }
    }
}

/// See [`crate::scalar::reduce`].
///
/// # Safety
/// `V` is available; `sums` is `[y.len(), 16]`.
#[inline(always)]
pub(crate) unsafe fn reduce<V: Lanes>(sums: &[f32], y: &mut [f32]) {
    let (side_by_side, rest) = y.as_chunks_mut::<4>();
    let n_side_by_side = 4 * side_by_side.len();
    let at = |i: usize| sums[i * LANES..][..LANES].as_ptr();
    // SAFETY: by the caller; `at` gives sixteen elements.
    unsafe {
        for (i, y) in side_by_side.iter_mut().enumerate() {
            let sums = [V::load(at(4 * i)), V::load(at(4 * i + 1)), V::load(at(4 * i + 2)), V::load(at(4 * i + 3))];
            V::sum4(sums, y.as_mut_ptr());
        }
        for (i, y) in rest.iter_mut().enumerate() {
            *y = V::load(at(n_side_by_side + i)).sum();
        }
    }
}
