//! The definition of every operation: plain code, one rounding per written operation, no instruction set.
//!
//! Vector paths are compared with these functions bit by bit, so a change here is a change of the numerics.

mod attention;
mod elementwise;
mod exp;
mod matmul;
mod probe;
mod sums;

#[cfg(target_arch = "x86_64")]
pub(crate) use attention::CHUNK;
pub(crate) use attention::attend;
pub(crate) use elementwise::{add, rms_norm, rope, silu_mul, softmax, store_f16};
#[cfg(target_arch = "x86_64")]
pub(crate) use exp::constants as exp_constants;
pub(crate) use matmul::{matvec, reduce, tile};
pub(crate) use probe::{count_up, read_words};
