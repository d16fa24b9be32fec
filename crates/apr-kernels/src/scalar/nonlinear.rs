//! Functions of one number that are built on `exp`.

use super::exp::constants::{LN_2_HIGH, LN_2_LOW, LOG2_E, POLYNOMIAL, ROUND};
use super::exp::exp;
use crate::nonlinearity::Nonlinearity;

/// The numbers that define the functions here, shared with the vector paths.
pub(crate) mod constants {
    /// Beyond it `tanh` is one in binary32.
    pub(crate) const TANH_MAX: f32 = 15.0;
    /// `-2 √(2/π)`
    pub(crate) const GELU_TANH_LINEAR: f32 = f32::from_bits(0xbfcc_422a);
    /// `-2 √(2/π) * 0.044715`
    pub(crate) const GELU_TANH_CUBIC: f32 = f32::from_bits(0xbd92_2279);
    /// Beyond it the normal distribution's tail is below the smallest binary32 number.
    pub(crate) const TAIL_MAX: f32 = 15.0;
    /// The tail is a polynomial in `1 / (1 + TAIL_STEP * a)`.
    pub(crate) const TAIL_STEP: f32 = 0.296875;
    /// Polynomial of `e^(a²/2) * Φ(-a) / s` in `s = 1 / (1 + TAIL_STEP * a)` for `a` in 0..15, highest power first:
    /// interpolated at Chebyshev nodes, off by a factor of 7.3e-9 at most.
    pub(crate) const TAIL: [f32; 10] = [
        f32::from_bits(0xbcaa_ee18),
        f32::from_bits(0x3def_b87b),
        f32::from_bits(0xbe7d_79ae),
        f32::from_bits(0x3e65_b12a),
        f32::from_bits(0xbdd3_53da),
        f32::from_bits(0x3ddf_acbc),
        f32::from_bits(0x3d98_145b),
        f32::from_bits(0x3de1_695f),
        f32::from_bits(0x3df2_2ae9),
        f32::from_bits(0x3df2_928e),
    ];
}

/// `f(x)`.
pub(crate) fn nonlinear(f: Nonlinearity, x: f32) -> f32 {
    match f {
        Nonlinearity::Silu => silu(x),
        Nonlinearity::Gelu => gelu(x),
        Nonlinearity::GeluTanh => gelu_tanh(x),
        Nonlinearity::Sigmoid => sigmoid(x),
    }
}

/// `x / (1 + e^-x)`, off by at most 2.40 units in the last place (measured over every number of magnitude up to 87).
/// Inputs below -88.7, where `e^-x` is infinite, give zero.
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `1 / (1 + e^-x)`, off by less than 2.6 units in the last place (measured over every 29th number of magnitude up to 87).
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x`, off by less than 3.5 units in the last place (measured over every 29th number). A NaN for a NaN.
///
/// `e / (e + 2)` with `e = e^2x - 1`, which is taken from the polynomial of `exp` before its one is added, so that a
/// small `x` loses nothing.
pub(crate) fn tanh(x: f32) -> f32 {
    use constants::TANH_MAX;
    let x = if TANH_MAX < x { TANH_MAX } else { x };
    let x = if -TANH_MAX > x { -TANH_MAX } else { x };

    // 2x = n ln 2 + r, and e^r - 1 = r * p
    let x = x + x;
    let rounded = x.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = POLYNOMIAL[1..6].iter().fold(POLYNOMIAL[0], |p, c| p.mul_add(r, *c));

    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = f32::from_bits((n.wrapping_add(127) << 23) as u32);
    let e = (r * p).mul_add(power, power - 1.0);
    e / (e + 2.0)
}

/// `x / 2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))`, computed as `x / (1 + e^-2u)` with `u` the argument of `tanh`, which
/// is the same function. Off by less than 20 units in the last place for magnitudes up to 4 (measured over every 29th
/// number), and by less than 200 up to 10, where it approaches zero on the left.
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    use constants::{GELU_TANH_CUBIC, GELU_TANH_LINEAR};
    let minus_2u = (x * x).mul_add(GELU_TANH_CUBIC, GELU_TANH_LINEAR) * x;
    x / (1.0 + exp(minus_2u))
}

/// `x * Φ(x)`, off by less than 6.5 units in the last place (measured over every 29th number of magnitude up to 12.9).
///
/// The tail `t = |x| * Φ(-|x|)` is what it lacks of `max(x, 0)`.
pub(crate) fn gelu(x: f32) -> f32 {
    use constants::{TAIL, TAIL_MAX, TAIL_STEP};
    let a = x.abs();
    let a = if TAIL_MAX < a { TAIL_MAX } else { a };
    let s = 1.0 / a.mul_add(TAIL_STEP, 1.0);
    let p = TAIL[1..].iter().fold(TAIL[0], |p, c| p.mul_add(s, *c));
    // e^(-a²/2), with what the rounding of a² has lost.
    let square = a * a;
    let lost = a.mul_add(a, -square);
    let e = exp(square * -0.5);
    let e = e.mul_add(lost * -0.5, e);
    let positive = if 0.0 > x { 0.0 } else { x };
    positive - a * (p * s * e)
}

#[cfg(test)]
mod tests {
    use super::super::exp::tests::worst_ulps;
    use super::*;
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

    #[test]
    fn functions_are_off_by_a_few_units_in_the_last_place() {
        let check = |name: &str, f: fn(f32) -> f32, exact: fn(f64) -> f64, largest: f32, most_ulps: f64| {
            let (ulps, at) = worst_ulps(f, exact, largest, 1009);
            println!("{name}: {ulps} at {at:e}");
            assert!(ulps < most_ulps, "{name}: {ulps} at {at:e}");
        };
        let gelu_tanh_exact = |x: f64| x / (1.0 + (-2.0 * FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).exp());
        check("silu", silu, |x| x / (1.0 + (-x).exp()), 87.0, 2.40);
        check("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 87.0, 2.6);
        check("tanh", tanh, libm::tanh, f32::MAX, 3.5);
        check("gelu", gelu, |x| x / 2.0 * libm::erfc(-x * FRAC_1_SQRT_2), 12.9, 6.5);
        check("gelu_tanh to 4", gelu_tanh, gelu_tanh_exact, 4.0, 20.0);
        check("gelu_tanh", gelu_tanh, gelu_tanh_exact, 10.0, 200.0);
    }

    #[test]
    fn ends_of_the_range_are_exact() {
        let check = |f: Nonlinearity, x: f32, expected: f32| {
            assert_eq!(nonlinear(f, x), expected, "{f:?}({x:e})");
        };
        for f in [Nonlinearity::Silu, Nonlinearity::Gelu, Nonlinearity::GeluTanh] {
            check(f, 0.0, 0.0);
            check(f, 1e30, 1e30);
            check(f, -1e30, 0.0);
            assert!(nonlinear(f, f32::NAN).is_nan(), "{f:?}");
        }
        check(Nonlinearity::Sigmoid, f32::INFINITY, 1.0);
        check(Nonlinearity::Sigmoid, f32::NEG_INFINITY, 0.0);
        for (x, expected) in [(0.0, 0.0), (1e-30, 1e-30), (20.0, 1.0), (f32::NEG_INFINITY, -1.0)] {
            assert_eq!(tanh(x), expected, "tanh({x:e})");
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}
