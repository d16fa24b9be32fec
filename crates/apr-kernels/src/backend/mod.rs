//! The operations as the engine calls them: lengths checked, work shared between threads.
//!
//! Every method panics when slice lengths contradict each other: shapes come from a validated model, so that is a bug
//! of the caller. Activations are row-major, `[n, …]` for `n` tokens, and `n` follows from the lengths.

mod attention;
mod by_lane;
mod elementwise;
mod matmul;
mod probe;

pub use probe::Probe;

pub use matmul::Product;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::thread::LocalKey;

use crate::isa::{Isa, IsaError};
use crate::pool::Pool;
use crate::set::KernelSet;

/// A set of kernels and the threads that run them. Cloning shares the threads.
#[derive(Clone)]
pub struct Backend {
    set: &'static KernelSet,
    pool: Arc<Pool>,
}

impl Backend {
    /// A backend in which `n_threads` threads, the caller included, share each operation; 0 counts as 1.
    pub fn new(set: &'static KernelSet, n_threads: usize) -> Self {
        Self { set, pool: Arc::new(Pool::new(n_threads)) }
    }

    /// The best kernels ([`KernelSet::detect`], which obeys `APR_ISA`) on as many threads as this process may use, by
    /// its CPU affinity and its cgroup's quota; one where the system cannot tell.
    pub fn detect() -> Result<Self, IsaError> {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::new(KernelSet::detect()?, n_threads))
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.set.isa()
    }

    /// Runs `task(0)`, …, `task(n_tasks - 1)`, each once and in any order, on the threads that share operations.
    ///
    /// # Panics
    /// If a task panics, once all have ended.
    pub fn share(&self, n_tasks: usize, task: impl Fn(usize) + Sync) {
        self.pool.run(n_tasks, &task);
    }

    /// Runs `f`, in which the operations that this thread calls keep what their tasks share in `buffer`, as far as it
    /// reaches, in place of memory of their own. What `buffer` held is lost.
    pub fn with_buffer<R>(&self, buffer: &mut Vec<f32>, f: impl FnOnce() -> R) -> R {
        let exchange = |buffer: &mut Vec<f32>| CALL.with_borrow_mut(|call| std::mem::swap(call, buffer));
        exchange(buffer);
        let result = f();
        exchange(buffer);
        result
    }

    /// Threads that share an operation, the caller included.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("isa", &self.isa()).field("n_threads", &self.n_threads()).finish()
    }
}

thread_local! {
    /// What a task works in.
    static TASK: Scratch = const { RefCell::new(Vec::new()) };
    /// What a call shares among its tasks.
    static CALL: Scratch = const { RefCell::new(Vec::new()) };
}

/// Memory that a thread keeps from one use to the next.
type Scratch = RefCell<Vec<f32>>;

/// Calls `f` with `n` values of `scratch` that start at a cache line. Their content is arbitrary.
fn with_scratch<R>(scratch: &'static LocalKey<Scratch>, n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    const LINE_BYTES: usize = 64;
    scratch.with_borrow_mut(|scratch| {
        let n_enough = n + LINE_BYTES / size_of::<f32>();
        if scratch.len() < n_enough {
            scratch.resize(n_enough, 0.0);
        }
        let start = scratch.as_ptr().align_offset(LINE_BYTES);
        f(&mut scratch[start..][..n])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use apr_tensor::DType;

    #[test]
    fn a_product_keeps_its_input_in_the_buffer_that_it_is_given_and_gives_the_same_bits() {
        const N_TOKENS: usize = 64;
        let weights: Vec<u8> = (0..32 * 48u16).flat_map(|i| f32::from(i % 97).to_le_bytes()).collect();
        let w = Matrix::new(DType::F32, 32, 48, &weights).unwrap();
        let x: Vec<f32> = (0..N_TOKENS * 48).map(|i| 1.0 / (1 + i % 31) as f32).collect();
        let backend = Backend::new(KernelSet::detect().unwrap(), 2);
        let product = || {
            let mut y = vec![0.0; N_TOKENS * 32];
            backend.matmul(&w, &x, &mut y);
            y
        };
        let mut buffer = Vec::new();
        let in_buffer = backend.with_buffer(&mut buffer, product);
        assert!(buffer.len() >= x.len());
        CALL.with_borrow(|call| assert!(call.is_empty(), "{}", call.len()));
        assert!(in_buffer.iter().zip(product()).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(!CALL.with_borrow(Vec::is_empty));
    }
}
