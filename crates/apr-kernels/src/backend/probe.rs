//! The two rooflines, measured on the spot: how fast this backend's threads can read memory, and how fast its
//! instruction set can multiply and add. No product with a matrix can be faster than either.
//!
//! Each probe makes passes over the same work until [`BUDGET`] is spent and keeps the best one, because other processes
//! can only make a pass slower.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Backend;

/// Sums that [`KernelSet::count_up`](crate::KernelSet) takes at least: 24 chains of sixteen, the most that any
/// instruction set runs side by side.
pub(crate) const PROBE_SUMS: usize = 24 * 16;

/// How long a probe goes on.
const BUDGET: Duration = Duration::from_millis(300);
/// A pass of the multiply-add probe takes at least so long, so that handing out tasks does not count.
const PASS: Duration = Duration::from_millis(5);
/// Tasks of a multiply-add pass for each thread, so that a thread that starts late holds up little.
const TASKS_PER_THREAD: usize = 16;
/// Bytes that one task reads; short enough to share work evenly, long enough to be a stream.
const READ_TASK_BYTES: usize = 1 << 20;
/// The most bytes of a pass: four times as much as the largest caches, and read in a tenth of a second.
const READ_PASS_BYTES: usize = 1 << 30;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Bytes, or multiply-adds, of one pass.
    pub n_per_pass: u64,
    /// Wall time of the best pass.
    pub best_pass: Duration,
    /// Number of passes.
    pub n_passes: u32,
}

impl Probe {
    /// Bytes, or multiply-adds, per second of the best pass.
    pub fn per_second(&self) -> f64 {
        self.n_per_pass as f64 / self.best_pass.as_secs_f64()
    }

    /// Repeats `pass`, which takes some time at least, until the budget is spent; two passes are the fewest, the first of
    /// which finds caches and clocks cold.
    fn best_of(n_per_pass: u64, mut pass: impl FnMut()) -> Self {
        let started = Instant::now();
        let mut probe = Self { n_per_pass, best_pass: Duration::MAX, n_passes: 0 };
        while probe.n_passes < 2 || started.elapsed() < BUDGET {
            let start = Instant::now();
            pass();
            probe.best_pass = probe.best_pass.min(start.elapsed());
            probe.n_passes += 1;
        }
        probe.best_pass = probe.best_pass.max(Duration::from_nanos(1));
        probe
    }
}

impl Backend {
    /// Bytes per second that all threads together read from `parts`, at most the first GiB of them, one stream per task.
    /// What fits into a cache is read from it, as a decoder would. `None` where there is nothing to read.
    pub fn probe_read(&self, parts: &[&[u8]]) -> Option<Probe> {
        let tasks = read_tasks(parts);
        let n_bytes: usize = tasks.iter().map(|(_, range)| range.len()).sum();
        (n_bytes > 0).then(|| {
            Probe::best_of(n_bytes as u64, || {
                std::hint::black_box(self.read_all(parts, &tasks));
            })
        })
    }

    /// Multiply-adds per second of all threads together: independent chains of `sum = fma(sum, 1, 1)` in registers.
    pub fn probe_multiply_adds(&self) -> Probe {
        let n_tasks = TASKS_PER_THREAD * self.n_threads();
        let mut n_steps = 1;
        loop {
            let start = Instant::now();
            self.count_up(n_tasks, n_steps);
            if start.elapsed() >= PASS || n_steps >= MOST_STEPS {
                break;
            }
            n_steps *= 2;
        }
        Probe::best_of((n_tasks * PROBE_SUMS * n_steps) as u64, || self.count_up(n_tasks, n_steps))
    }

    /// The wrapping sum of the words of each task's range.
    fn read_all(&self, parts: &[&[u8]], tasks: &[(usize, Range<usize>)]) -> u32 {
        let total = AtomicU32::new(0);
        self.pool.run(tasks.len(), &|i| {
            let (part, range) = &tasks[i];
            let mut sum = 0;
            // SAFETY: holding the set proves its instructions.
            unsafe { (self.set.read_words)(&parts[*part][range.clone()], &mut sum) }
            total.fetch_add(sum, Ordering::Relaxed);
        });
        total.into_inner()
    }

    /// # Panics
    /// If a sum is not the number of steps: then something else than the steps was timed.
    fn count_up(&self, n_tasks: usize, n_steps: usize) {
        self.pool.run(n_tasks, &|_| {
            let mut sums = [0.0f32; PROBE_SUMS];
            // SAFETY: holding the set proves its instructions; there are as many sums as it asks for.
            unsafe { (self.set.count_up)(n_steps, &mut sums) }
            assert!(sums.iter().all(|&sum| sum == n_steps as f32), "{n_steps} steps of counting up gave {sums:?}");
        });
    }
}

/// Numbers up to here are exact, and so is their successor.
const MOST_STEPS: usize = 1 << 23;

/// Part and range of each task, over the first [`READ_PASS_BYTES`] of `parts`.
fn read_tasks(parts: &[&[u8]]) -> Vec<(usize, Range<usize>)> {
    let (mut tasks, mut left) = (Vec::new(), READ_PASS_BYTES);
    for (part, bytes) in parts.iter().enumerate() {
        let len = bytes.len().min(left);
        left -= len;
        tasks.extend((0..len).step_by(READ_TASK_BYTES).map(|start| (part, start..len.min(start + READ_TASK_BYTES))));
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelSet;

    fn backends() -> Vec<Backend> {
        let sets = KernelSet::available();
        sets.into_iter().flat_map(|set| [1, 3].map(|n_threads| Backend::new(set, n_threads))).collect()
    }

    /// Gauss: the words are 0, 1, …, so their sum is known without reading them.
    #[test]
    fn every_word_is_read_once() {
        for backend in backends() {
            for n_words in [0u32, 1, 15, 64, 65, 1000, 3 * 262_144 + 7] {
                let bytes: Vec<u8> = (0..n_words).flat_map(u32::to_le_bytes).collect();
                let expected = ((u64::from(n_words) * u64::from(n_words.saturating_sub(1)) / 2) & 0xffff_ffff) as u32;
                let parts = [&bytes[..], &[]];
                assert_eq!(backend.read_all(&parts, &read_tasks(&parts)), expected, "{backend:?} {n_words}");
                let twice = [&bytes[..], &bytes[..]];
                let doubled = expected.wrapping_mul(2);
                assert_eq!(backend.read_all(&twice, &read_tasks(&twice)), doubled, "{backend:?} {n_words}");
            }
        }
    }

    #[test]
    fn counting_up_is_checked_while_it_is_timed() {
        for backend in backends() {
            backend.count_up(5, 1000);
            let probe = backend.probe_multiply_adds();
            assert!(probe.n_passes >= 2 && probe.per_second() > 0.0, "{backend:?}: {probe:?}");
            assert!(probe.n_per_pass.is_multiple_of((PROBE_SUMS * TASKS_PER_THREAD) as u64));
        }
    }

    #[test]
    fn nothing_to_read_has_no_rate() {
        let backend = &backends()[0];
        assert_eq!(backend.probe_read(&[]), None);
        assert_eq!(backend.probe_read(&[&[]]), None);
        let probe = backend.probe_read(&[&[1; 100]]).unwrap();
        assert_eq!((probe.n_per_pass, probe.n_passes >= 2), (100, true));
    }
}
