//! `exp`.

/// The numbers that define [`exp`], shared with the vector paths.
pub(crate) mod constants {
    /// Above it `exp` is infinite in binary32.
    pub(crate) const MAX: f32 = 89.0;
    /// Below it `exp` rounds to zero.
    pub(crate) const MIN: f32 = -104.0;
    /// `1 / ln 2`
    pub(crate) const LOG2_E: f32 = std::f32::consts::LOG2_E;
    /// 1.5 · 2^23: adding it rounds a small number to an integer, which then sits in the low mantissa bits.
    pub(crate) const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts; the upper one has few bits, so that its multiples are exact.
    pub(crate) const LN_2_HIGH: f32 = f32::from_bits(0x3f31_7200);
    /// `ln 2 - LN_2_HIGH`
    pub(crate) const LN_2_LOW: f32 = f32::from_bits(0x35bf_be8e);
    /// Polynomial of `exp(r)` for `|r| ≤ ln 2 / 2`, highest power first: a minimax fit of the relative error with the
    /// last two coefficients held at one.
    pub(crate) const POLYNOMIAL: [f32; 7] = [
        f32::from_bits(0x3ab5_121a),
        f32::from_bits(0x3c09_1cf1),
        f32::from_bits(0x3d2a_ac79),
        f32::from_bits(0x3e2a_aa49),
        f32::from_bits(0x3eff_fffe),
        1.0,
        1.0,
    ];
}

/// `e^x`, off by at most 0.895 units in the last place (measured over every number of magnitude up to 88.7). Zero below
/// -104 and infinite above 88.73, a NaN for a NaN.
pub(crate) fn exp(x: f32) -> f32 {
    use constants::*;
    // Written so that a NaN passes through, as the vector minimum and maximum do with operands in this order.
    let x = if MAX < x { MAX } else { x };
    let x = if MIN > x { MIN } else { x };

    // x = n ln 2 + r
    let rounded = x.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |p, c| p.mul_add(r, *c));

    // p · 2^n in two steps: 2^n alone may be out of range where the product is not.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    p * power_of_two(n >> 1) * power_of_two(n.wrapping_sub(n >> 1))
}

fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Measured over every number; the test looks at every 211th.
    const EXP_MAX_ULPS: f64 = 0.895;

    /// Largest error of `f` against `exact`, in units of the last place of the exact value, over every `step`-th
    /// binary32 number of both signs up to `largest`; and where it occurs.
    pub(in crate::scalar) fn worst_ulps(
        f: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        largest: f32,
        step: usize,
    ) -> (f64, f32) {
        let magnitudes = (0..=largest.to_bits()).step_by(step).map(f32::from_bits);
        let errors = magnitudes.flat_map(|x| [x, -x]).map(|x| {
            let exact = exact(f64::from(x));
            let ulp = f64::from((exact.abs() as f32).max(f32::MIN_POSITIVE)).log2().floor().exp2() * 2f64.powi(-23);
            ((f64::from(f(x)) - exact).abs() / ulp, x)
        });
        errors.fold((0.0, 0.0), |worst, error| if error.0 > worst.0 { error } else { worst })
    }

    #[test]
    fn exp_is_off_by_less_than_one_unit_in_the_last_place() {
        let (ulps, at) = worst_ulps(exp, f64::exp, 88.7, 211);
        assert!(ulps < EXP_MAX_ULPS, "{ulps} at {at:e}");
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        let check = |x: f32, expected: f32| assert_eq!(exp(x).to_bits(), expected.to_bits(), "exp({x:e})");
        check(0.0, 1.0);
        check(-0.0, 1.0);
        check(f32::INFINITY, f32::INFINITY);
        check(f32::NEG_INFINITY, 0.0);
        check(88.8, f32::INFINITY);
        check(f32::MAX, f32::INFINITY);
        check(-104.1, 0.0);
        check(-103.2, f32::from_bits(1));
        assert!(exp(f32::NAN).is_nan());
    }
}
