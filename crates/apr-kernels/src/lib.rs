//! Floor 1: the operations of the exact numerics.
//!
//! *In:* weights as stored bytes ([`Matrix`]), activations as `f32` slices. *Out:* `f32` results.
//! *Afterwards:* every result has the bits of the scalar definition, whatever the instruction set, the number of
//! threads, and the way tokens are cut into calls. (A NaN is a NaN; its payload is not part of the promise.)
//! *Absent on purpose:* tolerances, model structure, file formats, and arithmetic on quantised activations.
//!
//! The definition of each operation is a short program of binary32 operations in a fixed order, in `scalar/`. The
//! vector paths in `lanes/` are written once over a 16-lane register type; `x86/` supplies that type for each
//! instruction set. [`KernelSet`] is the table that chooses, [`Backend`] the value that is passed around.

// What operations take.
mod by_lane;
mod isa;
mod kv;
mod matrix;
mod nonlinearity;
mod rope_table;

// What they compute, and how fast paths compute the same.
mod scalar;

#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

// Which path runs, on which threads.
mod set;

mod pool;

mod backend;

pub use backend::{Backend, Probe, Product};
pub use isa::{Isa, IsaError};
pub use kv::{AttentionShape, KvLayout, KvView};
pub use matrix::{Matrix, MatrixError};
pub use nonlinearity::Nonlinearity;
pub use rope_table::{RopeScaling, RopeTable};
pub use set::KernelSet;
