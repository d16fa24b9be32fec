//! Times products with matrices:
//! `cargo run --release --example matmul_speed [n_threads [dtype | ROWSxCOLS | n_tokens]…]`.
//!
//! One line per dtype, matrix and number of tokens. `GB/s` counts the stored bytes of the weights, `G FMA/s` one
//! multiply-add per weight and token. Each figure is the best of several passes, because other processes can only make one
//! slower. `matmul_speed 1 Q4_K 1536x1536 4 256` times one matrix, which comes from a cache where it fits into one. Without
//! a matrix it is those of a Qwen2.5 model: the weights of the layers together exceed the caches, as a model's do, and the
//! time of a pass is the sum of each matrix's best. Without a number of tokens it is 1 and 256.
//!
//! Which kernel multiplies is the backend's choice, `MIN_COLS` and `MIN_TOKENS` in `src/backend/by_lane.rs`.

#[path = "../tests/common/mod.rs"]
mod common;

use apr_kernels::{Backend, KernelSet, Matrix};
use apr_tensor::{DType, weight_dtypes};
use common::Seeded;
use rustix::time::{ClockId, clock_gettime};

/// `[rows, cols]` of a matrix.
type Shape = [usize; 2];

/// A layer's q, k, v, o, gate, up, down.
const QWEN_0_5B: [Shape; 7] = [[896, 896], [128, 896], [128, 896], [896, 896], [4864, 896], [4864, 896], [896, 4864]];
const QWEN_1_5B: [Shape; 7] =
    [[1536, 1536], [256, 1536], [256, 1536], [1536, 1536], [8960, 1536], [8960, 1536], [1536, 8960]];

/// What is timed, in the order of the command line.
#[derive(Default)]
struct Wanted {
    dtypes: Vec<DType>,
    shapes: Vec<Shape>,
    n_tokens: Vec<usize>,
}

impl Wanted {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self::default();
        for word in words {
            let shape = word.split_once('x').and_then(|(rows, cols)| Some([rows.parse().ok()?, cols.parse().ok()?]));
            if let Some(row) = weight_dtypes().find(|row| row.name == word) {
                wanted.dtypes.push(row.dtype);
            } else if let Some(shape) = shape {
                wanted.shapes.push(shape);
            } else {
                let n = word.parse().ok().filter(|&n| n > 0);
                wanted.n_tokens.push(n.unwrap_or_else(|| panic!("{word:?} is no dtype, matrix or number of tokens")));
            }
        }
        if wanted.dtypes.is_empty() {
            wanted.dtypes = weight_dtypes().map(|row| row.dtype).collect();
        }
        if wanted.n_tokens.is_empty() {
            wanted.n_tokens = vec![1, 256];
        }
        wanted
    }
}

fn main() {
    let set = KernelSet::detect().unwrap_or_else(|error| panic!("{error}"));
    let mut arguments = std::env::args().skip(1);
    let n_threads = match arguments.next() {
        Some(arg) => arg.parse().expect("the number of threads"),
        None => Backend::detect().expect("detected above").n_threads(),
    };
    let wanted = Wanted::parse(arguments);
    let backend = Backend::new(set, n_threads);
    println!("{} kernels, {} threads", backend.isa(), backend.n_threads());
    println!("{:6} {:>10} {:>4} {:>8} {:>10} {:>12}", "dtype", "weights", "n", "GB/s", "G FMA/s", "ms per pass");
    for &dtype in &wanted.dtypes {
        for &[rows, cols] in &wanted.shapes {
            let name = format!("{rows}x{cols}");
            if !cols.is_multiple_of(dtype.info().block_elements) {
                println!("{:6} {name:>10} has no whole blocks", dtype.name());
                continue;
            }
            let layers = Layers::new(dtype, name, vec![[rows, cols]], 1);
            wanted.n_tokens.iter().for_each(|&n| layers.time(&backend, 1, n, 25));
        }
        if wanted.shapes.is_empty() {
            // Blocks of 256 do not divide the smaller model's rows.
            let (name, layer, n_layers) =
                if dtype.info().block_elements == 256 { ("1.5B", QWEN_1_5B, 4) } else { ("0.5B", QWEN_0_5B, 8) };
            let n_layers = if dtype == DType::F32 { n_layers / 2 } else { n_layers };
            let layers = Layers::new(dtype, name.to_owned(), layer.to_vec(), n_layers);
            for &n in &wanted.n_tokens {
                let (n_layers, n_passes) = if n == 1 { (n_layers, 20) } else { (1, 10) };
                layers.time(&backend, n_layers, n, n_passes);
            }
        }
    }
}

/// The weights of some layers with the same shapes.
struct Layers {
    dtype: DType,
    name: String,
    shapes: Vec<Shape>,
    data: Vec<Vec<Vec<u8>>>,
}

impl Layers {
    fn new(dtype: DType, name: String, shapes: Vec<Shape>, n_layers: usize) -> Self {
        let one: Vec<Vec<u8>> = shapes.iter().map(|[r, c]| Seeded::new(1).weights(dtype, r * c)).collect();
        Self { dtype, name, shapes, data: vec![one; n_layers] }
    }

    /// Prints the best of `n_passes` over the first `n_layers` with `n` tokens.
    fn time(&self, backend: &Backend, n_layers: usize, n: usize, n_passes: usize) {
        let longest = self.shapes.iter().flatten().max().copied().unwrap_or(0);
        let x = Seeded::new(2).values(n * longest, 1.0);
        let mut y = vec![0.0; n * longest];
        let mut best_seconds = vec![vec![f64::INFINITY; self.shapes.len()]; n_layers];
        for _ in 0..n_passes {
            for (layer, best_seconds) in self.data.iter().zip(&mut best_seconds) {
                for ((data, &[rows, cols]), best_seconds) in layer.iter().zip(&self.shapes).zip(best_seconds) {
                    let w = Matrix::new(self.dtype, rows, cols, data).unwrap_or_else(|error| panic!("{error}"));
                    let start = seconds(backend.n_threads());
                    backend.matmul(&w, &x[..n * cols], &mut y[..n * rows]);
                    *best_seconds = best_seconds.min(seconds(backend.n_threads()) - start);
                }
            }
        }
        let best_seconds: f64 = best_seconds.iter().flatten().sum();
        let weights = (n_layers * self.shapes.iter().map(|[r, c]| r * c).sum::<usize>()) as f64;
        let info = self.dtype.info();
        println!(
            "{:6} {:>10} {:>4} {:>8.1} {:>10.1} {:>12.3}",
            self.dtype.name(),
            self.name,
            n,
            weights / info.block_elements as f64 * info.block_bytes as f64 / best_seconds / 1e9,
            weights * n as f64 / best_seconds / 1e9,
            best_seconds * 1e3
        );
    }
}

/// Time that this thread has had on a processor where it works alone, so that other processes count for less; else the
/// time that has passed.
fn seconds(n_threads: usize) -> f64 {
    let clock = if n_threads == 1 { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
