//! Rotary position angles.

use std::f64::consts::TAU;

/// How the rotary frequencies `f = theta^(-2 i / rotary_dim)` are changed for contexts longer than a model was first
/// trained for. All arithmetic is in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// As Llama 3.1: a frequency that makes fewer than `low` turns in the original context is divided by `factor`, one
    /// that makes more than `high` is kept, those between are mixed linearly by their number of turns.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// Turns up to which a frequency is divided.
        low: f64,
        /// Turns from which on a frequency is kept.
        high: f64,
        /// Positions of the original context.
        original_context: u32,
    },
    /// YaRN: pairs before the one that makes `beta_fast` turns in the original context keep their frequency, pairs after
    /// the one that makes `beta_slow` turns are divided by `factor`, those between are mixed linearly by their index.
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// Turns of the pair where mixing begins.
        beta_fast: f64,
        /// Turns of the pair where mixing ends.
        beta_slow: f64,
        /// Positions of the original context.
        original_context: u32,
        /// Cosines and sines are multiplied by it; by `0.1 ln(factor) + 1`, for factors above one, where it is absent.
        attention_factor: Option<f64>,
        /// Whether the ends of the mixed range are rounded outwards to whole pairs.
        truncate: bool,
    },
    /// NTK-aware: from `context` positions on, `theta` grows with the number of positions. A position turns by the
    /// frequencies of the context that it ends, so that its key does not depend on what follows. (Transformers gives
    /// these angles when it decodes token by token; its pass over a whole prompt uses those of the prompt's last position
    /// for all, so it depends on how the prompt is cut.)
    Dynamic {
        /// How much `theta` grows.
        factor: f64,
        /// Positions up to which nothing changes.
        context: u32,
    },
}

/// Cosines and sines of the rotary position embedding, for positions `0..n_positions`.
///
/// Pair `i` of a head at position `p` turns by `p * theta^(-2 i / rotary_dim)`, scaled as [`RopeScaling`] says. Angles,
/// cosines and sines are computed in f64 by a pure-Rust library, the same on every system, and rounded to f32 once.
#[derive(Clone, Debug)]
pub struct RopeTable {
    head_dim: usize,
    rotary_dim: usize,
    theta: f64,
    scaling: RopeScaling,
    /// What frequencies are divided by besides; empty where by nothing.
    divisors: Vec<f64>,
    /// Angle per position of each pair, `[rotary_dim / 2]`, at positions where the scaling is not dynamic.
    frequencies: Vec<f64>,
    /// What cosines and sines are multiplied by.
    factor: f64,
    /// `[n_positions, rotary_dim / 2]`
    cos: Vec<f32>,
    /// `[n_positions, rotary_dim / 2]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table for heads of `head_dim` values, of which the first `rotary_dim` turn.
    ///
    /// # Panics
    /// If `rotary_dim` is odd or above `head_dim`.
    pub fn new(head_dim: usize, rotary_dim: usize, theta: f32, scaling: RopeScaling) -> Self {
        assert!(rotary_dim.is_multiple_of(2), "rotary pairs need an even number of values, not {rotary_dim}");
        assert!(rotary_dim <= head_dim, "{rotary_dim} values of a head of {head_dim} turn");
        let theta = f64::from(theta);
        let plain = frequencies(theta, rotary_dim);
        let factor = match scaling {
            RopeScaling::Yarn { attention_factor: Some(stated), .. } => stated,
            RopeScaling::Yarn { factor, .. } if factor > 1.0 => 0.1 * libm::log(factor) + 1.0,
            _ => 1.0,
        };
        let frequencies = scaled(plain, theta, scaling);
        let (divisors, cos, sin) = (Vec::new(), Vec::new(), Vec::new());
        Self { head_dim, rotary_dim, theta, scaling, divisors, frequencies, factor, cos, sin }
    }

    /// The same table with each pair's frequency, already scaled, divided by its element of `divisors`.
    ///
    /// # Panics
    /// If there is not one for each pair.
    pub fn divided_by(mut self, divisors: &[f32]) -> Self {
        assert_eq!(divisors.len(), self.frequencies.len(), "one divisor for each rotary pair");
        assert!(self.cos.is_empty(), "the table was used already");
        self.divisors = divisors.iter().map(|&divisor| f64::from(divisor)).collect();
        divide(&mut self.frequencies, &self.divisors);
        self
    }

    /// Extends the table to at least `n_positions` positions; what it holds stays as it is.
    pub fn grow(&mut self, n_positions: usize) {
        for position in self.n_positions()..n_positions {
            let longer = self.at_length(position + 1);
            for frequency in longer.as_ref().unwrap_or(&self.frequencies) {
                let (sin, cos) = libm::sincos(position as f64 * frequency);
                self.cos.push((cos * self.factor) as f32);
                self.sin.push((sin * self.factor) as f32);
            }
        }
    }

    /// The frequencies of a context of `n_positions`, where they differ from those of a short one.
    fn at_length(&self, n_positions: usize) -> Option<Vec<f64>> {
        match self.scaling {
            RopeScaling::Dynamic { factor, context } if n_positions > context as usize => {
                let growth = factor * n_positions as f64 / f64::from(context) - (factor - 1.0);
                let dim = self.rotary_dim as f64;
                let mut longer = frequencies(self.theta * libm::pow(growth, dim / (dim - 2.0)), self.rotary_dim);
                divide(&mut longer, &self.divisors);
                Some(longer)
            }
            _ => None,
        }
    }

    /// Number of positions the table covers. A table of empty heads covers every position.
    pub fn n_positions(&self) -> usize {
        self.cos.len().checked_div(self.frequencies.len()).unwrap_or(usize::MAX)
    }

    /// Values per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Values per head that turn, the first ones.
    pub fn rotary_dim(&self) -> usize {
        self.rotary_dim
    }

    /// Cosines and sines at `position`, `[rotary_dim / 2]` each.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let n_pairs = self.frequencies.len();
        (&self.cos[position * n_pairs..][..n_pairs], &self.sin[position * n_pairs..][..n_pairs])
    }
}

fn divide(frequencies: &mut [f64], divisors: &[f64]) {
    frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
}

/// `theta^(-2 i / rotary_dim)` of each pair.
fn frequencies(theta: f64, rotary_dim: usize) -> Vec<f64> {
    (0..rotary_dim / 2).map(|pair| libm::pow(theta, -2.0 * pair as f64 / rotary_dim as f64)).collect()
}

/// The frequencies after scaling that does not depend on the position.
fn scaled(plain: Vec<f64>, theta: f64, scaling: RopeScaling) -> Vec<f64> {
    let rotary_dim = 2 * plain.len();
    let each = |f: &dyn Fn(usize, f64) -> f64| plain.iter().enumerate().map(|(pair, plain)| f(pair, *plain)).collect();
    match scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => plain,
        RopeScaling::Linear { factor } => each(&|_, plain| plain / factor),
        RopeScaling::Llama3 { factor, low, high, original_context } => each(&|_, plain| {
            let turns = f64::from(original_context) * plain / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * plain / factor + kept * plain
        }),
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
            // The pair, as a real number, that makes so many turns in the original context.
            let pair_of = |turns: f64| {
                rotary_dim as f64 * libm::log(f64::from(original_context) / (turns * TAU)) / (2.0 * libm::log(theta))
            };
            let (mut first, mut last) = (pair_of(beta_fast), pair_of(beta_slow));
            if truncate {
                (first, last) = (libm::floor(first), libm::ceil(last));
            }
            let (first, mut last) = (first.max(0.0), last.min(rotary_dim as f64 - 1.0));
            if first == last {
                last += 0.001;
            }
            each(&|pair, plain| {
                let divided = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                plain / factor * divided + plain * (1.0 - divided)
            })
        }
    }
}
