//! Operations on one row of activations; see `scalar/elementwise.rs` and `scalar/exp.rs` for their definitions.

use super::{LANES, Lanes, load_n, store_n};
use crate::scalar::exp_constants::{LN_2_HIGH, LN_2_LOW, LOG2_E, MAX, MIN, POLYNOMIAL, ROUND};

/// Starts and lengths of the groups of sixteen of a row, the last one perhaps shorter.
#[inline(always)]
fn groups(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(LANES).map(move |start| (start, LANES.min(len - start)))
}

/// `e^x` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn exp<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let x = V::splat(MAX).min(x);
        let x = V::splat(MIN).max(x);
        let rounded = x.mul_add(V::splat(LOG2_E), V::splat(ROUND));
        let n = rounded.sub(V::splat(ROUND));
        let r = n.mul_add(V::splat(-LN_2_LOW), n.mul_add(V::splat(-LN_2_HIGH), x));
        let mut p = V::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = p.mul_add(r, V::splat(*c));
        }
        let n = V::sub_ints(rounded.to_bits(), V::splat(ROUND).to_bits());
        let half = V::shift_right_signed(n, 1);
        p.mul(power_of_two(half)).mul(power_of_two::<V>(V::sub_ints(n, half)))
    }
}

/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn power_of_two<V: Lanes>(n: V::Ints) -> V {
    // SAFETY: by the caller.
    unsafe { V::from_bits(V::shift_left(V::add_ints(n, V::ints(127)), 23)) }
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

/// See [`crate::scalar::silu_mul`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn silu_mul<V: Lanes>(gate: &mut [f32], up: &[f32]) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        for (start, n) in groups(gate.len()) {
            let at = gate.as_mut_ptr().add(start);
            let (gate, up) = (load_n::<V>(at, n), load_n::<V>(up.as_ptr().add(start), n));
            let denominator = V::splat(1.0).add(exp(gate.mul(V::splat(-1.0))));
            store_n(gate.div(denominator).mul(up), at, n);
        }
    }
}

/// See [`crate::scalar::add`].
///
/// # Safety
/// `V` is available; the slices have equal lengths.
#[inline(always)]
pub(crate) unsafe fn add<V: Lanes>(x: &mut [f32], y: &[f32]) {
    // SAFETY: by the caller; groups lie within the row.
    unsafe {
        for (start, n) in groups(x.len()) {
            let at = x.as_mut_ptr().add(start);
            store_n(load_n::<V>(at, n).add(load_n(y.as_ptr().add(start), n)), at, n);
        }
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
