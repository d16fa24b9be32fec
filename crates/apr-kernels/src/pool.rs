//! A small pool of threads that take tasks by number.
//!
//! A call hands out the numbers `0..n_tasks`; the caller works along with the pool's threads and returns when all
//! tasks are done. Which thread runs which task is left to chance, so a task must not depend on it; every task here
//! computes its own outputs and nothing else. Between calls a thread looks for the next call for [`SPIN`], because a
//! decoder issues hundreds of short calls per token, and then sleeps: an idle process leaves every core idle.
//!
//! A call costs its threads a few atomic operations and, unless one of them sleeps, no lock. `examples/pool_speed.rs`
//! measures that against rayon.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread without work keeps looking before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Looks between two glances at the clock, and before the processor is offered to others.
const LOOKS: usize = 64;

/// A call in progress. The closure lives on the caller's stack; see [`Pool::run`] for why it outlives its use.
#[derive(Clone, Copy)]
struct Job {
    task: &'static (dyn Fn(usize) + Sync),
    n_tasks: usize,
}

type Panic = Box<dyn Any + Send>;

/// What the caller and the pool's threads have in common.
///
/// A thread may use `job` between entering and leaving: it counts itself in `n_inside`, and then looks whether the call
/// `is_open`. The caller closes the call, and then waits until nobody is inside. All four steps are in one order that all
/// threads agree on (`SeqCst`), so either the thread finds the call closed, or the caller finds the thread inside.
#[derive(Default)]
struct Shared {
    /// Written by the caller while the call is closed and nobody who saw it open is inside.
    job: UnsafeCell<Option<Job>>,
    is_open: AtomicBool,
    n_inside: AtomicUsize,
    /// The next task to hand out.
    next_task: AtomicUsize,
    /// Counts calls; what a looking thread watches.
    n_calls: AtomicU64,
    stopping: AtomicBool,
    /// Threads that sleep, or are about to and have not looked at `n_calls` for the last time.
    n_asleep: AtomicUsize,
    /// Held by a thread from its last look until it sleeps, and by who wakes it.
    sleep: Mutex<()>,
    wake: Condvar,
    /// The first panic of a task on a pool thread.
    panic: Mutex<Option<Panic>>,
}

// SAFETY: `job` is the only part that is not `Sync` by itself; see the type for who may touch it when.
unsafe impl Sync for Shared {}
// SAFETY: a `Job` is two plain words, and the closure it points to may be called from any thread.
unsafe impl Send for Shared {}

impl Shared {
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        // What a lock protects is consistent whenever it is free: tasks, which may panic, run without one.
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_tasks(&self, job: Job) -> Result<(), Panic> {
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
        while self.await_call(&mut n_calls_seen) {
            self.n_inside.fetch_add(1, Ordering::SeqCst);
            if self.is_open.load(Ordering::SeqCst) {
                // SAFETY: this thread is inside a call that it saw open.
                let job = unsafe { *self.job.get() };
                if let Err(panic) = job.map_or(Ok(()), |job| self.run_tasks(job)) {
                    Self::lock(&self.panic).get_or_insert(panic);
                }
            }
            self.n_inside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits for a call after those seen; false when the pool stops.
    fn await_call(&self, n_calls_seen: &mut u64) -> bool {
        let is_new = |seen: u64| self.n_calls.load(Ordering::SeqCst) != seen || self.stopping.load(Ordering::SeqCst);
        let idle_since = Instant::now();
        'look: while idle_since.elapsed() < SPIN {
            for _ in 0..LOOKS {
                if is_new(*n_calls_seen) {
                    break 'look;
                }
                std::hint::spin_loop();
            }
        }
        if !is_new(*n_calls_seen) {
            let mut guard = Self::lock(&self.sleep);
            // Said before the last look: a caller that this look misses will see it, and wake this thread.
            self.n_asleep.fetch_add(1, Ordering::SeqCst);
            while !is_new(*n_calls_seen) {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        }
        *n_calls_seen = self.n_calls.load(Ordering::SeqCst);
        !self.stopping.load(Ordering::SeqCst)
    }

    fn wake_sleepers(&self) {
        if self.n_asleep.load(Ordering::SeqCst) > 0 {
            // A thread that has looked for the last time sleeps once this lock is to be had.
            drop(Self::lock(&self.sleep));
            self.wake.notify_all();
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
        let shared = &*self.shared;
        let turn = Shared::lock(&self.turn);
        // SAFETY: only the lifetime changes. A pool thread uses the reference only while it is inside a call that it saw
        // open; below, the call is closed and all threads inside awaited, on every path out of this function (a panic of a
        // task is caught), so no thread uses it when the borrow ends.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let job = Job { task, n_tasks };
        // SAFETY: the last call was closed and left by all who saw it open, and there is one caller at a time.
        unsafe { *shared.job.get() = Some(job) }
        shared.next_task.store(0, Ordering::Relaxed);
        shared.is_open.store(true, Ordering::SeqCst);
        shared.n_calls.fetch_add(1, Ordering::SeqCst);
        shared.wake_sleepers();

        let result = shared.run_tasks(job);

        shared.is_open.store(false, Ordering::SeqCst);
        let mut n_looks = 0;
        while shared.n_inside.load(Ordering::SeqCst) > 0 {
            n_looks += 1;
            if n_looks % LOOKS == 0 {
                // The thread that is awaited may be waiting for this processor.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let worker_panic = Shared::lock(&shared.panic).take();
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
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake_sleepers();
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
