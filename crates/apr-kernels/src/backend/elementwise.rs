//! Operations on rows of activations.

use super::Backend;
use crate::nonlinearity::Nonlinearity;
use crate::rope_table::RopeTable;

/// Values that a task takes at least, so that handing out tasks costs little.
const TASK_VALUES: usize = 8 << 10;

/// How many whole rows of `width` values a task takes.
fn rows_per_task(width: usize) -> usize {
    TASK_VALUES.div_ceil(width)
}

impl Backend {
    /// `y[t] += bias` for every row of `y`, which is `[n, width]`.
    ///
    /// # Panics
    /// If `y` is not whole rows.
    pub fn add_bias(&self, y: &mut [f32], bias: &[f32]) {
        if bias.is_empty() {
            assert!(y.is_empty(), "an empty bias for {} values", y.len());
            return;
        }
        assert!(y.len().is_multiple_of(bias.len()), "{} values in rows of {}", y.len(), bias.len());
        self.pool.for_each_chunk(y, bias.len() * rows_per_task(bias.len()), |_, rows| {
            for row in rows.chunks_exact_mut(bias.len()) {
                // SAFETY: holding the set proves its instructions; both slices have the length of `bias`.
                unsafe { (self.set.add)(row, bias) }
            }
        });
    }

    /// `y = x * (1 / sqrt(mean(x²) + eps)) * gain` for every row of `x`, which is `[n, width]` with the width of
    /// `gain`: the hidden size, or `head_dim` where a model normalises each head.
    ///
    /// # Panics
    /// If `x` is not whole rows or `y` has another length.
    pub fn rms_norm(&self, x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
        let width = gain.len();
        assert_eq!(x.len(), y.len(), "x and y have the same shape");
        if width == 0 {
            assert!(x.is_empty(), "an empty gain for {} values", x.len());
            return;
        }
        assert!(x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
        let task_len = width * rows_per_task(width);
        self.pool.for_each_chunk(y, task_len, |i, y| {
            let x = &x[i * task_len..][..y.len()];
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                // SAFETY: holding the set proves its instructions; all three slices have length `width`.
                unsafe { (self.set.rms_norm)(x, gain, eps, y) }
            }
        });
    }

    /// `y = fma((x - mean) * (1 / sqrt(mean((x - mean)²) + eps)), gain, bias)` for every row of `x`, which is `[n, width]`
    /// with the width of `gain` and `bias`.
    ///
    /// # Panics
    /// If `x` is not whole rows, or `y` or `bias` has another length.
    pub fn layer_norm(&self, x: &[f32], gain: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
        let width = gain.len();
        assert_eq!(x.len(), y.len(), "x and y have the same shape");
        assert_eq!(width, bias.len(), "gain and bias have the same shape");
        if width == 0 {
            assert!(x.is_empty(), "an empty gain for {} values", x.len());
            return;
        }
        assert!(x.len().is_multiple_of(width), "{} values in rows of {width}", x.len());
        let task_len = width * rows_per_task(width);
        self.pool.for_each_chunk(y, task_len, |i, y| {
            let x = &x[i * task_len..][..y.len()];
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                // SAFETY: holding the set proves its instructions; all four slices have length `width`.
                unsafe { (self.set.layer_norm)(x, gain, bias, eps, y) }
            }
        });
    }

    /// Turns the pairs `(i, i + rotary_dim / 2)` of every head of `x`, `[n, n_heads, head_dim]`, by the angle of its
    /// position: `first_pos` for the first token. With `a`, `b` the pair: `a' = fma(a, cos, -(b * sin))`,
    /// `b' = fma(b, cos, a * sin)`. Values of a head from `rotary_dim` on stay as they are.
    ///
    /// # Panics
    /// If `x` is not whole tokens or the table does not reach the last position.
    pub fn rope(&self, x: &mut [f32], n_heads: usize, table: &RopeTable, first_pos: usize) {
        let head_dim = table.head_dim();
        let width = n_heads * head_dim;
        if width == 0 {
            assert!(x.is_empty(), "{n_heads} heads of {head_dim} for {} values", x.len());
            return;
        }
        assert!(x.len().is_multiple_of(width), "{} values in {n_heads} heads of {head_dim}", x.len());
        let n = x.len() / width;
        assert!(first_pos + n <= table.n_positions(), "the table has {} positions", table.n_positions());
        let rows = rows_per_task(width);
        self.pool.for_each_chunk(x, width * rows, |i, tokens| {
            for (t, token) in tokens.chunks_exact_mut(width).enumerate() {
                let (cos, sin) = table.at(first_pos + i * rows + t);
                for head in token.chunks_exact_mut(head_dim) {
                    // SAFETY: holding the set proves its instructions; the table's rows are half the rotary part long.
                    unsafe { (self.set.rope)(&mut head[..table.rotary_dim()], cos, sin) }
                }
            }
        });
    }

    /// `x = f(x)`.
    pub fn apply(&self, f: Nonlinearity, x: &mut [f32]) {
        self.pool.for_each_chunk(x, TASK_VALUES, |_, x| {
            // SAFETY: holding the set proves its instructions.
            unsafe { (self.set.apply)(f, x) }
        });
    }

    /// `gate = f(gate) * up`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gate(&self, f: Nonlinearity, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up have the same shape");
        self.pool.for_each_chunk(gate, TASK_VALUES, |i, gate| {
            // SAFETY: holding the set proves its instructions; the slices have equal lengths.
            unsafe { (self.set.gate)(f, gate, &up[i * TASK_VALUES..][..gate.len()]) }
        });
    }

    /// `x = tanh(x / cap) * cap`: keeps values within `-cap..cap`.
    pub fn softcap(&self, x: &mut [f32], cap: f32) {
        self.pool.for_each_chunk(x, TASK_VALUES, |_, x| {
            // SAFETY: holding the set proves its instructions.
            unsafe { (self.set.softcap)(x, cap) }
        });
    }

    /// `x *= factor`.
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        self.pool.for_each_chunk(x, TASK_VALUES, |_, x| {
            // SAFETY: holding the set proves its instructions.
            unsafe { (self.set.scale)(x, factor) }
        });
    }

    /// `x += y`: the residual.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "x and y have the same shape");
        self.pool.for_each_chunk(x, TASK_VALUES, |i, x| {
            // SAFETY: holding the set proves its instructions; the slices have equal lengths.
            unsafe { (self.set.add)(x, &y[i * TASK_VALUES..][..x.len()]) }
        });
    }

    /// `x = fma(y, factor, x)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_scaled(&self, x: &mut [f32], y: &[f32], factor: f32) {
        assert_eq!(x.len(), y.len(), "x and y have the same shape");
        self.pool.for_each_chunk(x, TASK_VALUES, |i, x| {
            // SAFETY: holding the set proves its instructions; the slices have equal lengths.
            unsafe { (self.set.add_scaled)(x, &y[i * TASK_VALUES..][..x.len()], factor) }
        });
    }

    /// Softmax of one row in place: `e^(x - max) / sum`. A NaN anywhere makes every result NaN.
    pub fn softmax(&self, x: &mut [f32]) {
        // SAFETY: holding the set proves its instructions.
        unsafe { (self.set.softmax)(x) }
    }

    /// Rounds keys or values to binary16, to nearest even, and stores the bit patterns in `cache`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn store_kv_f16(&self, x: &[f32], cache: &mut [u16]) {
        assert_eq!(x.len(), cache.len(), "as many cache entries as values");
        // SAFETY: holding the set proves its instructions; the slices have equal lengths.
        unsafe { (self.set.store_f16)(x, cache) }
    }

    /// Index of the largest value, the lowest one among equals; `None` for no values or where one of them is NaN.
    pub fn argmax(&self, x: &[f32]) -> Option<usize> {
        let mut best = 0;
        for (i, value) in x.iter().enumerate() {
            if value.is_nan() {
                return None;
            }
            if *value > x[best] {
                best = i;
            }
        }
        (!x.is_empty()).then_some(best)
    }
}
