//! A small pool of threads that take tasks by number.
//!
//! A call hands out the numbers `0..n_tasks`; the caller works along with the pool's threads and returns when all
//! tasks are done. Which thread runs which task is left to chance, so a task must not depend on it; every task here
//! computes its own outputs and nothing else. Between calls a thread looks for the next call for [`SPIN`], because a
//! decoder issues hundreds of short calls per token, and then sleeps: an idle process leaves every core idle.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread without work keeps looking before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// A call in progress. The closure lives on the caller's stack; see [`Pool::run`] for why it outlives its use.
#[derive(Clone, Copy)]
struct Job {
    task: &'static (dyn Fn(usize) + Sync),
    n_tasks: usize,
}

#[derive(Default)]
struct State {
    /// The call that threads may join; `None` between calls.
    job: Option<Job>,
    /// Pool threads working on the call.
    n_joined: usize,
    /// The first panic of a task on a pool thread.
    panic: Option<Box<dyn Any + Send>>,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals sleeping threads that a call has come or that the pool stops.
    work: Condvar,
    /// Signals the caller that the last pool thread has left its call.
    left: Condvar,
    /// Counts calls; what a looking thread watches.
    n_calls: AtomicU64,
    /// The next task to hand out.
    next_task: AtomicUsize,
}

impl Shared {
    /// The state. It is consistent whenever the lock is free: tasks, which may panic, run without the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_tasks(&self, job: Job) -> Result<(), Box<dyn Any + Send>> {
        catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task_idx = self.next_task.fetch_add(1, Ordering::Relaxed);
                if task_idx >= job.n_tasks {
                    break;
                }
                (job.task)(task_idx);
            }
        }))
        .inspect_err(|_| self.next_task.store(job.n_tasks, Ordering::Relaxed))
    }

    /// A pool thread's life.
    fn work(&self) {
        let mut n_calls_seen = 0;
        loop {
            let idle_since = Instant::now();
            while self.n_calls.load(Ordering::Acquire) == n_calls_seen && idle_since.elapsed() < SPIN {
                for _ in 0..16 {
                    std::hint::spin_loop();
                }
            }
            let mut state = self.lock();
            while self.n_calls.load(Ordering::Acquire) == n_calls_seen && !state.stopping {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopping {
                return;
            }
            n_calls_seen = self.n_calls.load(Ordering::Acquire);
            let Some(job) = state.job else { continue };
            state.n_joined += 1;
            drop(state);

            let result = self.run_tasks(job);

            let mut state = self.lock();
            state.n_joined -= 1;
            if let Err(panic) = result {
                state.panic.get_or_insert(panic);
            }
            if state.n_joined == 0 {
                self.left.notify_all();
            }
        }
    }
}

/// Threads that share the tasks of one call at a time.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the length of a call, so that callers on several threads take turns.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool in which `n_threads` threads work on a call: the caller and `n_threads - 1` others.
    pub(crate) fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..n_threads)
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("apr-kernels-{i}"))
                    .spawn(move || shared.work())
                    .expect("the system can start a thread per core")
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that work on a call, the caller included.
    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)`, …, `task(n_tasks - 1)`, each once, and returns when all are done. A panic of a task is passed on
    /// to the caller once no thread works on the call any more.
    pub(crate) fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if n_tasks <= 1 || self.workers.is_empty() {
            (0..n_tasks).for_each(task);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. A pool thread gets at the reference through `State::job`, under the lock,
        // and counts itself in `n_joined` before it lets go of the lock. Below, `job` is taken back under the lock and
        // `n_joined` awaited, on every path out of this function (a panic of a task is caught), so no thread holds the
        // reference when the borrow ends.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let job = Job { task, n_tasks };
        {
            let mut state = self.shared.lock();
            self.shared.next_task.store(0, Ordering::Relaxed);
            state.job = Some(job);
            self.shared.n_calls.fetch_add(1, Ordering::Release);
        }
        self.shared.work.notify_all();

        let result = self.shared.run_tasks(job);

        let mut state = self.shared.lock();
        state.job = None;
        while state.n_joined > 0 {
            state = self.shared.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let worker_panic = state.panic.take();
        drop(state);
        drop(turn);
        if let Some(panic) = result.err().or(worker_panic) {
            resume_unwind(panic);
        }
    }

    /// Runs `task(i, chunk i)` for the consecutive chunks of `chunk_len` values of `values`; the last may be shorter.
    pub(crate) fn for_each_chunk<T: Send>(
        &self,
        values: &mut [T],
        chunk_len: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let n_values = values.len();
        let values = Disjoint::new(values);
        self.run(n_values.div_ceil(chunk_len), &|i| {
            let range = i * chunk_len..n_values.min((i + 1) * chunk_len);
            // SAFETY: ranges of different tasks do not overlap, and `run` runs each task once.
            task(i, unsafe { values.part(range) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            worker.join().expect("a pool thread catches the panics of its tasks");
        }
    }
}

/// A mutable slice whose parts go to different tasks.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: all access is through `part`, whose caller vouches that parts in use do not overlap; handing a part to another
// thread sends its values there, hence `T: Send`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Where the slice starts, for parts that are no ranges.
    pub(crate) fn start(&self) -> *mut T {
        self.start
    }

    /// # Safety
    /// No other part in use overlaps `range`.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for disjoint parts")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} values", self.len);
        // SAFETY: the range lies within the slice borrowed for `'a`, and the caller excludes overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for n_threads in [1, 2, 5] {
            let pool = Pool::new(n_threads);
            for n_tasks in [0, 1, 2, 7, 100] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(n_tasks, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{n_threads} {n_tasks}");
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = Pool::new(3);
        for bad in [0, 5, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(64, &|i| assert!(i != bad, "task {bad}"))));
            assert!(result.is_err());
        }
        let mut values = [0; 10];
        pool.for_each_chunk(&mut values, 3, |i, chunk| chunk.fill(i));
        assert_eq!(values, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
    }

    #[test]
    fn threads_sleep_between_calls_and_wake_for_the_next() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            std::thread::sleep(SPIN * 20);
            let mut values = [0; 6];
            pool.for_each_chunk(&mut values, 2, |i, chunk| chunk.fill(i + 1));
            assert_eq!(values, [1, 1, 2, 2, 3, 3]);
        }
    }

    #[test]
    fn several_callers_take_turns() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(4, &|i| {
                            total.fetch_add(i, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 3 * 100 * 6);
    }
}
