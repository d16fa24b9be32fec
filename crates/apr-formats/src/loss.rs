//! What values lose when their dtype changes.

use apr_tensor::DType;

/// A change of a tensor's values.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorLoss {
    /// Canonical name.
    pub tensor: String,
    /// Dtype in the source.
    pub from: DType,
    /// Dtype in the target.
    pub to: DType,
    /// Elements whose value changed.
    pub n_changed: u64,
    /// Largest absolute change.
    pub max_abs: f32,
    /// Root of the mean squared change.
    pub rmse: f64,
    /// Sum of squared changes, as a part of the sum of squares; not finite where that is zero.
    pub nmse: f64,
    /// Cosine of the angle between the values before and after; not finite where either are all zero.
    pub cosine: f64,
}

/// Sums that don't wait for each other: element `i` of a row goes to sum `i % LANES`.
const LANES: usize = 8;

/// What became of values. Sums are f64 over products of two f32: exact but for the last of 53 bits.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) n_changed: u64,
    max_abs: f32,
    squares: f64,
    squares_before: f64,
    squares_after: f64,
    products: f64,
}

impl Loss {
    pub(crate) fn add(&mut self, before: &[f32], after: &[f32]) {
        let (chunks, rest) = before.as_chunks::<LANES>();
        let (chunks_after, rest_after) = after.as_chunks::<LANES>();
        let mut lanes = LossLanes::default();
        for (before, after) in chunks.iter().zip(chunks_after) {
            lanes.add(before, after);
        }
        let (mut padded, mut padded_after) = ([0.0; LANES], [0.0; LANES]);
        padded[..rest.len()].copy_from_slice(rest);
        padded_after[..rest.len()].copy_from_slice(rest_after);
        lanes.add(&padded, &padded_after);
        self.n_changed += lanes.n_changed.iter().map(|&n| u64::from(n)).sum::<u64>();
        self.max_abs = lanes.max_abs.iter().fold(self.max_abs, |max, &d| max.max(d));
        self.squares += lanes.squares.iter().sum::<f64>();
        self.squares_before += lanes.squares_before.iter().sum::<f64>();
        self.squares_after += lanes.squares_after.iter().sum::<f64>();
        self.products += lanes.products.iter().sum::<f64>();
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.n_changed += other.n_changed;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.squares += other.squares;
        self.squares_before += other.squares_before;
        self.squares_after += other.squares_after;
        self.products += other.products;
    }

    /// What a tensor of `n_elements` lost.
    pub(crate) fn of_tensor(&self, name: &str, from: DType, to: DType, n_elements: usize) -> TensorLoss {
        TensorLoss {
            tensor: name.to_owned(),
            from,
            to,
            n_changed: self.n_changed,
            max_abs: self.max_abs,
            rmse: (self.squares / n_elements as f64).sqrt(),
            nmse: self.squares / self.squares_before,
            cosine: self.products / (self.squares_before.sqrt() * self.squares_after.sqrt()),
        }
    }
}

#[derive(Default)]
struct LossLanes {
    n_changed: [u32; LANES],
    max_abs: [f32; LANES],
    squares: [f64; LANES],
    squares_before: [f64; LANES],
    squares_after: [f64; LANES],
    products: [f64; LANES],
}

impl LossLanes {
    #[inline(always)]
    fn add(&mut self, before: &[f32; LANES], after: &[f32; LANES]) {
        for l in 0..LANES {
            let (a, b) = (before[l], after[l]);
            let (wide_a, wide_b) = (f64::from(a), f64::from(b));
            // Bits, so that a zero that loses its sign or a NaN that loses its payload counts as a change; and what is the
            // same, infinities too, has no difference.
            let is_changed = a.to_bits() != b.to_bits();
            let d = if is_changed { (a - b).abs() } else { 0.0 };
            self.n_changed[l] += u32::from(is_changed);
            self.max_abs[l] = if d > self.max_abs[l] { d } else { self.max_abs[l] };
            self.squares[l] += f64::from(d) * f64::from(d);
            self.squares_before[l] += wide_a * wide_a;
            self.squares_after[l] += wide_b * wide_b;
            self.products[l] += wide_a * wide_b;
        }
    }
}
