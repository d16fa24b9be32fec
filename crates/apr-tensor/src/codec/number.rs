//! Numbers that kernels don't compute with: integers and binary64, one per element.
//!
//! A value decodes to the nearest binary32 number, the even one of two, and beyond its range to an infinity, as IEEE 754
//! says. I8 and I16 are exact; so are integers up to 2^24 in magnitude.

use crate::DType;
use std::fmt;

/// A stored number as it is.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Of an integer dtype.
    Integer(i128),
    /// Of binary64, or of a dtype that decodes to binary32.
    Float(f64),
}

impl Number {
    /// Whether both are one number; NaN is the same as itself, and -0.0 not as 0.0.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            (Number::Float(a), Number::Float(b)) => a.to_bits() == b.to_bits(),
            // An integer of at most 64 bits that survives the way there and back is one.
            (Number::Integer(n), Number::Float(x)) | (Number::Float(x), Number::Integer(n)) => {
                (n as f64).to_bits() == x.to_bits() && x as i128 == n
            }
        }
    }

    /// How far apart they are.
    pub fn distance(self, other: Self) -> f64 {
        let wide = |number| match number {
            Number::Integer(n) => n as f64,
            Number::Float(x) => x,
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
        }
    }
}

/// The number in `bytes`, one element of a dtype that decoding rounds.
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
        DType::F64 => Number::Float(f64::from_le_bytes(array(bytes))),
        other => panic!("{other} decodes exactly"),
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

pub(super) fn decode_i32(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i32::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_i64(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| i64::from_le_bytes(bytes) as f32);
}

pub(super) fn decode_f64(src: &[u8], dst: &mut [f32]) {
    decode(src, dst, |bytes| f64::from_le_bytes(bytes) as f32);
}
