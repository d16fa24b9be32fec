//! Prints both rooflines of this machine: `cargo run --release --example rooflines [n_threads] [MiB]`.

use apr_kernels::{Backend, KernelSet};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let n_threads = arguments.next().unwrap_or_else(|| Backend::detect().map_or(1, |backend| backend.n_threads()));
    let data = vec![1u8; arguments.next().unwrap_or(1024) << 20];
    for set in KernelSet::available() {
        let backend = Backend::new(set, n_threads);
        let read = backend.probe_read(&[&data]).expect("there is something to read");
        let fma = backend.probe_multiply_adds();
        println!(
            "{} kernels, {n_threads} threads: {:.2} GB/s ({} passes), {:.2} G multiply-adds/s ({} passes)",
            set.isa(),
            read.per_second() / 1e9,
            read.n_passes,
            fma.per_second() / 1e9,
            fma.n_passes
        );
    }
}
