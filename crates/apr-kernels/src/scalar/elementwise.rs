//! Operations on one row of activations.

use half::f16;

use super::exp::{exp, silu};
use super::sums::{dot, sum};

/// `y = x * (1 / sqrt(mean(x²) + eps)) * gain`, left to right.
pub(crate) fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    let inverse = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
        *y = x * inverse * gain;
    }
}

/// Turns pair `(i, i + head_dim / 2)` of one head by the angle with `cos[i]`, `sin[i]`.
pub(crate) fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (a.mul_add(*cos, -(*b * sin)), b.mul_add(*cos, *a * sin));
    }
}

/// `x[i] = e^(x[i] - max) / sum`. A NaN anywhere makes every result NaN.
pub(crate) fn softmax(x: &mut [f32]) {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    for x in &mut *x {
        *x = exp(*x - max);
    }
    let sum = sum(x);
    for x in x {
        *x /= sum;
    }
}

/// `gate = silu(gate) * up`.
pub(crate) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = silu(*gate) * up;
    }
}

/// `x += y`.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Rounds to binary16, to nearest even.
pub(crate) fn store_f16(x: &[f32], bits: &mut [u16]) {
    for (bits, x) in bits.iter_mut().zip(x) {
        *bits = f16::from_f32(*x).to_bits();
    }
}
