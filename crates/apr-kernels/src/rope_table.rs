//! Rotary position angles.

/// Cosines and sines of the rotary position embedding, for positions `0..n_positions`.
///
/// Pair `i` of a head at position `p` turns by `p * theta^(-2 i / head_dim)`. Angles, cosines and sines are computed in
/// f64 by a pure-Rust library, the same on every system, and rounded to f32 once.
#[derive(Clone, Debug)]
pub struct RopeTable {
    head_dim: usize,
    /// Angle per position of each pair, `[head_dim / 2]`.
    frequencies: Vec<f64>,
    /// `[n_positions, head_dim / 2]`
    cos: Vec<f32>,
    /// `[n_positions, head_dim / 2]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table for heads of `head_dim` values.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    pub fn new(head_dim: usize, theta: f32, n_positions: usize) -> Self {
        assert!(head_dim.is_multiple_of(2), "rotary pairs need an even head_dim, not {head_dim}");
        let exponent = |pair: usize| -2.0 * pair as f64 / head_dim as f64;
        let frequencies = (0..head_dim / 2).map(|pair| libm::pow(f64::from(theta), exponent(pair))).collect();
        let mut table = Self { head_dim, frequencies, cos: Vec::new(), sin: Vec::new() };
        table.grow(n_positions);
        table
    }

    /// Extends the table to at least `n_positions` positions; what it holds stays as it is.
    pub fn grow(&mut self, n_positions: usize) {
        for position in self.n_positions()..n_positions {
            for frequency in &self.frequencies {
                let (sin, cos) = libm::sincos(position as f64 * frequency);
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }

    /// Number of positions the table covers. A table of empty heads covers every position.
    pub fn n_positions(&self) -> usize {
        self.cos.len().checked_div(self.frequencies.len()).unwrap_or(usize::MAX)
    }

    /// Values per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Cosines and sines at `position`, `[head_dim / 2]` each.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let n_pairs = self.frequencies.len();
        (&self.cos[position * n_pairs..][..n_pairs], &self.sin[position * n_pairs..][..n_pairs])
    }
}
