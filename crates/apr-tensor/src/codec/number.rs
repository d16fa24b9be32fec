//! Numbers that kernels don't compute with: integers and binary64, one per element.
//!
//! A value decodes to the nearest binary32 number, the even one of two, and beyond its range to an infinity, as IEEE 754
//! says. I8, I16, U8, U16 and BOOL are exact; so are integers up to 2^24 in magnitude.

use crate::DType;
use std::fmt;

/// A stored number as it is.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Of an integer dtype.
    Integer(i128),
    /// Of binary64, or of a dtype that decodes to binary32.
    Float(f64),
    /// Bytes of an opaque dtype, the first one lowest.
    Bits(DType, u64),
}

impl Number {
    /// Whether both are one number; NaN is the same as itself, and -0.0 not as 0.0.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            (Number::Float(a), Number::Float(b)) => a.to_bits() == b.to_bits(),
            (Number::Bits(a, p), Number::Bits(b, q)) => a == b && p == q,
            (Number::Bits(..), _) | (_, Number::Bits(..)) => false,
            // An integer of at most 64 bits that survives the way there and back is one.
            (Number::Integer(n), Number::Float(x)) | (Number::Float(x), Number::Integer(n)) => {
                (n as f64).to_bits() == x.to_bits() && x as i128 == n
            }
        }
    }

    /// How far apart they are; NaN where a number is not known.
    pub fn distance(self, other: Self) -> f64 {
        let wide = |number| match number {
            Number::Integer(n) => n as f64,
            Number::Float(x) => x,
            Number::Bits(..) => f64::NAN,
        };
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a.abs_diff(b) as f64,
            (a, b) => (wide(a) - wide(b)).abs(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(n) => write!(f, "{n}"),
            Number::Float(x) => write!(f, "{x}"),
            Number::Bits(dtype, bits) => {
                let n_digits = 2 * dtype.info().block_bytes;
                write!(f, "{dtype} {bits:#0width$x}", width = 2 + n_digits)
            }
        }
    }
}

/// What stands in `bytes`, one block of a dtype that does not decode exactly.
///
/// # Panics
/// For another dtype or number of bytes.
pub fn number(dtype: DType, bytes: &[u8]) -> Number {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("the bytes of one element")
    }
    match dtype {
        DType::I32 => Number::Integer(i32::from_le_bytes(array(bytes)).into()),
        DType::I64 => Number::Integer(i64::from_le_bytes(array(bytes)).into()),
        DType::U32 => Number::Integer(u32::from_le_bytes(array(bytes)).into()),
        DType::U64 => Number::Integer(u64::from_le_bytes(array(bytes)).into()),
        DType::F64 => Number::Float(f64::from_le_bytes(array(bytes))),
        opaque => {
            assert!(!opaque.decodes(), "{opaque} decodes exactly");
            assert_eq!(bytes.len(), opaque.info().block_bytes, "the bytes of one block");
            Number::Bits(opaque, bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
        }
    }
}

/// Decodes numbers of `N` bytes.
fn decode<const N: usize>(src: &[u8], dst: &mut [f32], value_of: fn([u8; N]) -> f32) {
    for (bytes, value) in src.as_chunks::<N>().0.iter().zip(dst) {
        *value = value_of(*bytes);
    }
}

pub(super) fn decode_i8(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i8::from_le_bytes(bytes).into());
}

pub(super) fn decode_i16(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i16::from_le_bytes(bytes).into());
}

/// Also BOOL: a byte that is neither 0 nor 1 is not taken for one of them.
pub(super) fn decode_u8(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |[byte]| byte.into());
}

pub(super) fn decode_u16(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| u16::from_le_bytes(bytes).into());
}

pub(super) fn decode_u32(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| u32::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_u64(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| u64::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_i32(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i32::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_i64(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i64::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_f64(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| f64::from_le_bytes(bytes) as f32);
}
