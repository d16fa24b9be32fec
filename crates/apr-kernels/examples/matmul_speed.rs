//! Times products with the matrices of a Qwen2.5 model: `cargo run --release --example matmul_speed [n_threads [dtype]…]`.
//!
//! One line per dtype and number of tokens. `GB/s` counts the stored bytes of the weights, `G FMA/s` one multiply-add
//! per weight and token. The weights of the layers together exceed the caches, as a model's do, and the time of a
//! pass is the sum of each matrix's best of several passes, because other processes can only make one slower.

#[path = "../tests/common/mod.rs"]
mod common;

use apr_kernels::{Backend, KernelSet, Matrix};
use apr_tensor::{DTYPES, DType};
use common::Seeded;
use rustix::time::{ClockId, clock_gettime};

/// `[rows, cols]` of a layer's matrices: q, k, v, o, gate, up, down.
type Layer = [[usize; 2]; 7];
const QWEN_0_5B: Layer = [[896, 896], [128, 896], [128, 896], [896, 896], [4864, 896], [4864, 896], [896, 4864]];
const QWEN_1_5B: Layer =
    [[1536, 1536], [256, 1536], [256, 1536], [1536, 1536], [8960, 1536], [8960, 1536], [1536, 8960]];

fn main() {
    let set = KernelSet::detect().unwrap_or_else(|error| panic!("{error}"));
    let n_threads = match std::env::args().nth(1) {
        Some(arg) => arg.parse().expect("the number of threads"),
        None => Backend::detect().expect("detected above").n_threads(),
    };
    let backend = Backend::new(set, n_threads);
    println!("{} kernels, {} threads", backend.isa(), backend.n_threads());
    println!("{:6} {:>6} {:>4} {:>8} {:>10} {:>12}", "dtype", "layer", "n", "GB/s", "G FMA/s", "ms per pass");
    let only: Vec<String> = std::env::args().skip(2).collect();
    for row in DTYPES.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)) {
        // Blocks of 256 do not divide the smaller model's rows.
        let (name, layer, n_layers) =
            if row.block_elements == 256 { ("1.5B", QWEN_1_5B, 4) } else { ("0.5B", QWEN_0_5B, 8) };
        let n_layers = if row.dtype == DType::F32 { n_layers / 2 } else { n_layers };
        let one_layer: Vec<Vec<u8>> = layer.map(|[r, c]| Seeded::new(1).weights(row.dtype, r * c)).into();
        let layers: Vec<Vec<Vec<u8>>> = (0..n_layers).map(|_| one_layer.clone()).collect();
        for n in [1, 256] {
            time(&backend, row.dtype, name, &layer, &layers, n);
        }
    }
}

fn time(backend: &Backend, dtype: DType, name: &str, shapes: &Layer, layers: &[Vec<Vec<u8>>], n: usize) {
    let longest = shapes.iter().flatten().max().copied().unwrap_or(0);
    let x = Seeded::new(2).values(n * longest, 1.0);
    let mut y = vec![0.0; n * longest];
    let layers = if n == 1 { layers } else { &layers[..1] };
    let mut best_seconds = vec![[f64::INFINITY; 7]; layers.len()];
    for _ in 0..if n == 1 { 20 } else { 10 } {
        for (layer, best_seconds) in layers.iter().zip(&mut best_seconds) {
            for ((data, &[rows, cols]), best_seconds) in layer.iter().zip(shapes).zip(best_seconds) {
                let w = Matrix::new(dtype, rows, cols, data).expect("made for this shape");
                let start = seconds(backend.n_threads());
                backend.matmul(&w, &x[..n * cols], &mut y[..n * rows]);
                *best_seconds = best_seconds.min(seconds(backend.n_threads()) - start);
            }
        }
    }
    let best_seconds: f64 = best_seconds.iter().flatten().sum();
    let weights = (layers.len() * shapes.iter().map(|[r, c]| r * c).sum::<usize>()) as f64;
    let bytes = weights / dtype.info().block_elements as f64 * dtype.info().block_bytes as f64;
    println!(
        "{:6} {:>6} {:>4} {:>8.1} {:>10.1} {:>12.2}",
        dtype.name(),
        name,
        n,
        bytes / best_seconds / 1e9,
        weights * n as f64 / best_seconds / 1e9,
        best_seconds * 1e3
    );
}

/// Time that this thread has had on a processor where it works alone, so that other processes count for less; else the
/// time that has passed.
fn seconds(n_threads: usize) -> f64 {
    let clock = if n_threads == 1 { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
