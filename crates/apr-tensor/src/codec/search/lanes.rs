//! Four groups side by side, and the numbers that codes stand for.

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

use crate::codec::q_table::IQ4;

/// Groups that are searched together: as many as the smallest instruction set of x86-64 has lanes.
pub(super) const LANES: usize = 4;

/// One number per group.
#[derive(Clone, Copy)]
pub(in crate::codec) struct Lanes(pub(super) [f32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    pub(super) fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(from_fn(|l| f(self.0[l], other.0[l])))
    }

    /// The numbers of `f`, lane by lane.
    pub(super) fn each(f: impl FnMut(usize) -> f32) -> Self {
        Self(from_fn(f))
    }

    #[inline(always)]
    pub(super) fn clamp(self, low: f32, high: f32) -> Self {
        // Comparisons, where `f32::max` would have to look for NaN.
        let above = self.zip(Self::splat(low), |a, b| if a > b { a } else { b });
        above.zip(Self::splat(high), |a, b| if a < b { a } else { b })
    }

    /// Nearest integers, ties to even, of numbers below 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
    #[inline(always)]
    pub(super) fn round(self) -> Self {
        let big = Self::splat(12_582_912.0);
        (self + big) - big
    }

    /// `1 / self`, or zero where that is not finite.
    pub(super) fn inverse(self) -> Self {
        Self(self.0.map(|value| {
            let inverse = 1.0 / value;
            if inverse.is_finite() { inverse } else { 0.0 }
        }))
    }

    /// `self / other`, or zero where `other` is not positive.
    pub(super) fn over(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > 0.0 { a / b } else { 0.0 })
    }
}

macro_rules! lanewise {
    ($($trait:ident $method:ident $op:tt),+) => {
        $(impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        })+
    };
}
lanewise!(Add add +, Sub sub -, Mul mul *, Div div /);

/// Four groups of `N` elements, and the importance of each element.
pub(super) struct Tile<const N: usize> {
    pub(super) x: [Lanes; N],
    pub(super) w: [Lanes; N],
}

/// `4 * T` groups of `N` elements, scaled by a power of two so that the largest magnitude is at least 0.5 and below 1:
/// no sum of squares overflows or vanishes, whatever the values.
pub(in crate::codec) struct Block<const N: usize, const T: usize> {
    pub(super) tiles: [Tile<N>; T],
    /// What the values were divided by.
    pub(super) unit: f64,
}

/// Added to the importance of every column, as a part of the block's mean. What is measured on some text is zero for many a
/// column that other texts use, and a search that believed it would give up their values for the least gain elsewhere.
const LEAST_IMPORTANCE: f64 = 0.05;

impl<const N: usize, const T: usize> Block<N, T> {
    /// Takes `4 * T * N` finite values, group after group; `importance` is as long, finite and not negative.
    pub(in crate::codec) fn new(values: &[f32], importance: Option<&[f32]>) -> Self {
        let unit = unit_of(values);
        let weights = Weights::new(importance);
        let tiles = from_fn(|t| {
            let element = |j: usize, l: usize| (t * LANES + l) * N + j;
            Tile {
                x: from_fn(|j| Lanes::each(|l| in_units(values[element(j, l)], unit))),
                w: from_fn(|j| Lanes::each(|l| weights.of(element(j, l)))),
            }
        });
        Self { tiles, unit }
    }
}

/// Up to four blocks that are groups by themselves, each with a unit of its own. Lanes to spare hold zeros.
pub(in crate::codec) struct Singles<const N: usize> {
    pub(super) tile: Tile<N>,
    pub(super) units: [f64; LANES],
}

impl<const N: usize> Singles<N> {
    /// Takes up to four times `N` finite values; `importance` is as long, finite and not negative.
    pub(in crate::codec) fn new(values: &[f32], importance: Option<&[f32]>) -> Self {
        let mut this = Self { tile: Tile { x: [Lanes::ZERO; N], w: [Lanes::splat(1.0); N] }, units: [1.0; LANES] };
        for (l, block) in values.as_chunks::<N>().0.iter().enumerate() {
            let weights = Weights::new(importance.map(|w| &w[l * N..(l + 1) * N]));
            this.units[l] = unit_of(block);
            for (j, &value) in block.iter().enumerate() {
                this.tile.x[j].0[l] = in_units(value, this.units[l]);
                this.tile.w[j].0[l] = weights.of(j);
            }
        }
        this
    }
}

/// Importance, relative to the mean.
struct Weights<'a> {
    importance: Option<&'a [f32]>,
    mean: f64,
}

impl<'a> Weights<'a> {
    fn new(importance: Option<&'a [f32]>) -> Self {
        let mean = importance.map_or(0.0, |w| w.iter().map(|&w| f64::from(w)).sum::<f64>() / w.len() as f64);
        // Where nothing matters, everything matters alike.
        Self { importance: importance.filter(|_| mean > 0.0), mean }
    }

    fn of(&self, i: usize) -> f32 {
        self.importance.map_or(1.0, |w| (f64::from(w[i]) / self.mean + LEAST_IMPORTANCE) as f32)
    }
}

fn largest_magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, value| if value.abs() > max { value.abs() } else { max })
}

/// The power of two that brings the largest magnitude to at least 0.5 and below 1.
fn unit_of(values: &[f32]) -> f64 {
    power_of_two_above(largest_magnitude(values))
}

/// `value / unit`; by way of f64, where no power of two and none of their inverses is out of range.
fn in_units(value: f32, unit: f64) -> f32 {
    (f64::from(value) * (1.0 / unit)) as f32
}

/// The power of two that `value` divided by is at least 0.5 and below 1; one for zero.
fn power_of_two_above(value: f32) -> f64 {
    if value == 0.0 {
        return 1.0;
    }
    // Every f32 is a normal f64.
    let exponent = f64::from(value).to_bits() >> 52;
    f64::from_bits((exponent + 1) << 52)
}

/// The numbers that the codes of a dtype stand for, and where the search for a group's scale begins.
pub(in crate::codec) trait Levels {
    /// For groups without a minimum: what the value of largest magnitude may become, as numbers on the scale of the levels.
    const EXTREMES: &'static [f32] = &[];
    /// For groups with a minimum: how far below the lowest level the smallest value may lie, and above the highest level
    /// the largest, in steps between levels. Codes stop there: a coarser range that holds all values is not always best.
    const BELOW: &'static [f32] = &[];
    const ABOVE: &'static [f32] = &[];
    /// Steps between the lowest and the highest level, where they are even.
    const SPAN: f32 = 0.0;

    /// The level next to each number.
    fn nearest(v: Lanes) -> Lanes;

    /// The code of a level.
    fn code(level: f32) -> u8;
}

/// Integers from `-HALF` to `HALF - 1`; a code is the integer plus `HALF`.
pub(in crate::codec) struct Signed<const HALF: i16>;

/// Integers from zero to `HIGHEST`, which are their own codes.
pub(in crate::codec) struct Unsigned<const HIGHEST: i16>;

/// The uneven numbers of the IQ4 types.
pub(in crate::codec) struct Iq4Levels;

impl<const HALF: i16> Levels for Signed<HALF> {
    const EXTREMES: &'static [f32] = match HALF {
        4 => &[-6.0, -5.2, -4.7, -4.4, -4.1, -3.8, -3.5, -3.2, -2.9, -2.6, 5.0, 4.3, 3.8, 3.4, 3.0, 2.6],
        8 => &[-11.0, -9.8, -9.0, -8.5, -8.1, -7.8, -7.5, -7.1, -6.7, 9.4, 8.4, 7.9, 7.5, 7.1, 6.7],
        16 => &[-22.0, -19.5, -18.0, -17.0, -16.4, -16.0, -15.6, -15.1, -14.6, 18.5, 17.0, 16.0, 15.5, 15.0, 14.5],
        _ => &[-42.0, -38.0, -35.5, -34.0, -33.0, -32.4, -31.9, -31.4, -30.9, -30.4, -29.9, -29.4],
    };

    #[inline(always)]
    fn nearest(v: Lanes) -> Lanes {
        v.clamp(-f32::from(HALF), f32::from(HALF - 1)).round()
    }

    fn code(level: f32) -> u8 {
        (level + f32::from(HALF)) as u8
    }
}

impl<const HIGHEST: i16> Levels for Unsigned<HIGHEST> {
    const BELOW: &'static [f32] = match HIGHEST {
        3 => &[0.0, 0.4],
        15 => &[-0.1, 0.5, 1.4],
        _ => &[-0.1, 0.6, 1.8],
    };
    const ABOVE: &'static [f32] = match HIGHEST {
        3 => &[-0.7, -0.4, -0.1, 0.2, 0.6],
        15 => &[-0.8, -0.3, 0.2, 0.8, 1.6],
        _ => &[-0.8, -0.3, 0.3, 1.0, 2.2],
    };
    const SPAN: f32 = HIGHEST as f32;

    #[inline(always)]
    fn nearest(v: Lanes) -> Lanes {
        v.clamp(0.0, f32::from(HIGHEST)).round()
    }

    fn code(level: f32) -> u8 {
        level as u8
    }
}

impl Levels for Iq4Levels {
    const EXTREMES: &'static [f32] = &[
        -170.0, -153.0, -143.0, -136.0, -129.0, -123.0, -117.0, -111.0, -105.0, 145.0, 132.0, 123.0, 115.0, 107.0, 99.0,
    ];

    #[inline(always)]
    fn nearest(v: Lanes) -> Lanes {
        let mut level = Lanes::splat(f32::from(IQ4[0]));
        for pair in IQ4.windows(2) {
            let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
            let (middle, step) = ((low + high) / 2.0, high - low);
            level = Lanes(from_fn(|l| level.0[l] + if v.0[l] > middle { step } else { 0.0 }));
        }
        level
    }

    fn code(level: f32) -> u8 {
        IQ4.iter().position(|&number| f32::from(number) == level).expect("one of the sixteen") as u8
    }
}
