//! What logits say about a token: the sums behind perplexity and divergence, in binary64.
//!
//! Order of operations: the highest logit is found first; `exp(logit - highest)` is added by ascending id, starting from
//! zero; the sum's logarithm is added to the highest logit. `exp` and `log` are those of `libm`, the same on every system.

/// `log Σ exp(logit)`. `logits` is not empty and holds no NaN; the session has seen to both.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum = logits.iter().fold(0.0, |sum, &logit| sum + libm::exp(f64::from(logit) - highest));
    highest + libm::log(sum)
}

/// Negative log-likelihood of a token in nats: `log Σ exp(logit) - logit[id]`.
///
/// # Panics
/// If `id` has no logit.
pub fn negative_log_likelihood(logits: &[f32], id: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[id as usize])
}

/// Kullback-Leibler divergence of `softmax(q)` from `softmax(p)` in nats, `Σ p (log p - log q)`, added by ascending id.
///
/// # Panics
/// If the lengths differ.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    assert_eq!(p.len(), q.len(), "logits over the same vocabulary");
    let (sum_p, sum_q) = (log_sum_exp(p), log_sum_exp(q));
    let divergence = p.iter().zip(q).fold(0.0, |divergence, (&p, &q)| {
        let (log_p, log_q) = (f64::from(p) - sum_p, f64::from(q) - sum_q);
        divergence + libm::exp(log_p) * (log_p - log_q)
    });
    // Rounding can bring the sum of two nearly equal distributions below zero. A NaN stays one.
    if divergence < 0.0 { 0.0 } else { divergence }
}

/// The id of the highest logit, the lowest of equals.
pub fn most_likely(logits: &[f32]) -> Option<u32> {
    let best = (0..logits.len()).reduce(|best, id| if logits[id] > logits[best] { id } else { best })?;
    Some(best as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-7 * expected.abs().max(1.0), "{found}, expected {expected}");
    }

    /// Distributions whose sums are known in closed form; a constant added to all logits changes nothing.
    #[test]
    fn sums_are_those_of_known_distributions() {
        for shift in [0.0f32, 100.0, -3.0e4] {
            let uniform = vec![shift; 1000];
            near(log_sum_exp(&uniform), f64::from(shift) + 1000f64.ln());
            near(negative_log_likelihood(&uniform, 999), 1000f64.ln());
        }
        let halves = [0.5f32, 0.25, 0.125, 0.125].map(f32::ln);
        near(negative_log_likelihood(&halves, 0), 2f64.ln());
        near(negative_log_likelihood(&halves, 3), 8f64.ln());
        // Σ p (log p - log ¼) = log 4 - 1.75 log 2.
        near(kl_divergence(&halves, &[7.0; 4]), 0.25 * 2f64.ln());
        near(kl_divergence(&[7.0; 4], &halves), 0.25 * 2f64.ln());
        assert_eq!(kl_divergence(&halves, &halves), 0.0);
        near(kl_divergence(&[0.0, -1e6], &[0.0, 0.0]), 2f64.ln());
        assert!(kl_divergence(&[f32::NAN, 0.0], &halves[..2]).is_nan());
    }

    #[test]
    fn the_lowest_of_equal_logits_is_the_most_likely() {
        assert_eq!(most_likely(&[]), None);
        assert_eq!(most_likely(&[-1.0, 3.0, 3.0, 2.0]), Some(1));
    }
}
