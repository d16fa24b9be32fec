//! The scales of a block: f16 numbers, and integers per group that are multiplied with them.

use std::array::from_fn;

use half::f16;

use super::group::{
    AffineSums, affine_error, affine_sums, fit_affine, fit_scale, least_squares, scaled_error, scaled_sums,
};
use super::lanes::{Block, LANES, Lanes, Levels, Singles};

/// How often the f16 scales are fitted to the integers and the integers to the scales again.
const N_ROUNDS: usize = 3;

/// A scale of the block is beyond the largest f16.
pub(in crate::codec) struct TooLarge;

/// A block of `4 * T` groups of `N`: the value of an element is `d * scale * level`.
pub(in crate::codec) struct ScaledBlock<const N: usize, const T: usize> {
    pub(in crate::codec) d: f16,
    /// Per group.
    scales: [Lanes; T],
    /// Per tile and element.
    levels: [[Lanes; N]; T],
}

/// A block of `4 * T` groups of `N`: the value of an element is `d * scale * level - dmin * min`.
pub(in crate::codec) struct AffineBlock<const N: usize, const T: usize> {
    pub(in crate::codec) d: f16,
    pub(in crate::codec) dmin: f16,
    scales: [Lanes; T],
    mins: [Lanes; T],
    levels: [[Lanes; N]; T],
}

/// `value * unit` as f16, rounded away from zero, so that no group's scale needs a larger integer than there is.
fn f16_not_below(value: f32, unit: f64) -> Result<f16, TooLarge> {
    let exact = f64::from(value) * unit;
    let nearest = f16::from_f64(exact);
    let is_below = f64::from(nearest).abs() < exact.abs();
    // The next number of larger magnitude has the next bit pattern.
    let rounded = if is_below { f16::from_bits(nearest.to_bits() + 1) } else { nearest };
    if rounded.is_infinite() { Err(TooLarge) } else { Ok(rounded) }
}

/// `value * unit` as the nearest f16, if it has one.
fn f16_near(value: f32, unit: f64) -> Option<f16> {
    let nearest = f16::from_f64(f64::from(value) * unit);
    nearest.is_finite().then_some(nearest)
}

/// What `d` is among values that were divided by `unit`.
fn in_units(d: f16, unit: f64) -> f32 {
    (f64::from(d) / unit) as f32
}

fn sum(lanes: &[Lanes]) -> f32 {
    lanes.iter().flat_map(|lanes| lanes.0).sum()
}

fn inverse(value: f32) -> f32 {
    Lanes::splat(value).inverse().0[0]
}

/// An error of less than this part of the squares is of the size of what rounding a scale to f16 does to the values. Then it
/// isn't the codes that decide, and other integers may by chance have a product that is nearer.
const NEARLY_EXACT: f32 = 2e-5;

fn is_nearly_exact<const N: usize, const T: usize>(block: &Block<N, T>, error: f32) -> bool {
    let mut squares = [Lanes::ZERO; T];
    for (sum, tile) in squares.iter_mut().zip(&block.tiles) {
        for (&x, &w) in tile.x.iter().zip(&tile.w) {
            *sum = *sum + w * x * x;
        }
    }
    error < sum(&squares) * NEARLY_EXACT
}

/// Scales tried for values that are nearly exact, as multiples of the best one.
const OTHER_STARTS: [f32; 10] = [1.016, 1.033, 1.05, 1.067, 1.085, 1.1, 1.14, 1.25, 1.5, 1.9];

/// Finds scales from `-half` to `half - 1`.
pub(in crate::codec) fn fit_scaled_block<L: Levels, const N: usize, const T: usize>(
    block: &Block<N, T>,
    half: f32,
) -> Result<ScaledBlock<N, T>, TooLarge> {
    let fitted: [Lanes; T] = from_fn(|t| fit_scale::<L, N>(&block.tiles[t]));
    let largest = |sign: f32| fitted.iter().flat_map(|lanes| lanes.0).fold(0.0f32, |max, s| max.max(sign * s));
    let (above, below) = (largest(1.0), largest(-1.0));
    // The smaller step of the two that no scale is too large for.
    let (up, down) = ((above / (half - 1.0)).max(below / half), (above / half).max(below / (half - 1.0)));
    let start = if up < down { up } else { -down };
    let mut best = refine_scaled::<L, N, T>(block, &fitted, f16_not_below(start, block.unit)?, half);
    if is_nearly_exact(block, best.error) {
        for factor in OTHER_STARTS {
            let Some(d) = f16_near(start * factor, block.unit) else { continue };
            let other = refine_scaled::<L, N, T>(block, &fitted, d, half);
            if other.error < best.error {
                best = other;
            }
        }
    }
    let step = Lanes::splat(in_units(best.d, block.unit));
    let levels = from_fn(|t| {
        let inverse = (step * best.scales[t]).inverse();
        block.tiles[t].x.map(|x| L::nearest(x * inverse))
    });
    Ok(ScaledBlock { d: best.d, scales: best.scales, levels })
}

struct Scaled<const T: usize> {
    error: f32,
    d: f16,
    scales: [Lanes; T],
}

/// The best integers and f16 scale on the way from `d` and the scales `fitted` to each group.
fn refine_scaled<L: Levels, const N: usize, const T: usize>(
    block: &Block<N, T>,
    fitted: &[Lanes; T],
    mut d: f16,
    half: f32,
) -> Scaled<T> {
    let mut scales = fitted.map(|lanes| lanes * Lanes::splat(inverse(in_units(d, block.unit))));
    let mut best = Scaled { error: f32::INFINITY, d, scales };
    for _ in 0..N_ROUNDS {
        let step = Lanes::splat(in_units(d, block.unit));
        let (mut errors, mut levels_squared, mut x_levels) = ([Lanes::ZERO; T], [Lanes::ZERO; T], [Lanes::ZERO; T]);
        for (t, tile) in block.tiles.iter().enumerate() {
            let middle = scales[t].clamp(-half, half - 1.0).round();
            let (mut chosen, mut error) = (middle, scaled_error::<L, N>(tile, step * middle));
            for offset in [-1.0, 1.0] {
                let scale = (middle + Lanes::splat(offset)).clamp(-half, half - 1.0);
                let other = scaled_error::<L, N>(tile, step * scale);
                for l in 0..LANES {
                    if other.0[l] < error.0[l] {
                        (chosen.0[l], error.0[l]) = (scale.0[l], other.0[l]);
                    }
                }
            }
            let sums = scaled_sums::<L, N>(tile, (step * chosen).inverse());
            (scales[t], errors[t]) = (chosen, error);
            levels_squared[t] = chosen * chosen * sums.level_squared;
            x_levels[t] = chosen * sums.x_level;
        }
        let error = sum(&errors);
        if error >= best.error {
            break;
        }
        best = Scaled { error, d, scales };
        match f16_near(sum(&x_levels) * inverse(sum(&levels_squared)), block.unit) {
            Some(next) if next != d => d = next,
            _ => break,
        }
    }
    best
}

/// Finds scales from zero to `highest` and mins from zero to `highest`.
pub(in crate::codec) fn fit_affine_block<L: Levels, const N: usize, const T: usize>(
    block: &Block<N, T>,
    highest: f32,
) -> Result<AffineBlock<N, T>, TooLarge> {
    let fitted: [(Lanes, Lanes); T] = from_fn(|t| fit_affine::<L, N>(&block.tiles[t], false));
    let largest = |part: fn(&(Lanes, Lanes)) -> Lanes| {
        fitted.iter().flat_map(|pair| part(pair).0).fold(0.0f32, |max, value| if value > max { value } else { max })
    };
    let (start, min_start) = (largest(|pair| pair.0) / highest, largest(|pair| pair.1) / highest);
    let first = (f16_not_below(start, block.unit)?, f16_not_below(min_start, block.unit)?);
    let mut best = refine_affine::<L, N, T>(block, &fitted, first, highest);
    if is_nearly_exact(block, best.error) {
        for factor in OTHER_STARTS {
            for min_factor in OTHER_STARTS {
                let (d, dmin) = (f16_near(start * factor, block.unit), f16_near(min_start * min_factor, block.unit));
                let (Some(d), Some(dmin)) = (d, dmin) else { continue };
                let other = refine_affine::<L, N, T>(block, &fitted, (d, dmin), highest);
                if other.error < best.error {
                    best = other;
                }
            }
        }
    }
    let Affine { d, dmin, scales, mins, .. } = best;
    let (step, min_step) = (Lanes::splat(in_units(d, block.unit)), Lanes::splat(in_units(dmin, block.unit)));
    let levels = from_fn(|t| {
        let (inverse, min) = ((step * scales[t]).inverse(), min_step * mins[t]);
        block.tiles[t].x.map(|x| L::nearest((x + min) * inverse))
    });
    Ok(AffineBlock { d, dmin, scales, mins, levels })
}

struct Affine<const T: usize> {
    error: f32,
    d: f16,
    dmin: f16,
    scales: [Lanes; T],
    mins: [Lanes; T],
}

/// The best integers and f16 scales on the way from `d` and `dmin` and what is `fitted` to each group.
fn refine_affine<L: Levels, const N: usize, const T: usize>(
    block: &Block<N, T>,
    fitted: &[(Lanes, Lanes); T],
    (mut d, mut dmin): (f16, f16),
    highest: f32,
) -> Affine<T> {
    let in_steps = |value: Lanes, step: f16| value * Lanes::splat(inverse(in_units(step, block.unit)));
    let mut scales = fitted.map(|pair| in_steps(pair.0, d));
    let mut mins = fitted.map(|pair| in_steps(pair.1, dmin));
    let mut best = Affine { error: f32::INFINITY, d, dmin, scales, mins };
    for _ in 0..N_ROUNDS {
        let (step, min_step) = (Lanes::splat(in_units(d, block.unit)), Lanes::splat(in_units(dmin, block.unit)));
        let mut error = 0.0;
        let mut equations = NormalEquations::default();
        for (t, tile) in block.tiles.iter().enumerate() {
            let middle = scales[t].clamp(0.0, highest).round();
            let middle_min = mins[t].clamp(0.0, highest).round();
            let (mut scale, mut min) = (middle, middle_min);
            let mut least = affine_error::<L, N>(tile, step * scale, min_step * min);
            for (offset, min_offset) in NEIGHBOURS {
                let other = (middle + Lanes::splat(offset)).clamp(0.0, highest);
                let other_min = (middle_min + Lanes::splat(min_offset)).clamp(0.0, highest);
                let other_error = affine_error::<L, N>(tile, step * other, min_step * other_min);
                for l in 0..LANES {
                    if other_error.0[l] < least.0[l] {
                        (scale.0[l], min.0[l], least.0[l]) = (other.0[l], other_min.0[l], other_error.0[l]);
                    }
                }
            }
            (scales[t], mins[t]) = (scale, min);
            error += sum(&[least]);
            equations.add(&affine_sums::<L, N>(tile, (step * scale).inverse(), min_step * min), scale, min);
        }
        if error >= best.error {
            break;
        }
        best = Affine { error, d, dmin, scales, mins };
        let (next, next_min) = equations.solve(in_units(d, block.unit), in_units(dmin, block.unit));
        match (f16_near(next, block.unit), f16_near(next_min, block.unit)) {
            (Some(next), Some(next_min)) if (next, next_min) != (d, dmin) => (d, dmin) = (next, next_min),
            _ => break,
        }
    }
    best
}

/// Of least squares for `d` and `dmin`, given integers and codes: `[a -b; -b c] [d; dmin] = [p; -r]`.
#[derive(Default)]
struct NormalEquations {
    a: f32,
    b: f32,
    c: f32,
    p: f32,
    r: f32,
}

impl NormalEquations {
    fn add(&mut self, sums: &AffineSums, scale: Lanes, min: Lanes) {
        self.a += sum(&[scale * scale * sums.level_squared]);
        self.b += sum(&[scale * min * sums.level]);
        self.c += sum(&[min * min * sums.w]);
        self.p += sum(&[scale * sums.x_level]);
        self.r += sum(&[min * sums.x]);
    }

    /// The solution; where one of the two is enough for it, the other stays as it is.
    fn solve(&self, d: f32, dmin: f32) -> (f32, f32) {
        let &Self { a, b, c, p, r } = self;
        let determinant = a * c - b * b;
        if determinant > 1e-5 * a * c {
            ((c * p - b * r) / determinant, (b * p - a * r) / determinant)
        } else if a > 0.0 {
            ((p + b * dmin) / a, dmin)
        } else {
            (d, -r * inverse(c))
        }
    }
}

/// Steps from an integer scale and min to those around it.
const NEIGHBOURS: [(f32, f32); 8] =
    [(-1.0, -1.0), (-1.0, 0.0), (-1.0, 1.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 0.0), (1.0, 1.0)];

/// A block that is one group: the value of an element is `d * level + m`.
pub(in crate::codec) struct SingleBlock<const N: usize> {
    pub(in crate::codec) d: f16,
    pub(in crate::codec) m: f16,
    pub(in crate::codec) codes: [u8; N],
}

/// Finds the scale and, where `affine`, the minimum of either sign for each of the first `n` of four blocks.
pub(in crate::codec) fn fit_singles<L: Levels, const N: usize>(
    blocks: &Singles<N>,
    n: usize,
    affine: bool,
) -> Result<Vec<SingleBlock<N>>, TooLarge> {
    let tile = &blocks.tile;
    let (scale, min) = if affine { fit_affine::<L, N>(tile, true) } else { (fit_scale::<L, N>(tile), Lanes::ZERO) };
    let mut best = Singly { error: [f32::INFINITY; LANES], d: [f16::ZERO; LANES], m: [f16::ZERO; LANES] };
    best.consider::<L, N>(blocks, scale, min);
    if (0..n).any(|l| best.error[l] == f32::INFINITY) {
        return Err(TooLarge);
    }
    let squares = tile.x.iter().zip(&tile.w).fold(Lanes::ZERO, |sum, (&x, &w)| sum + w * x * x);
    if (0..n).any(|l| best.error[l] < squares.0[l] * NEARLY_EXACT) {
        for factor in OTHER_STARTS {
            let inverse = (scale * Lanes::splat(factor)).inverse();
            let (scale, min) = if affine {
                least_squares(&affine_sums::<L, N>(tile, inverse, min), true)
            } else {
                let sums = scaled_sums::<L, N>(tile, inverse);
                (sums.x_level.over(sums.level_squared), Lanes::ZERO)
            };
            best.consider::<L, N>(blocks, scale, min);
        }
    }
    let inverse = Lanes::each(|l| in_units(best.d[l], blocks.units[l])).inverse();
    let min = Lanes::each(|l| -in_units(best.m[l], blocks.units[l]));
    let levels = tile.x.map(|x| L::nearest((x + min) * inverse));
    let single = |l: usize| SingleBlock { d: best.d[l], m: best.m[l], codes: levels.map(|level| L::code(level.0[l])) };
    Ok((0..n).map(single).collect())
}

/// The best f16 scales and minimums found for four blocks, and the errors of their decoded values.
struct Singly {
    error: [f32; LANES],
    d: [f16; LANES],
    m: [f16; LANES],
}

impl Singly {
    /// Compares what is there with the f16 numbers at and beside `scale` and `-min`, those that are finite.
    fn consider<L: Levels, const N: usize>(&mut self, blocks: &Singles<N>, scale: Lanes, min: Lanes) {
        let steps: &[i16] = &[0, -1, 1];
        let min_steps = if min.0 == [0.0; LANES] { &steps[..1] } else { steps };
        let numbers = |value: Lanes, step: i16| -> [Option<f16>; LANES] {
            from_fn(|l| f16_near(value.0[l], blocks.units[l]).and_then(|near| beside(near, step)))
        };
        let lanes = |numbers: &[Option<f16>; LANES], sign: f32| {
            Lanes::each(|l| numbers[l].map_or(0.0, |number| sign * in_units(number, blocks.units[l])))
        };
        for &step in steps {
            let d = numbers(scale, step);
            for &min_step in min_steps {
                let m = numbers(Lanes::ZERO - min, min_step);
                let error = affine_error::<L, N>(&blocks.tile, lanes(&d, 1.0), lanes(&m, -1.0));
                for l in 0..LANES {
                    if let (Some(d), Some(m)) = (d[l], m[l])
                        && error.0[l] < self.error[l]
                    {
                        (self.error[l], self.d[l], self.m[l]) = (error.0[l], d, m);
                    }
                }
            }
        }
    }
}

/// The f16 number `step` places further from zero, where there is one.
fn beside(number: f16, step: i16) -> Option<f16> {
    let magnitude = (number.to_bits() & 0x7fff).checked_add_signed(step)?;
    Some(f16::from_bits(number.to_bits() & 0x8000 | magnitude)).filter(|beside| beside.is_finite())
}

/// The codes of a block, element after element.
fn codes<L: Levels, const N: usize, const T: usize>(levels: &[[Lanes; N]; T]) -> [u8; 256] {
    from_fn(|i| L::code(levels[i / N / LANES][i % N].0[i / N % LANES]))
}

impl<const N: usize, const T: usize> ScaledBlock<N, T> {
    pub(in crate::codec) fn codes<L: Levels>(&self) -> [u8; 256] {
        codes::<L, N, T>(&self.levels)
    }

    /// The integer scale of group `g`.
    pub(in crate::codec) fn scale(&self, g: usize) -> i8 {
        self.scales[g / LANES].0[g % LANES] as i8
    }
}

impl<const N: usize, const T: usize> AffineBlock<N, T> {
    pub(in crate::codec) fn codes<L: Levels>(&self) -> [u8; 256] {
        codes::<L, N, T>(&self.levels)
    }

    /// The integer scale of group `g`.
    pub(in crate::codec) fn scale(&self, g: usize) -> u8 {
        self.scales[g / LANES].0[g % LANES] as u8
    }

    /// The integer min of group `g`.
    pub(in crate::codec) fn min(&self, g: usize) -> u8 {
        self.mins[g / LANES].0[g % LANES] as u8
    }
}
