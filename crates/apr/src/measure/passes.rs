//! Timed passes over random tokens.

use super::{Stopped, unless_interrupted};
use apr_engine::Session;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// When a call to the session began, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) start: Instant,
    pub(crate) elapsed: Duration,
}

impl Timed {
    pub(crate) fn ms(&self) -> f64 {
        millis(self.elapsed)
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `n` ids below `vocab_size`, the same for the same seed.
pub(crate) fn random_ids(seed: u64, n: usize, vocab_size: u32) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The high half of a product is uniform enough, and never out of range.
    (0..n).map(|_| ((u64::from(rng.next_u32()) * u64::from(vocab_size)) >> 32) as u32).collect()
}

/// Adds `ids` to the context as one prompt.
pub(crate) fn feed(session: &mut Session<'_>, ids: &[u32]) -> Result<(), Stopped> {
    unless_interrupted()?;
    let n_fed = session.prefill_until(ids, || unless_interrupted().is_err())?;
    if n_fed == ids.len() { Ok(()) } else { Err(Stopped::Interrupted) }
}

/// Feeds `ids` as one prompt, `n_warmup` times and then `n_passes` times, each after what the context holds now.
/// Interrupted, it gives the passes that were done, if any.
pub(crate) fn prefill(
    session: &mut Session<'_>,
    ids: &[u32],
    n_warmup: usize,
    n_passes: usize,
) -> Result<Vec<Timed>, Stopped> {
    timed_passes(session, n_warmup, n_passes, |session| {
        let start = Instant::now();
        feed(session, ids)?;
        Ok(Timed { start, elapsed: start.elapsed() })
    })
}

/// Feeds `ids` one by one, `n_warmup` times and then `n_passes` times, each after what the context holds now.
/// Interrupted, it gives the passes that were done, if any.
pub(crate) fn decode(
    session: &mut Session<'_>,
    ids: &[u32],
    n_warmup: usize,
    n_passes: usize,
) -> Result<Vec<Vec<Timed>>, Stopped> {
    timed_passes(session, n_warmup, n_passes, |session| {
        let token = |&id| {
            unless_interrupted()?;
            let start = Instant::now();
            session.decode(id)?;
            Ok(Timed { start, elapsed: start.elapsed() })
        };
        ids.iter().map(token).collect()
    })
}

fn timed_passes<T>(
    session: &mut Session<'_>,
    n_warmup: usize,
    n_passes: usize,
    mut pass: impl FnMut(&mut Session<'_>) -> Result<T, Stopped>,
) -> Result<Vec<T>, Stopped> {
    let depth = session.tokens().len();
    let mut passes = Vec::new();
    for index in 0..n_warmup + n_passes {
        session.truncate(depth);
        match pass(session) {
            Ok(pass) if index >= n_warmup => passes.push(pass),
            Ok(_) => {}
            Err(Stopped::Interrupted) if !passes.is_empty() => break,
            Err(stopped) => return Err(stopped),
        }
    }
    session.truncate(depth);
    Ok(passes)
}

/// The time of a pass of single tokens.
pub(crate) fn total_ms(tokens: &[Timed]) -> f64 {
    tokens.iter().map(Timed::ms).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_in_range_and_repeatable() {
        let ids = random_ids(7, 10_000, 100);
        assert_eq!(ids, random_ids(7, 10_000, 100));
        assert_ne!(ids, random_ids(8, 10_000, 100));
        let (least, greatest) = (ids.iter().min(), ids.iter().max());
        assert_eq!((least, greatest), (Some(&0), Some(&99)));
        assert_eq!(random_ids(7, 3, 1), [0, 0, 0]);
    }
}
