//! Functions of one number, for sixteen at a time; see `scalar/exp.rs` and `scalar/nonlinear.rs` for their definitions.

use super::Lanes;
use crate::scalar::exp_constants::{LN_2_HIGH, LN_2_LOW, LOG2_E, MAX, MIN, POLYNOMIAL, ROUND};
use crate::scalar::nonlinear_constants::{GELU_TANH_CUBIC, GELU_TANH_LINEAR, TAIL, TAIL_MAX, TAIL_STEP, TANH_MAX};

/// `e^x` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn exp<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let x = V::splat(MAX).min(x);
        exp_in_range(V::splat(MIN).max(x))
    }
}

/// [`exp`] of numbers from `MIN` to `MAX`.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn exp_in_range<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let rounded = x.mul_add(V::splat(LOG2_E), V::splat(ROUND));
        let n = rounded.sub(V::splat(ROUND));
        let r = n.mul_add(V::splat(-LN_2_LOW), n.mul_add(V::splat(-LN_2_HIGH), x));
        let mut p = V::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = p.mul_add(r, V::splat(*c));
        }
        p.mul_power_of_two(n)
    }
}

/// `x / (1 + e^-x)` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn silu<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe { x.div(V::splat(1.0).add(exp(x.mul(V::splat(-1.0))))) }
}

/// `1 / (1 + e^-x)` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe { V::splat(1.0).div(V::splat(1.0).add(exp(x.mul(V::splat(-1.0))))) }
}

/// `tanh x` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn tanh<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let x = V::splat(TANH_MAX).min(x);
        let x = V::splat(-TANH_MAX).max(x);
        let x = x.add(x);
        let rounded = x.mul_add(V::splat(LOG2_E), V::splat(ROUND));
        let n = rounded.sub(V::splat(ROUND));
        let r = n.mul_add(V::splat(-LN_2_LOW), n.mul_add(V::splat(-LN_2_HIGH), x));
        let mut p = V::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..6] {
            p = p.mul_add(r, V::splat(*c));
        }
        let power = V::splat(1.0).mul_power_of_two(n);
        let e = r.mul(p).mul_add(power, power.sub(V::splat(1.0)));
        e.div(e.add(V::splat(2.0)))
    }
}

/// GELU by `tanh` of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn gelu_tanh<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        let minus_2u = x.mul(x).mul_add(V::splat(GELU_TANH_CUBIC), V::splat(GELU_TANH_LINEAR)).mul(x);
        x.div(V::splat(1.0).add(exp(minus_2u)))
    }
}

/// GELU by the error function of each lane.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(super) unsafe fn gelu<V: Lanes>(x: V) -> V {
    // SAFETY: by the caller.
    unsafe {
        // The magnitude: the sign bit shifted out.
        let a = V::from_bits(V::shift_right(V::shift_left(x.to_bits(), 1), 1));
        let a = V::splat(TAIL_MAX).min(a);
        let s = V::splat(1.0).div(a.mul_add(V::splat(TAIL_STEP), V::splat(1.0)));
        let mut p = V::splat(TAIL[0]);
        for c in &TAIL[1..] {
            p = p.mul_add(s, V::splat(*c));
        }
        let square = a.mul(a);
        let lost = a.mul_sub(a, square);
        let e = exp(square.mul(V::splat(-0.5)));
        let e = e.mul_add(lost.mul(V::splat(-0.5)), e);
        let positive = V::splat(0.0).max(x);
        positive.sub(a.mul(p.mul(s).mul(e)))
    }
}
