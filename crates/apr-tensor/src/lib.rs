//! Floor 0: what a tensor is made of.
//!
//! *In:* bytes whose meaning is stated by a dtype and a shape. *Out:* typed views and decoded `f32` values.
//! *Afterwards:* a `(DType, Shape)` pair has exactly one size in bytes, and a block decodes to the value that
//! ggml's reference gives, bit for bit.
//! *Absent on purpose:* file formats, names, arithmetic on tensors, and any fallback for an unknown dtype.
#![forbid(unsafe_code)]

mod byte_order;
mod bytes;
pub mod codec;
mod dtype;
mod shape;

pub use byte_order::{ByteOrder, little_endian, swap_blocks};
pub use bytes::{Bytes, Storage};
pub use dtype::{DTYPES, DType, DTypeClass, DTypeInfo, FIRST_OWN_ID, UnknownDType, ggml_type_name, weight_dtypes};
pub use shape::{MAX_DIMS, Shape, ShapeError};
