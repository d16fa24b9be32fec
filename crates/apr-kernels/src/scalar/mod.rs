//! The definition of every operation: plain code, one rounding per written operation, no instruction set.
//!
//! Vector paths are compared with these functions bit by bit, so a change here is a change of the numerics.

mod attention;
mod by_lane;
mod elementwise;
mod exp;
mod matmul;
mod nonlinear;
mod probe;
mod sums;

#[cfg(target_arch = "x86_64")]
pub(crate) use attention::LOWEST;
pub(crate) use attention::{CHUNK, attend, join};
pub(crate) use by_lane::{LANE_TILE_ROWS, LANE_TILE_TOKENS, lane_major, lane_strip};
pub(crate) use elementwise::{
    add, add_scaled, apply, gate, layer_norm, rms_norm, rope, scale, softcap, softmax, store_f16,
};
#[cfg(target_arch = "x86_64")]
pub(crate) use exp::constants as exp_constants;
pub(crate) use matmul::{TILE_ROWS, TILE_TOKENS, matvec, strip, unpack};
#[cfg(target_arch = "x86_64")]
pub(crate) use nonlinear::constants as nonlinear_constants;
pub(crate) use probe::{count_up, read_words};
pub(crate) use sums::LANES;
