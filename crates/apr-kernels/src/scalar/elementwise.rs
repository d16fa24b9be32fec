//! Operations on one row of activations.

use half::f16;

use super::exp::exp;
use super::nonlinear::{nonlinear, tanh};
use super::sums::{dot, sum};
use crate::nonlinearity::Nonlinearity;

/// `y = x * (1 / sqrt(mean(x²) + eps)) * gain`, left to right.
pub(crate) fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    let inverse = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
        *y = x * inverse * gain;
    }
}

/// `y = fma((x - mean) * (1 / sqrt(mean((x - mean)²) + eps)), gain, bias)`.
pub(crate) fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let mean = sum(x) / x.len() as f32;
    for (y, x) in y.iter_mut().zip(x) {
        *y = x - mean;
    }
    let inverse = 1.0 / (dot(y, y) / x.len() as f32 + eps).sqrt();
    for ((y, gain), bias) in y.iter_mut().zip(gain).zip(bias) {
        *y = (*y * inverse).mul_add(*gain, *bias);
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

/// `x = f(x)`.
pub(crate) fn apply(f: Nonlinearity, x: &mut [f32]) {
    for x in x {
        *x = nonlinear(f, *x);
    }
}

/// `gate = f(gate) * up`.
pub(crate) fn gate(f: Nonlinearity, gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = nonlinear(f, *gate) * up;
    }
}

/// `x = cap * tanh(x / cap)`.
pub(crate) fn softcap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = tanh(*x / cap) * cap;
    }
}

/// `x *= factor`.
pub(crate) fn scale(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

/// `x = fma(y, factor, x)`.
pub(crate) fn add_scaled(x: &mut [f32], y: &[f32], factor: f32) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = y.mul_add(factor, *x);
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
