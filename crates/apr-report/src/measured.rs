//! What every report of a measurement has in common: where it was made, its figures and their spread, its rooflines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number that was measured, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// The number; null where there is none.
    pub value: Option<f64>,
    /// Why there is none; null where there is one.
    pub absent: Option<String>,
}

impl Figure {
    /// A measured number. What is not finite counts as absent.
    pub fn of(value: f64) -> Self {
        if value.is_finite() { Self { value: Some(value), absent: None } } else { Self::absent("not a finite number") }
    }

    /// No number, and the reason.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self { value: None, absent: Some(reason.into()) }
    }
}

/// Several measurements of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What measured, on which machine, in which state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// Version of `apr`.
    pub version: String,
    /// `release`, or `debug` for a build whose figures say little.
    pub build: String,
    /// Name of the numerics (`exact`).
    pub numerics: String,
    /// Instruction set used (`scalar`, `avx2`, …).
    pub isa: String,
    /// What the processor calls itself.
    pub cpu: String,
    /// Processes that ran or waited to run, averaged over the minute before the measurement.
    pub load_average: Figure,
}

/// The two limits that no pass can exceed, measured with the instructions and threads of the measurement itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rooflines {
    /// Threads.
    pub threads: usize,
    /// Bytes per second that all threads together read in streams.
    pub read_bytes_per_second: Figure,
    /// What was read: the model's own weights, and how many bytes of them.
    pub read_from: String,
    /// Multiply-adds in binary32 per second, on registers alone.
    pub multiply_adds_per_second: Figure,
}

/// A time beside the least that the rooflines allow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RooflineShare {
    /// Bytes that have to be read: weights, and the cache of the positions seen.
    pub n_bytes: u64,
    /// Multiply-adds of products and attention.
    pub n_multiply_adds: u64,
    /// Time of the bytes at the read roofline, of the time taken.
    pub bytes_percent: f64,
    /// Time of the multiply-adds at their roofline, of the time taken.
    pub multiply_adds_percent: f64,
    /// The greater of the two: the share of what this machine can do at best, unless `exceeds`.
    pub percent: f64,
    /// Which one that is.
    pub bound: RooflineBound,
    /// Whether the work was faster than its roofline, which no share can be: the probe saw less of the machine than the
    /// work did, because another process ran beside it or because the work read from a nearer cache.
    pub exceeds: bool,
}

/// What limits a piece of work at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RooflineBound {
    /// Reading memory.
    Bytes,
    /// Multiplying and adding.
    MultiplyAdds,
}

impl RooflineBound {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            RooflineBound::Bytes => "bytes",
            RooflineBound::MultiplyAdds => "FMA",
        }
    }
}

impl Rooflines {
    /// The better of two probes of the same thing: other processes can only make one slower.
    pub fn best(self, again: Rooflines) -> Rooflines {
        let best = |a: Figure, b: Figure| if b.value > a.value { b } else { a };
        Rooflines {
            read_bytes_per_second: best(self.read_bytes_per_second, again.read_bytes_per_second),
            multiply_adds_per_second: best(self.multiply_adds_per_second, again.multiply_adds_per_second),
            ..self
        }
    }

    /// What work that took `elapsed_ms` reached of them; `None` without work, without time, or without a roofline.
    pub fn share(&self, n_bytes: u64, n_multiply_adds: u64, elapsed_ms: f64) -> Option<RooflineShare> {
        let read = self.read_bytes_per_second.value?;
        let compute = self.multiply_adds_per_second.value?;
        if n_bytes + n_multiply_adds == 0 || elapsed_ms <= 0.0 {
            return None;
        }
        let percent = |n: u64, per_second: f64| 100.0 * (n as f64 / per_second) / (elapsed_ms / 1e3);
        let (bytes_percent, multiply_adds_percent) = (percent(n_bytes, read), percent(n_multiply_adds, compute));
        let (percent, bound) = if bytes_percent >= multiply_adds_percent {
            (bytes_percent, RooflineBound::Bytes)
        } else {
            (multiply_adds_percent, RooflineBound::MultiplyAdds)
        };
        let exceeds = percent > 100.0;
        Some(RooflineShare { n_bytes, n_multiply_adds, bytes_percent, multiply_adds_percent, percent, bound, exceeds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooflines(read: Figure, multiply_adds: f64) -> Rooflines {
        Rooflines {
            threads: 2,
            read_bytes_per_second: read,
            read_from: "the model's weights".to_owned(),
            multiply_adds_per_second: Figure::of(multiply_adds),
        }
    }

    #[test]
    fn the_nearer_roofline_binds() {
        let mut rooflines = rooflines(Figure::of(20e9), 100e9);
        // 0.4 GB take 20 ms at best, 1 G multiply-adds 10 ms.
        let decode = rooflines.share(400_000_000, 1_000_000_000, 40.0).unwrap();
        assert_eq!((decode.percent, decode.bound), (50.0, RooflineBound::Bytes));
        assert_eq!(decode.multiply_adds_percent, 25.0);
        let prefill = rooflines.share(400_000_000, 64_000_000_000, 800.0).unwrap();
        assert_eq!((prefill.percent, prefill.bound), (80.0, RooflineBound::MultiplyAdds));
        assert_eq!(rooflines.share(0, 0, 1.0), None);
        assert_eq!(rooflines.share(1, 1, 0.0), None);
        rooflines.read_bytes_per_second = Figure::absent("nothing to read");
        assert_eq!(rooflines.share(1, 1, 1.0), None);
    }

    /// As it happened: another process had one of two cores while the probe ran, and none while the work did.
    #[test]
    fn a_probe_that_saw_less_is_made_up_for_or_told() {
        let (half, whole) = (rooflines(Figure::of(26e9), 88e9), rooflines(Figure::of(13e9), 177e9));
        let share = |rooflines: &Rooflines| rooflines.share(1, 150_000_000_000, 1e3).unwrap();
        assert!(share(&half).exceeds && share(&half).percent > 170.0);
        let best = rooflines(Figure::of(26e9), 177e9);
        assert_eq!(half.clone().best(whole.clone()), best);
        assert_eq!(whole.best(half), best);
        assert!(!share(&best).exceeds && share(&best).percent < 85.0);
        assert!(!best.share(0, 177_000_000_000, 1e3).unwrap().exceeds, "all of it is a share");

        let absent = rooflines(Figure::absent("nothing to read"), 177e9);
        assert_eq!(absent.clone().best(best.clone()), best);
        assert_eq!(absent.clone().best(absent.clone()), absent);
    }

    #[test]
    fn a_figure_is_a_number_or_a_reason() {
        for not_finite in [f64::NAN, f64::INFINITY] {
            assert_eq!(Figure::of(not_finite), Figure::absent("not a finite number"));
        }
        assert_eq!(serde_json::to_string(&Figure::absent("why")).unwrap(), r#"{"value":null,"absent":"why"}"#);
    }
}
