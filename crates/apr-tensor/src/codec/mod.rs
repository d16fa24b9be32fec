//! Decoding and encoding of rows.

use crate::DType;

/// Decodes whole blocks of `dtype` from `src` into `dst`.
///
/// # Panics
/// If `src.len()` is not `dtype.bytes_for(dst.len())`.
pub fn decode(dtype: DType, src: &[u8], dst: &mut [f32]) {
    let _ = (dtype, src, dst);
    todo!()
}
