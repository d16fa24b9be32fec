//! Log-probabilities of tokens, from the model's own logits.

use crate::log_sum_exp;

/// The log-probability of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// Log-probabilities at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionLogprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// The most probable tokens, by descending logit and ascending id.
    pub top: Vec<TokenLogprob>,
}

/// The log-probability of `chosen` and the `n_top` most probable tokens, from finite logits `[vocab]`.
///
/// They are the model's: before penalty, temperature, cuts and grammar. In binary64: the logit minus [`log_sum_exp`],
/// whose order of operations is fixed.
///
/// # Panics
/// If there are no logits, or `chosen` is not one of them.
pub fn log_probabilities(logits: &[f32], chosen: u32, n_top: usize) -> PositionLogprobs {
    let log_sum = log_sum_exp(logits);
    let of = |id: u32| TokenLogprob { id, logprob: f64::from(logits[id as usize]) - log_sum };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let descending =
        |a: &u32, b: &u32| logits[*b as usize].partial_cmp(&logits[*a as usize]).expect("finite").then(a.cmp(b));
    if n_top < ids.len() {
        ids.select_nth_unstable_by(n_top, descending);
        ids.truncate(n_top);
    }
    ids.sort_unstable_by(descending);
    PositionLogprobs { chosen: of(chosen), top: ids.into_iter().map(of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_known_odds() {
        // 1/2, 1/4, 1/8, 1/8, and a logit so low that it adds nothing.
        let logits = [0.125f32, 0.5, 0.125, 0.25, 0.0].map(|p| if p == 0.0 { -1e30 } else { p.ln() + 7.0 });
        let found = log_probabilities(&logits, 3, 3);
        assert!((found.chosen.logprob - 0.25f64.ln()).abs() < 1e-6, "{found:?}");
        assert_eq!(found.top.iter().map(|top| top.id).collect::<Vec<_>>(), [1, 3, 0], "a tie goes to the lower id");
        for (top, p) in found.top.iter().zip([0.5f64, 0.25, 0.125]) {
            assert!((top.logprob - p.ln()).abs() < 1e-6, "{top:?}");
        }
        assert_eq!(log_probabilities(&logits, 4, 9).top.len(), 5);
        assert!(log_probabilities(&logits, 4, 0).chosen.logprob < -1e29);
    }
}
