//! Codecs: rows of stored blocks ⇄ `f32` values.
//!
//! Decoding gives the value of ggml's reference dequantiser bit for bit, where it has one. Encoding Q4_0, Q4_1, Q5_0, Q5_1
//! and Q8_0 gives the bytes of its reference quantiser (`quantize_row_*_ref`), unless columns differ in importance. Those,
//! Q2_K to Q6_K, IQ4_NL and IQ4_XS are encoded by a search of our own (`q_search`, `search`), which minimises the squared
//! error of the decoded values; its bytes are nobody else's, and the same on every machine.
//!
//! One file per family: `float`, `number` for what is carried and not computed with, the 32-element blocks in `q_legacy`,
//! the 256-element blocks in `q_k`, codes of uneven numbers in `q_table`, of grid points in `q_grid`, of one or two bits in
//! `q_small`. `parts` takes blocks apart for people. All stored numbers are little-endian.

mod float;
mod grids;
mod number;
mod parts;
mod q_grid;
mod q_k;
mod q_legacy;
mod q_search;
mod q_small;
mod q_table;
mod search;

use crate::{DType, DTypeClass};

pub use float::f16_to_f32;
pub use number::{Number, number};
pub use parts::{BlockField, BlockGroup, BlockParts, parts};
pub use q_table::{FP4, IQ4, mxfp4_scale};

/// The f16 number at `block[offset..offset + 2]`.
fn f16_at(block: &[u8], offset: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[offset], block[offset + 1]]))
}

/// Why values were not encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The dtype has a decoder only.
    #[error("this version decodes {dtype} but does not encode it; choose one of {}", encodable_names())]
    NotImplemented {
        /// The dtype asked for.
        dtype: DType,
    },
    /// The values do not fill whole blocks.
    #[error("{n_elements} values do not fill whole {dtype} blocks of {block_elements}")]
    PartialBlock {
        /// The dtype asked for.
        dtype: DType,
        /// How many values were given.
        n_elements: usize,
        /// How many values a block holds.
        block_elements: usize,
    },
    /// A quantised block has no code for NaN and infinities.
    #[error("value {index} is {value}, which {dtype} cannot represent; repair the tensor or choose a float dtype")]
    NotFinite {
        /// The dtype asked for.
        dtype: DType,
        /// Position of the value in the input.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// The block's scale is larger than the largest f16, so every value of it would decode to infinity or NaN.
    #[error("value {index} is {value}, too large for the f16 scale of a {dtype} block; choose a float dtype")]
    ScaleOverflow {
        /// The dtype asked for.
        dtype: DType,
        /// Position in the input of the value that sets the scale.
        index: usize,
        /// That value.
        value: f32,
    },
    /// The importance of a column is no number that an error could be multiplied with.
    #[error("the importance of column {column} is {value}; it must be finite and not negative")]
    Importance {
        /// The column.
        column: usize,
        /// Its importance.
        value: f32,
    },
}

fn encodable_names() -> String {
    crate::DTYPES.iter().filter(|row| row.encodes).map(|row| row.name).collect::<Vec<_>>().join(" ")
}

/// Decodes whole blocks of `dtype` from `src` into `dst`. Numbers that binary32 does not have become the nearest.
///
/// # Panics
/// If `src.len()` is not `dtype.bytes_for(dst.len())`, or not [`DType::decodes`].
pub fn decode(dtype: DType, src: &[u8], dst: &mut [f32]) {
    assert_eq!(Some(src.len()), dtype.bytes_for(dst.len()), "bytes of {} {dtype} values", dst.len());
    match dtype {
        DType::F32 => float::decode_f32(src, dst),
        DType::F16 => float::decode_f16(src, dst),
        DType::BF16 => float::decode_bf16(src, dst),
        DType::Q4_0 => q_legacy::decode_q4_0(src, dst),
        DType::Q4_1 => q_legacy::decode_q4_1(src, dst),
        DType::Q5_0 => q_legacy::decode_q5_0(src, dst),
        DType::Q5_1 => q_legacy::decode_q5_1(src, dst),
        DType::Q8_0 => q_legacy::decode_q8_0(src, dst),
        DType::Q2K => q_k::decode_q2_k(src, dst),
        DType::Q3K => q_k::decode_q3_k(src, dst),
        DType::Q4K => q_k::decode_q4_k(src, dst),
        DType::Q5K => q_k::decode_q5_k(src, dst),
        DType::Q6K => q_k::decode_q6_k(src, dst),
        DType::IQ4NL => q_table::decode_iq4_nl(src, dst),
        DType::IQ4XS => q_table::decode_iq4_xs(src, dst),
        DType::IQ1S => q_grid::decode_iq1_s(src, dst),
        DType::IQ1M => q_grid::decode_iq1_m(src, dst),
        DType::IQ2XXS => q_grid::decode_iq2_xxs(src, dst),
        DType::IQ2XS => q_grid::decode_iq2_xs(src, dst),
        DType::IQ2S => q_grid::decode_iq2_s(src, dst),
        DType::IQ3XXS => q_grid::decode_iq3_xxs(src, dst),
        DType::IQ3S => q_grid::decode_iq3_s(src, dst),
        DType::TQ1_0 => q_small::decode_tq1_0(src, dst),
        DType::TQ2_0 => q_small::decode_tq2_0(src, dst),
        DType::MXFP4 => q_table::decode_mxfp4(src, dst),
        DType::NVFP4 => q_table::decode_nvfp4(src, dst),
        DType::Q1_0 => q_small::decode_q1_0(src, dst),
        DType::Q2_0 => q_small::decode_q2_0(src, dst),
        DType::Q8_1 => q_legacy::decode_q8_1(src, dst),
        DType::Q8K => q_k::decode_q8_k(src, dst),
        DType::I8 => number::decode_i8(src, dst),
        DType::I16 => number::decode_i16(src, dst),
        DType::I32 => number::decode_i32(src, dst),
        DType::I64 => number::decode_i64(src, dst),
        DType::F64 => number::decode_f64(src, dst),
        DType::U8 | DType::Bool => number::decode_u8(src, dst),
        DType::U16 => number::decode_u16(src, dst),
        DType::U32 => number::decode_u32(src, dst),
        DType::U64 => number::decode_u64(src, dst),
        opaque => panic!("values of {opaque} are not decoded"),
    }
}

/// Encodes `src` as `dtype` and appends the bytes to `dst`, which is left as it was on an error.
///
/// Float dtypes round to nearest even as IEEE 754 says: a value beyond the range of F16 becomes an infinity, and a NaN
/// stays a NaN. Quantised dtypes refuse both.
pub fn encode(dtype: DType, src: &[f32], dst: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_weighted(dtype, src, None, dst)
}

/// [`encode`] of whole rows whose columns differ in importance: the error of a value counts as much as `importance` says for
/// its column. Float dtypes and Q8_0 have no choice that it could decide, and leave it aside.
///
/// # Panics
/// If `src` is not as long as several times `importance`, or that is no whole number of blocks.
pub fn encode_weighted(
    dtype: DType,
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let info = dtype.info();
    let n_bytes = dtype.bytes_for(src.len()).ok_or(EncodeError::PartialBlock {
        dtype,
        n_elements: src.len(),
        block_elements: info.block_elements,
    })?;
    if info.class == DTypeClass::Quantized
        && info.encodes
        && !src.iter().fold(true, |all, value| all & value.is_finite())
        && let Some(index) = src.iter().position(|value| !value.is_finite())
    {
        return Err(EncodeError::NotFinite { dtype, index, value: src[index] });
    }
    if let Some(importance) = importance {
        let whole = src.len().is_multiple_of(importance.len()) && importance.len().is_multiple_of(info.block_elements);
        assert!(whole, "importance of {} columns for {} values of {dtype}", importance.len(), src.len());
        if let Some(column) = importance.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(EncodeError::Importance { column, value: importance[column] });
        }
    }
    let start = dst.len();
    dst.reserve(n_bytes);
    let encoded = match dtype {
        DType::F32 => {
            float::encode_f32(src, dst);
            Ok(())
        }
        DType::F16 => {
            float::encode_f16(src, dst);
            Ok(())
        }
        DType::BF16 => {
            float::encode_bf16(src, dst);
            Ok(())
        }
        DType::Q8_0 => q_legacy::encode(dtype, src, dst, q_legacy::q8_0_block),
        DType::Q4_0 if importance.is_none() => q_legacy::encode(dtype, src, dst, q_legacy::q4_0_block),
        DType::Q4_1 if importance.is_none() => q_legacy::encode(dtype, src, dst, q_legacy::q4_1_block),
        DType::Q5_0 if importance.is_none() => q_legacy::encode(dtype, src, dst, q_legacy::q5_0_block),
        DType::Q5_1 if importance.is_none() => q_legacy::encode(dtype, src, dst, q_legacy::q5_1_block),
        _ => q_search::encode(dtype, src, importance, dst),
    };
    if encoded.is_err() {
        dst.truncate(start);
    }
    encoded
}
