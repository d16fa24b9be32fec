//! `apr rosetta validate-stats`: do the values of a model look like those of a reference?

use crate::TensorStatistics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the statistics of a model's tensors are from those of a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidateStatsReport {
    /// `apr.validate-stats/1`.
    pub schema: String,
    /// The model.
    pub path: String,
    /// The reference.
    pub reference: String,
    /// The largest deviation that is accepted, in standard deviations of the reference's tensor.
    pub threshold: f64,
    /// Whether each tensor is within the threshold, and both sides have the same tensors.
    pub passed: bool,
    /// Tensors that both have, the largest deviation first.
    pub tensors: Vec<StatsDeviation>,
    /// Tensors that only the reference has.
    pub missing: Vec<String>,
    /// Tensors that only the model has.
    pub unexpected: Vec<String>,
}

/// How far a tensor's statistics are from those of the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsDeviation {
    /// Canonical name.
    pub name: String,
    /// The largest difference of smallest value, largest value, mean and standard deviation, in standard deviations of the
    /// reference; absent where the reference has none to measure by and they differ, or one side has no finite value.
    pub deviation: Option<f64>,
    /// Which of them differs most: `min`, `max`, `mean`, `std`; or `not-finite` or `shape`, which no threshold accepts.
    pub by: Option<String>,
    /// Whether the tensor is within the threshold.
    pub passed: bool,
    /// The model's tensor.
    pub found: TensorStatistics,
    /// The reference's.
    pub expected: TensorStatistics,
}

impl StatsDeviation {
    /// Holds a tensor against the reference's of the same name.
    pub fn between(found: &TensorStatistics, expected: &TensorStatistics, threshold: f64) -> Self {
        let differs = |what: &str| (None, Some(what.to_owned()));
        let (deviation, by) = if found.shape != expected.shape {
            differs("shape")
        } else if (found.nan, found.inf) != (expected.nan, expected.inf) {
            differs("not-finite")
        } else {
            largest(found, expected)
        };
        // Two equal tensors, also without a finite value, have nothing that differs.
        let passed = deviation.map_or(by.is_none(), |deviation| deviation <= threshold);
        Self { name: found.name.clone(), deviation, by, passed, found: found.clone(), expected: expected.clone() }
    }
}

fn largest(found: &TensorStatistics, expected: &TensorStatistics) -> (Option<f64>, Option<String>) {
    let pairs = [
        ("min", found.min, expected.min),
        ("max", found.max, expected.max),
        ("mean", found.mean, expected.mean),
        ("std", found.std, expected.std),
    ];
    let mut worst = (Some(0.0), None);
    for (what, found, expected_value) in pairs {
        let deviation = match (found, expected_value) {
            (None, None) => Some(0.0),
            (Some(a), Some(b)) if a == b => Some(0.0),
            (Some(a), Some(b)) => expected.std.filter(|&std| std > 0.0).map(|std| (a - b).abs() / std),
            _ => None,
        };
        match (deviation, worst.0) {
            (None, _) => return (None, Some(what.to_owned())),
            (Some(deviation), Some(so_far)) if deviation > so_far => worst = (Some(deviation), Some(what.to_owned())),
            _ => {}
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(min: f64, max: f64, mean: f64, std: f64) -> TensorStatistics {
        TensorStatistics {
            name: "w".to_owned(),
            dtype: "F32".to_owned(),
            shape: vec![4, 4],
            n: 16,
            nan: 0,
            inf: 0,
            zero_fraction: 0.0,
            min: Some(min),
            max: Some(max),
            mean: Some(mean),
            std: Some(std),
        }
    }

    #[test]
    fn a_deviation_is_measured_by_the_spread_of_the_reference() {
        let reference = statistics(-1.0, 1.0, 0.0, 0.5);
        let constant = statistics(1.0, 1.0, 1.0, 0.0);
        let nan = TensorStatistics { nan: 1, ..reference.clone() };
        let turned = TensorStatistics { shape: vec![2, 8], ..reference.clone() };
        for (found, expected, deviation, by, passed) in [
            (&reference, &reference, Some(0.0), None, true),
            (&statistics(-1.0, 2.0, 0.0, 0.5), &reference, Some(2.0), Some("max"), true),
            (&statistics(-1.0, 1.0, 0.25, 0.5), &reference, Some(0.5), Some("mean"), true),
            (&statistics(-3.0, 1.0, 0.0, 0.5), &reference, Some(4.0), Some("min"), false),
            (&constant, &constant, Some(0.0), None, true),
            (&reference, &constant, None, Some("min"), false),
            (&nan, &reference, None, Some("not-finite"), false),
            (&turned, &reference, None, Some("shape"), false),
        ] {
            let found = StatsDeviation::between(found, expected, 3.0);
            assert_eq!((found.deviation, found.by.as_deref(), found.passed), (deviation, by, passed));
        }
    }
}
