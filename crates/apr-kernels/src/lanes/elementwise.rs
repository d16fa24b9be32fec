//! Operations on one row of activations; see `scalar/elementwise.rs` for their definitions.

use super::nonlinear::{exp, gelu, gelu_tanh, sigmoid, silu, tanh};
use super::{LANES, Lanes, load_n, store_n};
use crate::nonlinearity::Nonlinearity;

/// Starts and lengths of the groups of sixteen of a row, the last one perhaps shorter.
#[inline(always)]
fn groups(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(LANES).map(move |start| (start, LANES.min(len - start)))
}

/// See [`crate::scalar::rms_norm`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn rms_norm<V: Lanes>(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        let mut squares = V::splat(0.0);
        for (start, n) in groups(x.len()) {
            let x = load_n::<V>(x.as_ptr().add(start), n);
            squares = x.mul_add(x, squares);
        }
        let inverse = V::splat(1.0 / (squares.sum() / x.len() as f32 + eps).sqrt());
        for (start, n) in groups(x.len()) {
            let x = load_n::<V>(x.as_ptr().add(start), n);
            let gain = load_n::<V>(gain.as_ptr().add(start), n);
            store_n(x.mul(inverse).mul(gain), y.as_mut_ptr().add(start), n);
        }
    }
}

/// See [`crate::scalar::layer_norm`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn layer_norm<V: Lanes>(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        let mut sums = V::splat(0.0);
        for (start, n) in groups(x.len()) {
            sums = sums.add(load_n(x.as_ptr().add(start), n));
        }
        let mean = V::splat(sums.sum() / x.len() as f32);
        let mut squares = V::splat(0.0);
        for (start, n) in groups(x.len()) {
            let at = y.as_mut_ptr().add(start);
            store_n(load_n::<V>(x.as_ptr().add(start), n).sub(mean), at, n);
            // Read again, so that lanes beyond the row's end are zero.
            let centred = load_n::<V>(at, n);
            squares = centred.mul_add(centred, squares);
        }
        let inverse = V::splat(1.0 / (squares.sum() / x.len() as f32 + eps).sqrt());
        for (start, n) in groups(x.len()) {
            let at = y.as_mut_ptr().add(start);
            let gain = load_n::<V>(gain.as_ptr().add(start), n);
            let bias = load_n::<V>(bias.as_ptr().add(start), n);
            store_n(load_n::<V>(at, n).mul(inverse).mul_add(gain, bias), at, n);
        }
    }
}

/// See [`crate::scalar::rope`].
///
/// # Safety
/// `V` is available; `cos` and `sin` are half as long as `head`.
#[inline(always)]
pub(crate) unsafe fn rope<V: Lanes>(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    // SAFETY: by the caller; groups lie within the halves.
    unsafe {
        for (start, n) in groups(first.len()) {
            let a = load_n::<V>(first.as_ptr().add(start), n);
            let b = load_n::<V>(second.as_ptr().add(start), n);
            let cos = load_n::<V>(cos.as_ptr().add(start), n);
            let sin = load_n::<V>(sin.as_ptr().add(start), n);
            store_n(a.mul_sub(cos, b.mul(sin)), first.as_mut_ptr().add(start), n);
            store_n(b.mul_add(cos, a.mul(sin)), second.as_mut_ptr().add(start), n);
        }
    }
}

/// See [`crate::scalar::softmax`].
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(crate) unsafe fn softmax<V: Lanes>(x: &mut [f32]) {
    let whole = x.len() / LANES * LANES;
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        // The maximum of numbers does not depend on their order. A NaN is never greater, and shows in the sum.
        let mut lane_max = V::splat(f32::NEG_INFINITY);
        for start in (0..whole).step_by(LANES) {
            lane_max = V::load(x.as_ptr().add(start)).max(lane_max);
        }
        let mut maxima = [0.0; LANES];
        lane_max.store(maxima.as_mut_ptr());
        let max = maxima.iter().chain(&x[whole..]).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });

        let mut sums = V::splat(0.0);
        for (start, n) in groups(x.len()) {
            let at = x.as_mut_ptr().add(start);
            store_n(exp(load_n::<V>(at, n).sub(V::splat(max))), at, n);
            sums = sums.add(load_n(at, n));
        }
        let sum = V::splat(sums.sum());
        for (start, n) in groups(x.len()) {
            let at = x.as_mut_ptr().add(start);
            store_n(load_n::<V>(at, n).div(sum), at, n);
        }
    }
}

/// Replaces each group of sixteen values of `x` by `f` of it.
///
/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn map<V: Lanes>(x: &mut [f32], f: impl Fn(V) -> V) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        for (start, n) in groups(x.len()) {
            let at = x.as_mut_ptr().add(start);
            store_n(f(load_n::<V>(at, n)), at, n);
        }
    }
}

/// Replaces each group of sixteen values of `x` by `f` of it and of the same ones of `y`.
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
unsafe fn zip<V: Lanes>(x: &mut [f32], y: &[f32], f: impl Fn(V, V) -> V) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        for (start, n) in groups(x.len()) {
            let at = x.as_mut_ptr().add(start);
            store_n(f(load_n::<V>(at, n), load_n::<V>(y.as_ptr().add(start), n)), at, n);
        }
    }
}

/// See [`crate::scalar::apply`].
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(crate) unsafe fn apply<V: Lanes>(f: Nonlinearity, x: &mut [f32]) {
    // SAFETY: by the caller.
    unsafe {
        match f {
            Nonlinearity::Silu => map::<V>(x, |x| silu(x)),
            Nonlinearity::Gelu => map::<V>(x, |x| gelu(x)),
            Nonlinearity::GeluTanh => map::<V>(x, |x| gelu_tanh(x)),
            Nonlinearity::Sigmoid => map::<V>(x, |x| sigmoid(x)),
        }
    }
}

/// See [`crate::scalar::gate`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn gate<V: Lanes>(f: Nonlinearity, gate: &mut [f32], up: &[f32]) {
    // SAFETY: by the caller.
    unsafe {
        match f {
            Nonlinearity::Silu => zip::<V>(gate, up, |gate, up| silu(gate).mul(up)),
            Nonlinearity::Gelu => zip::<V>(gate, up, |gate, up| gelu(gate).mul(up)),
            Nonlinearity::GeluTanh => zip::<V>(gate, up, |gate, up| gelu_tanh(gate).mul(up)),
            Nonlinearity::Sigmoid => zip::<V>(gate, up, |gate, up| sigmoid(gate).mul(up)),
        }
    }
}

/// See [`crate::scalar::softcap`].
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(crate) unsafe fn softcap<V: Lanes>(x: &mut [f32], cap: f32) {
    // SAFETY: by the caller.
    unsafe {
        let cap = V::splat(cap);
        map::<V>(x, |x| tanh(x.div(cap)).mul(cap));
    }
}

/// See [`crate::scalar::scale`].
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(crate) unsafe fn scale<V: Lanes>(x: &mut [f32], factor: f32) {
    // SAFETY: by the caller.
    unsafe {
        let factor = V::splat(factor);
        map::<V>(x, |x| x.mul(factor));
    }
}

/// See [`crate::scalar::add`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn add<V: Lanes>(x: &mut [f32], y: &[f32]) {
    // SAFETY: by the caller.
    unsafe { zip::<V>(x, y, |x, y| x.add(y)) }
}

/// See [`crate::scalar::add_scaled`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn add_scaled<V: Lanes>(x: &mut [f32], y: &[f32], factor: f32) {
    // SAFETY: by the caller.
    unsafe {
        let factor = V::splat(factor);
        zip::<V>(x, y, |x, y| y.mul_add(factor, x));
    }
}

/// See [`crate::scalar::store_f16`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn store_f16<V: Lanes>(x: &[f32], bits: &mut [u16]) {
    // SAFETY: by the caller; groups lie within the row, and the copy has room for sixteen.
    unsafe {
        for (start, n) in groups(x.len()) {
            let mut copy = [0u16; LANES];
            load_n::<V>(x.as_ptr().add(start), n).store_f16(copy.as_mut_ptr());
            std::ptr::copy_nonoverlapping(copy.as_ptr(), bits.as_mut_ptr().add(start), n);
        }
    }
}
