//! From logits to a token: greedy, or drawn from a seeded generator.

use crate::TokenSet;
use apr_kernels::Backend;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// How tokens are chosen. The steps run in the order of the fields; each default leaves the logits as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerSpec {
    /// Logits of tokens seen lately are divided by this where positive and multiplied where negative; 1 does nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as seen lately.
    pub repeat_last_n: usize,
    /// 0 takes the highest logit (the lowest id of equals) and draws nothing; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keeps this many of the highest logits; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest tokens, by descending probability, that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this many times as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for SamplerSpec {
    fn default() -> Self {
        Self { repeat_penalty: 1.0, repeat_last_n: 64, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// A sampling parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} is {found}, expected {expected}")]
pub struct SamplerError {
    /// The field of [`SamplerSpec`].
    pub name: &'static str,
    /// Its value.
    pub found: f32,
    /// Its range.
    pub expected: &'static str,
}

impl SamplerSpec {
    /// Takes the highest logit.
    pub const fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks that every parameter is in its range.
    pub fn validate(&self) -> Result<(), SamplerError> {
        let ranges = [
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty <= 100.0,
                "greater than 0 and at most 100",
            ),
            (
                "temperature",
                self.temperature,
                (0.0..=100.0).contains(&self.temperature),
                "0 (greedy) or greater, and at most 100",
            ),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "greater than 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
        ];
        match ranges.into_iter().find(|&(_, found, in_range, _)| !(found.is_finite() && in_range)) {
            Some((name, found, _, expected)) => Err(SamplerError { name, found, expected }),
            None => Ok(()),
        }
    }
}

/// A sampler with the state of its generator.
pub struct Sampler {
    spec: SamplerSpec,
    rng: ChaCha8Rng,
    /// Reused between tokens.
    logits: Vec<f32>,
    keys: Vec<u64>,
    probabilities: Vec<f32>,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers: the ChaCha8 stream whose key is the seed's eight
    /// little-endian bytes followed by zeros, with nonce and counter zero.
    pub fn new(spec: SamplerSpec) -> Result<Self, SamplerError> {
        spec.validate()?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&spec.seed.to_le_bytes());
        let rng = ChaCha8Rng::from_seed(key);
        Ok(Self { spec, rng, logits: Vec::new(), keys: Vec::new(), probabilities: Vec::new() })
    }

    /// What it was made from.
    pub fn spec(&self) -> &SamplerSpec {
        &self.spec
    }

    /// The next token, from finite logits `[vocab]` and the tokens before it.
    ///
    /// Depends on the logits' bits, the tokens and the generator alone: candidates are ordered by descending logit
    /// and ascending id, the softmax is the kernels' own, and sums run in that order in f64.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample(&mut self, backend: &Backend, logits: &[f32], tokens: &[u32]) -> u32 {
        self.sample_allowed(backend, logits, tokens, None).expect("every token is allowed, and there are some")
    }

    /// The next token out of `allowed`, as [`sample`](Self::sample) would take it if there were no others; `None` where
    /// none of them has a logit. Without a set every token is allowed.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample_allowed(
        &mut self,
        backend: &Backend,
        logits: &[f32],
        tokens: &[u32],
        allowed: Option<&TokenSet>,
    ) -> Option<u32> {
        let penalise = self.spec.repeat_penalty != 1.0;
        if penalise {
            self.logits.clear();
            self.logits.extend_from_slice(logits);
            penalise_repeats(&mut self.logits, last_n(tokens, self.spec.repeat_last_n), self.spec.repeat_penalty);
        }
        let logits = if penalise { &self.logits } else { logits };
        let candidates = || logits.iter().zip(0..).filter(|&(_, id)| allowed.is_none_or(|set| set.contains(id)));
        if self.spec.is_greedy() {
            return match allowed {
                None => Some(backend.argmax(logits).expect("a session's logits are finite and not empty") as u32),
                // The first of equals, so that ties go to the lowest id.
                Some(_) => {
                    candidates().reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|best| best.1)
                }
            };
        }

        self.keys.clear();
        self.keys.extend(candidates().map(|(&logit, id)| sort_key(logit, id)));
        if self.keys.is_empty() {
            return None;
        }
        if (1..self.keys.len()).contains(&self.spec.top_k) {
            self.keys.select_nth_unstable(self.spec.top_k);
            self.keys.truncate(self.spec.top_k);
        }
        self.keys.sort_unstable();

        let highest = logits[id_of(self.keys[0])];
        self.probabilities.clear();
        // Relative to the highest and kept finite, so that no temperature makes an infinity minus itself.
        self.probabilities.extend(
            self.keys.iter().map(|&key| ((logits[id_of(key)] - highest) / self.spec.temperature).max(-f32::MAX)),
        );
        backend.softmax(&mut self.probabilities);
        let kept = keep(&self.probabilities, self.spec.top_p, self.spec.min_p);
        let index = draw(&self.probabilities[..kept], unit_interval(self.rng.next_u64()));
        Some(id_of(self.keys[index]) as u32)
    }
}

fn last_n(tokens: &[u32], n: usize) -> &[u32] {
    &tokens[tokens.len().saturating_sub(n)..]
}

/// Penalises each distinct token once.
fn penalise_repeats(logits: &mut [f32], recent: &[u32], penalty: f32) {
    for (index, &id) in recent.iter().enumerate() {
        let Some(logit) = logits.get_mut(id as usize) else { continue };
        if !recent[..index].contains(&id) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// A number whose ascending order is descending logit, then ascending id.
fn sort_key(logit: f32, id: u32) -> u64 {
    // Adding zero makes -0 a 0. Flipping all bits of a negative number and the sign of a positive one orders floats
    // like unsigned integers.
    let bits = (logit + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits ^ (1 << 31) };
    u64::from(!ascending) << 32 | u64::from(id)
}

fn id_of(key: u64) -> usize {
    key as u32 as usize
}

/// How many of the descending `probabilities` stay; at least one.
fn keep(probabilities: &[f32], top_p: f32, min_p: f32) -> usize {
    let mut kept = probabilities.len();
    if top_p < 1.0 {
        let mut sum = 0.0;
        let reached = probabilities.iter().position(|&p| {
            sum += f64::from(p);
            sum >= f64::from(top_p)
        });
        kept = reached.map_or(kept, |index| index + 1);
    }
    let floor = probabilities[0] * min_p;
    kept.min(probabilities.partition_point(|&p| p >= floor)).max(1)
}

/// The index at which the running sum passes `u` times the whole sum; `u` in `[0, 1)`.
fn draw(probabilities: &[f32], u: f64) -> usize {
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let target = u * total;
    let mut sum = 0.0;
    let passed = probabilities.iter().position(|&p| {
        sum += f64::from(p);
        sum > target
    });
    // Rounding of the product can reach the sum; the last token that can be drawn then gets it.
    passed.unwrap_or_else(|| probabilities.iter().rposition(|&p| p > 0.0).unwrap_or(0))
}

/// The upper 53 bits as a number in `[0, 1)`.
fn unit_interval(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First bytes of the ChaCha8 key stream for a 256-bit key and nonce of zeros, from the eSTREAM test vectors.
    #[test]
    fn generator_is_chacha8_with_the_seed_as_key() {
        let mut sampler = Sampler::new(SamplerSpec::default()).unwrap();
        let stream: Vec<u8> = (0..4).flat_map(|_| sampler.rng.next_u64().to_le_bytes()).collect();
        let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e");
    }

    #[test]
    fn candidates_are_ordered_by_descending_logit_then_ascending_id() {
        let logits = [-0.0, 3.5, -2.0, 0.0, 3.5, f32::MIN, -2.0, f32::MAX, 1e-40, -1e-40];
        let mut keys: Vec<_> = logits.iter().zip(0..).map(|(&logit, id)| sort_key(logit, id)).collect();
        keys.sort_unstable();
        assert_eq!(keys.into_iter().map(id_of).collect::<Vec<_>>(), [7, 1, 4, 8, 0, 3, 9, 2, 6, 5]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it_and_min_p_is_relative_to_the_first() {
        let p = [0.5, 0.25, 0.125, 0.125];
        let check = |top_p, min_p, expect| assert_eq!(keep(&p, top_p, min_p), expect, "top_p {top_p} min_p {min_p}");
        check(1.0, 0.0, 4);
        check(0.75, 0.0, 2);
        check(0.76, 0.0, 3);
        check(0.1, 0.0, 1);
        check(1.0, 0.5, 2);
        check(1.0, 0.25, 4);
        check(1.0, 1.0, 1);
        check(0.75, 0.26, 2);
    }

    #[test]
    fn draws_divide_the_unit_interval_by_probability() {
        let p = [0.5, 0.25, 0.25];
        for (u, expect) in [(0.0, 0), (0.49, 0), (0.5, 1), (0.74, 1), (0.75, 2), (unit_interval(u64::MAX), 2)] {
            assert_eq!(draw(&p, u), expect, "{u}");
        }
        assert_eq!(draw(&[0.5, 0.0], unit_interval(u64::MAX)), 0, "an impossible token is never drawn");
        assert_eq!(unit_interval(0), 0.0);
        assert!(unit_interval(u64::MAX) < 1.0);
    }

    #[test]
    fn repeats_are_penalised_once_and_only_within_the_window() {
        let mut logits = [2.0, -2.0, 4.0, 1.0];
        penalise_repeats(&mut logits, last_n(&[3, 0, 1, 0, 9], 4), 2.0);
        assert_eq!(logits, [1.0, -4.0, 4.0, 1.0]);
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let bad = |change: fn(&mut SamplerSpec)| {
            let mut spec = SamplerSpec::default();
            change(&mut spec);
            spec.validate().unwrap_err().name
        };
        assert_eq!(bad(|s| s.temperature = -1.0), "temperature");
        assert_eq!(bad(|s| s.temperature = f32::NAN), "temperature");
        assert_eq!(bad(|s| s.temperature = f32::INFINITY), "temperature");
        assert_eq!(bad(|s| s.top_p = 0.0), "top_p");
        assert_eq!(bad(|s| s.top_p = 1.5), "top_p");
        assert_eq!(bad(|s| s.min_p = -0.1), "min_p");
        assert_eq!(bad(|s| s.repeat_penalty = 0.0), "repeat_penalty");
        assert_eq!(SamplerSpec::default().validate(), Ok(()));
    }
}
