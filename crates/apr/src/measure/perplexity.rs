//! The likelihood of each token of a text, by one model or by two.

use super::{Stopped, unless_interrupted};
use apr_engine::{Model, Session, SessionOptions, kl_divergence, most_likely, negative_log_likelihood};

/// How a text is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Tokens of a window, at least 2.
    pub(crate) window: usize,
    /// Tokens from the start of a window to the start of the next, at most a window.
    pub(crate) stride: usize,
}

/// Tokens `start..end` in an empty context, of which `first_scored..end` are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: usize,
    first_scored: usize,
    end: usize,
}

impl Cut {
    /// The windows of `n` tokens: a token is scored in the first window in which it is not the first.
    fn windows(self, n: usize) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        let mut scored_until = 0;
        for start in (0..n).step_by(self.stride) {
            let end = n.min(start + self.window);
            let first_scored = scored_until.max(start + 1);
            if first_scored < end {
                windows.push(Window { start, first_scored, end });
            }
            scored_until = end;
            if end == n {
                break;
            }
        }
        windows
    }
}

/// What the models said, token by token; all lists are equally long.
#[derive(Default)]
pub(crate) struct Scores {
    pub(crate) n_windows: usize,
    /// Whether the user asked to stop before the last token.
    pub(crate) interrupted: bool,
    /// Place in the text, ascending.
    pub(crate) positions: Vec<usize>,
    /// Negative log-likelihood in nats.
    pub(crate) nll: Vec<f64>,
    /// What the reference said; empty without one.
    pub(crate) reference: ReferenceScores,
}

#[derive(Default)]
pub(crate) struct ReferenceScores {
    /// Negative log-likelihood in nats.
    pub(crate) nll: Vec<f64>,
    /// KL(reference ‖ model) in nats.
    pub(crate) kl: Vec<f64>,
    /// Positions with the same most likely token.
    pub(crate) n_same_top: usize,
    /// Positions with the same bits.
    pub(crate) n_bits_equal: usize,
}

impl Scores {
    fn add(&mut self, position: usize, id: u32, logits: &[f32], reference: Option<&[f32]>) {
        self.positions.push(position);
        self.nll.push(negative_log_likelihood(logits, id));
        if let Some(reference) = reference {
            let scores = &mut self.reference;
            scores.nll.push(negative_log_likelihood(reference, id));
            scores.kl.push(kl_divergence(reference, logits));
            scores.n_same_top += usize::from(most_likely(reference) == most_likely(logits));
            let same = reference.iter().zip(logits).all(|(a, b)| a.to_bits() == b.to_bits());
            scores.n_bits_equal += usize::from(same);
        }
    }
}

/// Scores `ids`; both models have the same vocabulary size and take windows of this length. `progress` hears how many
/// tokens of how many are done. Interrupted, it gives the scores that were taken, if any.
pub(crate) fn score(
    model: &Model,
    reference: Option<&Model>,
    options: SessionOptions,
    ids: &[u32],
    cut: Cut,
    mut progress: impl FnMut(usize, usize),
) -> Result<Scores, Stopped> {
    let mut session = Session::new(model, options)?;
    let mut reference = reference.map(|model| Session::new(model, options)).transpose()?;
    let windows = cut.windows(ids.len());
    let mut scores = Scores { n_windows: windows.len(), ..Scores::default() };
    for Window { start, first_scored, end } in windows {
        // The logits after token i are those that token i + 1 is judged by.
        let (context, judged) = (&ids[start..first_scored - 1], &ids[first_scored - 1..end - 1]);
        for session in [Some(&mut session), reference.as_mut()].into_iter().flatten() {
            session.truncate(0);
            if !context.is_empty() {
                session.prefill(context)?;
            }
        }
        for piece in judged.chunks(options.chunk_tokens.get()) {
            if unless_interrupted().is_err() {
                if scores.nll.is_empty() {
                    return Err(Stopped::Interrupted);
                }
                scores.interrupted = true;
                return Ok(scores);
            }
            let n_held = session.tokens().len();
            let reference_logits = reference.as_mut().map(|reference| reference.forward_all(piece)).transpose()?;
            session.prefill_each(piece, |position, logits| {
                let reference = reference_logits.as_ref();
                let reference = reference.map(|all| &all[(position - n_held) * logits.len()..][..logits.len()]);
                let judged = start + position + 1;
                scores.add(judged, ids[judged], logits, reference);
            })?;
            progress(start + session.tokens().len() + 1, ids.len());
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token but the first is scored exactly once, with as much context as the cut promises.
    #[test]
    fn windows_score_each_token_once() {
        for n in 0..40 {
            for window in 2..12 {
                for stride in 1..=window {
                    let windows = Cut { window, stride }.windows(n);
                    let scored: Vec<_> = windows.iter().flat_map(|w| w.first_scored..w.end).collect();
                    assert!(scored.is_sorted_by(|a, b| a < b), "{n} {window} {stride}: {windows:?}");
                    assert!(windows.iter().all(|w| w.end - w.start <= window && w.first_scored > w.start));
                    let expected: Vec<_> = (1..n).filter(|i| stride < window || i % window != 0).collect();
                    assert_eq!(scored, expected, "{n} {window} {stride}: {windows:?}");
                    // After the first window a token sees at least what the windows share.
                    let least = windows.iter().skip(1).map(|w| w.first_scored - w.start).min();
                    assert!(least.is_none_or(|least| least >= (window - stride).max(1)), "{n} {window} {stride}");
                }
            }
        }
    }
}
