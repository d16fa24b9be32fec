//! Medians, percentiles and errors of samples.

use apr_report::{Figure, Latency, Spread};

/// Samples that a 99th percentile needs: with fewer it would be the greatest of them under another name.
pub(crate) const P99_SAMPLES: usize = 100;

/// Median, least and greatest; `None` without samples.
pub(crate) fn spread(samples: &[f64]) -> Option<Spread> {
    let sorted = sorted(samples);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Spread { median, min, max })
}

/// The least sample that at least `percent` of 100 of them do not exceed (the nearest rank); `None` without samples.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    sorted(samples).get(rank - 1).copied()
}

/// Arithmetic mean, added in order; NaN without samples.
pub(crate) fn mean(samples: &[f64]) -> f64 {
    samples.iter().fold(0.0, |sum, sample| sum + sample) / samples.len() as f64
}

/// Standard error of the mean of independent samples.
pub(crate) fn standard_error(samples: &[f64]) -> Figure {
    if samples.len() < 2 {
        return Figure::absent(format!("a standard error needs 2 samples, have {}", samples.len()));
    }
    let mean = mean(samples);
    let squares = samples.iter().fold(0.0, |sum, sample| sum + (sample - mean) * (sample - mean));
    Figure::of((squares / (samples.len() - 1) as f64 / samples.len() as f64).sqrt())
}

/// Percentiles of the time of single tokens, from raw samples.
pub(crate) fn latency(samples_ms: &[f64]) -> Latency {
    let n = samples_ms.len();
    let p99_ms = match percentile(samples_ms, 99) {
        Some(p99) if n >= P99_SAMPLES => Figure::of(p99),
        _ => Figure::absent(format!("p99 needs ≥ {P99_SAMPLES} samples, have {n}")),
    };
    let p50_ms = percentile(samples_ms, 50).map_or_else(|| Figure::absent("p50 needs a sample, have none"), Figure::of);
    Latency { n_samples: n as u64, p50_ms, p99_ms }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_of_known_samples() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        // 100, 99, …, 1: the nearest rank of p percent is p.
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for percent in [1, 50, 99, 100] {
            assert_eq!(percentile(&hundred, percent), Some(percent as f64));
        }
        assert_eq!(percentile(&[7.0], 50), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_standard_error_of_known_samples() {
        // 1, 2, 3, 4: variance 5/3, over 4 samples.
        let found = standard_error(&[1.0, 2.0, 3.0, 4.0]).value.unwrap();
        assert!((found - (5.0f64 / 12.0).sqrt()).abs() < 1e-15);
        assert_eq!(standard_error(&[1.0]).value, None);
    }

    #[test]
    fn a_99th_percentile_needs_a_hundred_samples() {
        let few = latency(&[1.0; 99]);
        assert_eq!((few.p50_ms.value, few.p99_ms.value), (Some(1.0), None));
        assert_eq!(few.p99_ms.absent.as_deref(), Some("p99 needs ≥ 100 samples, have 99"));
        assert_eq!(latency(&[1.0; 100]).p99_ms.value, Some(1.0));
        assert_eq!(latency(&[]).p50_ms.value, None);
    }
}
