//! Statistics of a tensor's values.

use crate::compare::canonical_elements;
use crate::{Tensor, for_each_chunk};
use apr_tensor::codec::{self, Number};

/// What the values of one tensor look like. Integers of 64 bits count as the nearest binary64 number; of a dtype whose
/// values are not decoded nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct TensorStats {
    /// Number of values.
    pub n: u64,
    /// NaN values.
    pub n_nan: u64,
    /// Infinite values.
    pub n_inf: u64,
    /// Zeros of either sign.
    pub n_zero: u64,
    /// Canonical index of the first NaN or infinity.
    pub first_not_finite: Option<u64>,
    /// Smallest finite value.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Sum of the finite values.
    pub sum: f64,
    /// Sum of their squares.
    pub sum_squares: f64,
}

impl TensorStats {
    /// Reads every value of a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        let mut stats = Self::default();
        let dtype = tensor.dtype;
        if dtype.decodes_exactly() {
            for_each_chunk(tensor, |values| stats.add(values));
        } else if dtype.decodes() {
            for bytes in canonical_elements(tensor).chunks_exact(dtype.info().block_bytes) {
                match codec::number(dtype, bytes) {
                    Number::Integer(n) => stats.add_one(n as f64),
                    Number::Float(x) => stats.add_one(x),
                    Number::Bits(..) => unreachable!("{dtype} decodes"),
                }
            }
        }
        stats
    }

    /// Counts further values in.
    pub(crate) fn add(&mut self, values: &[f32]) {
        for &value in values {
            self.add_one(value.into());
        }
    }

    fn add_one(&mut self, value: f64) {
        let index = self.n;
        self.n += 1;
        if value.is_nan() {
            self.n_nan += 1;
        } else if value.is_infinite() {
            self.n_inf += 1;
        } else {
            self.n_zero += u64::from(value == 0.0);
            self.min = Some(self.min.map_or(value, |min| min.min(value)));
            self.max = Some(self.max.map_or(value, |max| max.max(value)));
            self.sum += value;
            self.sum_squares += value * value;
            return;
        }
        self.first_not_finite.get_or_insert(index);
    }

    /// Number of finite values.
    pub fn n_finite(&self) -> u64 {
        self.n - self.n_nan - self.n_inf
    }

    /// Mean of the finite values.
    pub fn mean(&self) -> Option<f64> {
        (self.n_finite() > 0).then(|| self.sum / self.n_finite() as f64)
    }

    /// Standard deviation of the finite values.
    pub fn std(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some((self.sum_squares / self.n_finite() as f64 - mean * mean).max(0.0).sqrt())
    }

    /// L2 norm of the finite values.
    pub fn l2(&self) -> f64 {
        self.sum_squares.sqrt()
    }

    /// Share of values that are zero; 0 for an empty tensor.
    pub fn zero_fraction(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.n_zero as f64 / self.n as f64 }
    }
}
