//! The scale of a group, or its scale and minimum.

use super::lanes::{LANES, Lanes, Levels, Tile};

/// How often a fit is improved by fitting the scale to the codes and the codes to the scale again.
const N_REFINEMENTS: usize = 2;

/// A gain that is larger than another by less than this may owe it to rounding. Then the first stays, so that groups of the
/// same value get the same scale.
const CLEARLY_MORE: f32 = 1.0 + 1e-6;

/// Sums over a group for `x ≈ scale * level`.
pub(super) struct ScaledSums {
    pub(super) x_level: Lanes,
    pub(super) level_squared: Lanes,
}

/// The sums for the levels next to `x * inverse`.
pub(super) fn scaled_sums<L: Levels, const N: usize>(tile: &Tile<N>, inverse: Lanes) -> ScaledSums {
    let (mut x_level, mut level_squared) = (Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in tile.x.iter().zip(&tile.w) {
        let level = L::nearest(x * inverse);
        let w_level = w * level;
        x_level = x_level + w_level * x;
        level_squared = level_squared + w_level * level;
    }
    ScaledSums { x_level, level_squared }
}

/// The error of the decoded values: `Σ w * (x - scale * level)²`.
pub(super) fn scaled_error<L: Levels, const N: usize>(tile: &Tile<N>, scale: Lanes) -> Lanes {
    let inverse = scale.inverse();
    let mut error = Lanes::ZERO;
    for (&x, &w) in tile.x.iter().zip(&tile.w) {
        let left = x - scale * L::nearest(x * inverse);
        error = error + w * left * left;
    }
    error
}

/// The best scale found for each group, of either sign.
pub(super) fn fit_scale<L: Levels, const N: usize>(tile: &Tile<N>) -> Lanes {
    let extreme = tile.x.iter().fold(Lanes::ZERO, |extreme, x| {
        Lanes::each(|l| if x.0[l].abs() > extreme.0[l].abs() { x.0[l] } else { extreme.0[l] })
    });
    let inverse_extreme = extreme.inverse();
    let (mut scale, mut gain) = (Lanes::ZERO, Lanes::ZERO);
    let mut attempt = |inverse: Lanes| {
        let sums = scaled_sums::<L, N>(tile, inverse);
        // The error is Σ w x² less this much.
        let fitted = sums.x_level.over(sums.level_squared);
        let fitted_gain = fitted * sums.x_level;
        for l in 0..LANES {
            if fitted_gain.0[l] > gain.0[l] * CLEARLY_MORE {
                (scale.0[l], gain.0[l]) = (fitted.0[l], fitted_gain.0[l]);
            }
        }
        scale
    };
    let mut best = Lanes::ZERO;
    for &target in L::EXTREMES {
        best = attempt(Lanes::splat(target) * inverse_extreme);
    }
    for _ in 0..N_REFINEMENTS {
        best = attempt(best.inverse());
    }
    best
}

/// Sums over a group for `x ≈ scale * level - min`.
pub(super) struct AffineSums {
    pub(super) w: Lanes,
    pub(super) x: Lanes,
    pub(super) level: Lanes,
    pub(super) level_squared: Lanes,
    pub(super) x_level: Lanes,
}

/// The sums for the levels next to `(x + min) * inverse`.
pub(super) fn affine_sums<L: Levels, const N: usize>(tile: &Tile<N>, inverse: Lanes, min: Lanes) -> AffineSums {
    let zero = Lanes::ZERO;
    let mut sums = AffineSums { w: zero, x: zero, level: zero, level_squared: zero, x_level: zero };
    for (&x, &w) in tile.x.iter().zip(&tile.w) {
        let level = L::nearest((x + min) * inverse);
        let w_level = w * level;
        sums.w = sums.w + w;
        sums.x = sums.x + w * x;
        sums.level = sums.level + w_level;
        sums.level_squared = sums.level_squared + w_level * level;
        sums.x_level = sums.x_level + w_level * x;
    }
    sums
}

/// The error of the decoded values: `Σ w * (x - scale * level + min)²`.
pub(super) fn affine_error<L: Levels, const N: usize>(tile: &Tile<N>, scale: Lanes, min: Lanes) -> Lanes {
    let inverse = scale.inverse();
    let mut error = Lanes::ZERO;
    for (&x, &w) in tile.x.iter().zip(&tile.w) {
        let above = x + min;
        let left = above - scale * L::nearest(above * inverse);
        error = error + w * left * left;
    }
    error
}

/// The scale and the minimum that fit the levels of `sums` best.
pub(super) fn least_squares(sums: &AffineSums, signed: bool) -> (Lanes, Lanes) {
    let product = sums.w * sums.level_squared;
    let difference = product - sums.level * sums.level;
    // All levels are the same where it is zero but for rounding.
    let determinant = Lanes::each(|l| if difference.0[l] > 1e-5 * product.0[l] { difference.0[l] } else { 0.0 });
    let free_scale = (sums.w * sums.x_level - sums.x * sums.level).over(determinant);
    let free_min = (sums.level * sums.x_level - sums.level_squared * sums.x).over(determinant);
    let mean = sums.x.over(sums.w);
    let without_min = sums.x_level.over(sums.level_squared);
    let (mut scale, mut min) = (without_min, Lanes::ZERO);
    for l in 0..LANES {
        if determinant.0[l] > 0.0 && (signed || free_min.0[l] >= 0.0) {
            (scale.0[l], min.0[l]) = (free_scale.0[l], free_min.0[l]);
        } else if determinant.0[l] == 0.0 && (signed || mean.0[l] <= 0.0) {
            (scale.0[l], min.0[l]) = (0.0, -mean.0[l]);
        }
    }
    (scale, min)
}

/// The best scale and minimum found for each group. A minimum is what is subtracted; where `signed` is not asked for, it
/// is not negative.
pub(super) fn fit_affine<L: Levels, const N: usize>(tile: &Tile<N>, signed: bool) -> (Lanes, Lanes) {
    let fold = |better: fn(f32, f32) -> bool| {
        tile.x[1..]
            .iter()
            .fold(tile.x[0], |found, x| Lanes::each(|l| if better(x.0[l], found.0[l]) { x.0[l] } else { found.0[l] }))
    };
    let (smallest, largest) = (fold(|a, b| a < b), fold(|a, b| a > b));
    let first_min = Lanes::each(|l| if signed || smallest.0[l] < 0.0 { -smallest.0[l] } else { 0.0 });
    let inverse_range = (largest + first_min).inverse();
    // Without a scale every value is the minimum, or zero.
    let (mut scale, mut min, mut gain) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    let mut attempt = |inverse: Lanes, start: Lanes| {
        let sums = affine_sums::<L, N>(tile, inverse, start);
        let (fitted, fitted_min) = least_squares(&sums, signed);
        // The error is Σ w x² less this much.
        let fitted_gain = fitted * sums.x_level - fitted_min * sums.x;
        for l in 0..LANES {
            if fitted_gain.0[l] > gain.0[l] * CLEARLY_MORE {
                (scale.0[l], min.0[l], gain.0[l]) = (fitted.0[l], fitted_min.0[l], fitted_gain.0[l]);
            }
        }
        (scale, min)
    };
    let mut best = (Lanes::ZERO, Lanes::ZERO);
    for &below in L::BELOW {
        for &above in L::ABOVE {
            let inverse = Lanes::splat(L::SPAN + below + above) * inverse_range;
            let start = first_min - Lanes::splat(below) * inverse.inverse();
            best = attempt(inverse, Lanes(start.0.map(|min| if signed || min > 0.0 { min } else { 0.0 })));
        }
    }
    for _ in 0..N_REFINEMENTS {
        best = attempt(best.0.inverse(), best.1);
    }
    best
}
