//! The tables of kernels and the choice among them.

use std::ops::Range;

use apr_tensor::DType;

use crate::by_lane::LaneStrip;
use crate::isa::{Isa, IsaError};
use crate::kv::QueryBlock;
use crate::nonlinearity::Nonlinearity;
use crate::scalar;

/// The kernels of one instruction set.
///
/// A reference to a set can be had only from [`available`](Self::available) and [`detect`](Self::detect), which hand
/// out what this machine can run: holding one is the proof that its functions may be called. The lengths that a
/// function relies on are stated here and checked by [`Backend`](crate::Backend).
pub struct KernelSet {
    pub(crate) isa: Isa,
    /// `(dtype, rows, x, y)`: `y[r] = dot(row r, x)`; `rows` is `y.len()` ≥ 1 rows of `x.len()` weights.
    pub(crate) matvec: unsafe fn(DType, &[u8], &[f32], &mut [f32]),
    /// `(dtype, src, n, dst, stride)`: the decoded values of the `n` weights in `src`, by groups of sixteen, the last one
    /// padded with zeros: group `g` goes to `dst[g * stride * 16..][..16]`, which exists.
    pub(crate) unpack: unsafe fn(DType, &[u8], usize, &mut [f32], usize),
    /// Continues the running sums of a strip, whose results have room; see [`Strip`].
    pub(crate) strip: unsafe fn(Strip<'_>),
    /// Rows of a tile.
    pub(crate) tile_rows: usize,
    /// The most tokens of a strip.
    pub(crate) tile_tokens: usize,
    /// `(src, stride, n_groups, dst, lane_stride, width)`: sixteen rows in the layout of a [`LaneStrip`]; see
    /// [`scalar::lane_major`].
    pub(crate) lane_major: unsafe fn(*const f32, usize, usize, *mut f32, usize, usize),
    /// The dot products of a strip, whose results have room; see [`LaneStrip`].
    pub(crate) lane_strip: unsafe fn(LaneStrip<'_>),
    /// Rows of a tile of a [`LaneStrip`]: a multiple of sixteen.
    pub(crate) lane_tile_rows: usize,
    /// Tokens of a [`LaneStrip`], at most twelve; it may also have one fewer.
    pub(crate) lane_tile_tokens: usize,
    /// `(x, gain, eps, y)` of one row, all of the same length.
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    /// `(x, gain, bias, eps, y)` of one row, all of the same length.
    pub(crate) layer_norm: LayerNorm,
    /// `(head, cos, sin)`: `cos` and `sin` are half as long as `head`.
    pub(crate) rope: unsafe fn(&mut [f32], &[f32], &[f32]),
    /// One row, in place.
    pub(crate) softmax: unsafe fn(&mut [f32]),
    /// Every value of the slice.
    pub(crate) apply: unsafe fn(Nonlinearity, &mut [f32]),
    /// `(f, gate, up)`: gate and up have the same length.
    pub(crate) gate: unsafe fn(Nonlinearity, &mut [f32], &[f32]),
    /// `(x, cap)`
    pub(crate) softcap: unsafe fn(&mut [f32], f32),
    /// `(x, factor)`
    pub(crate) scale: unsafe fn(&mut [f32], f32),
    /// `(x, y)` of the same length.
    pub(crate) add: unsafe fn(&mut [f32], &[f32]),
    /// `(x, y, factor)`: x and y have the same length.
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    /// Attention of a block of queries to some chunks of positions, which its cache holds and its parts have room for.
    pub(crate) attend: unsafe fn(QueryBlock<'_>, Range<usize>),
    /// The results of a block of queries, whose parts are there.
    pub(crate) join: unsafe fn(QueryBlock<'_>),
    /// `(x, bits)` of the same length.
    pub(crate) store_f16: unsafe fn(&[f32], &mut [u16]),
    /// `(data, sum)`: adds the 32-bit words of `data`, whole ones, to `sum`, wrapping.
    pub(crate) read_words: unsafe fn(&[u8], &mut u32),
    /// `(n_steps, sums)`: `sum = fma(sum, 1, 1)` so many times; `sums.len()` is a multiple of
    /// 24 * 16.
    pub(crate) count_up: unsafe fn(usize, &mut [f32]),
}

type LayerNorm = unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]);

/// The dot products of a panel of rows with a few tokens, or of a part of their length.
///
/// Rows go by tiles of the set's `tile_rows`; the last tile may have fewer, and its `w` is filled up with zeros.
pub(crate) struct Strip<'a> {
    /// Unpacked weights: for each tile of rows `[n_groups, tile_rows, 16]`.
    pub(crate) w: &'a [f32],
    /// `[n_groups, n_tokens, 16]`
    pub(crate) x: &'a [f32],
    /// Rows that have results.
    pub(crate) n_rows: usize,
    /// From 1 to `max_tokens`.
    pub(crate) n_tokens: usize,
    /// The set's `tile_tokens`.
    pub(crate) max_tokens: usize,
    /// Whether the running sums start at zero, rather than with what `sums` holds.
    pub(crate) is_first: bool,
    /// Whether the dot products end here, rather than their running sums going to `sums`.
    pub(crate) is_last: bool,
    /// The running sums, for each tile of rows `[max_tokens, tile_rows, 16]`; empty for a strip that is first and last.
    pub(crate) sums: &'a mut [f32],
    /// Where the result of token 0 and row 0 goes, if the strip is the last.
    pub(crate) y: *mut f32,
    /// Values from one token's result to the next one's.
    pub(crate) y_stride: usize,
    /// Values from one row's result to the next one's.
    pub(crate) row_stride: usize,
}

static SCALAR: KernelSet = KernelSet {
    isa: Isa::Scalar,
    matvec: scalar::matvec,
    unpack: scalar::unpack,
    strip: scalar::strip,
    tile_rows: scalar::TILE_ROWS,
    tile_tokens: scalar::TILE_TOKENS,
    lane_major: scalar::lane_major,
    lane_strip: scalar::lane_strip,
    lane_tile_rows: scalar::LANE_TILE_ROWS,
    lane_tile_tokens: scalar::LANE_TILE_TOKENS,
    rms_norm: scalar::rms_norm,
    layer_norm: scalar::layer_norm,
    rope: scalar::rope,
    softmax: scalar::softmax,
    apply: scalar::apply,
    gate: scalar::gate,
    softcap: scalar::softcap,
    scale: scalar::scale,
    add: scalar::add,
    add_scaled: scalar::add_scaled,
    attend: scalar::attend,
    join: scalar::join,
    store_f16: scalar::store_f16,
    read_words: scalar::read_words,
    count_up: scalar::count_up,
};

impl KernelSet {
    /// The sets this machine can run, the definition first and the fastest last.
    pub fn available() -> Vec<&'static Self> {
        let scalar: &'static Self = &SCALAR;
        #[cfg(target_arch = "x86_64")]
        let faster = crate::x86::available();
        #[cfg(not(target_arch = "x86_64"))]
        let faster = Vec::new();
        std::iter::once(scalar).chain(faster).collect()
    }

    /// The fastest set this machine can run, or the one that the environment variable `APR_ISA` names.
    pub fn detect() -> Result<&'static Self, IsaError> {
        match std::env::var_os("APR_ISA") {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(Self::available().pop().expect("the scalar set is always available")),
        }
    }

    fn named(name: &str) -> Result<&'static Self, IsaError> {
        let wanted: Isa = name.parse()?;
        let sets = Self::available();
        sets.iter().copied().find(|set| set.isa == wanted).ok_or_else(|| IsaError::Unavailable {
            wanted,
            available: sets.iter().map(|set| set.isa.name()).collect::<Vec<_>>().join(" "),
        })
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_found_by_name_or_the_error_says_what_is_there() {
        assert_eq!(KernelSet::named("scalar").map(KernelSet::isa), Ok(Isa::Scalar));
        assert_eq!(KernelSet::named("sse9").map(KernelSet::isa), Err(IsaError::Unknown { found: "sse9".into() }));
        for isa in Isa::ALL {
            let has = KernelSet::available().iter().any(|set| set.isa == isa);
            match KernelSet::named(isa.name()) {
                Ok(set) => assert!(has && set.isa == isa),
                Err(error) => assert!(!has && matches!(error, IsaError::Unavailable { wanted, .. } if wanted == isa)),
            }
        }
    }
}
