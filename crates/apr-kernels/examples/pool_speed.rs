//! Times a call that hands out work, here and with rayon: `cargo run --release --example pool_speed [n_threads]`.
//!
//! One line per size of task: what a call takes, less the work itself shared evenly. The two take turns, and the median of
//! the rounds is printed with the fastest and the slowest.

use std::hint::black_box;
use std::time::Instant;

use apr_kernels::{Backend, KernelSet};
use rayon::prelude::*;

const CALLS: u32 = 2000;
const ROUNDS: usize = 15;

fn main() {
    let n_threads = std::env::args().nth(1).map_or(2, |arg| arg.parse().expect("the number of threads"));
    let backend = Backend::new(KernelSet::available()[0], n_threads);
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().expect("threads start");
    println!("{n_threads} threads; microseconds per call beyond the shared work: median (fastest-slowest)");
    println!("{:>6} {:>12} {:>22} {:>22}", "tasks", "task in µs", "here", "rayon");
    for (n_tasks, steps) in [(n_threads, 100), (n_threads, 2000), (8 * n_threads, 500), (8 * n_threads, 5000)] {
        let alone = per_call_us(|| work(steps));
        let shared_us = alone * n_tasks as f64 / n_threads as f64;
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            here.push(per_call_us(|| backend.share(n_tasks, |_| work(steps))) - shared_us);
            there.push(
                rayon.install(|| per_call_us(|| (0..n_tasks).into_par_iter().for_each(|_| work(steps)))) - shared_us,
            );
        }
        println!("{n_tasks:>6} {alone:>12.2} {:>22} {:>22}", spread(here), spread(there));
    }
}

/// A chain of operations that takes a while.
fn work(steps: u32) {
    let mut x = 1u64;
    for _ in 0..steps {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn per_call_us(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2}-{:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}
