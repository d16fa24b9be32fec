//! The dtype table: one row per encoding, read by every reader, writer, kernel, help text and report.

use std::fmt;

/// How a tensor's values are stored.
///
/// The number that names a dtype in GGUF and APR is ggml's type id ([`DTypeInfo::id`]); dtypes that ggml does not have
/// have numbers from [`FIRST_OWN_ID`] on, in APR only. There is no other numbering in this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// Upper half of binary32.
    BF16,
    /// 32 × 4 bit, one f16 scale.
    Q4_0,
    /// 32 × 4 bit, one f16 scale and minimum.
    Q4_1,
    /// 32 × 5 bit, one f16 scale.
    Q5_0,
    /// 32 × 5 bit, one f16 scale and minimum.
    Q5_1,
    /// 32 × 8 bit, one f16 scale.
    Q8_0,
    /// 256 × 2 bit, 4-bit scales and mins per 16.
    Q2K,
    /// 256 × 3 bit, 6-bit scales per 16.
    Q3K,
    /// 256 × 4 bit, 6-bit scales and mins per 32.
    Q4K,
    /// 256 × 5 bit, 6-bit scales and mins per 32.
    Q5K,
    /// 256 × 6 bit, 8-bit scales per 16.
    Q6K,
    /// 32 × 4-bit code of an uneven number, one f16 scale.
    IQ4NL,
    /// 256 × 4-bit code of an uneven number, 6-bit scales per 32.
    IQ4XS,
    /// 256 × grid point of 8 (11 bits), 3-bit scales per 32.
    IQ1S,
    /// 256 × grid point of 8 (11 bits), 3-bit scales per 16.
    IQ1M,
    /// 256 × grid point of 8 (8 bits) with signs, 4-bit scales per 32.
    IQ2XXS,
    /// 256 × grid point of 8 (9 bits) with signs, 4-bit scales per 16.
    IQ2XS,
    /// 256 × grid point of 8 (10 bits) with signs, 4-bit scales per 16.
    IQ2S,
    /// 256 × grid point of 4 (8 bits) with signs, 4-bit scales per 32.
    IQ3XXS,
    /// 256 × grid point of 4 (9 bits) with signs, 4-bit scales per 32.
    IQ3S,
    /// 256 × base-3 digit, one f16 scale.
    TQ1_0,
    /// 256 × 2 bit, one f16 scale.
    TQ2_0,
    /// 32 × FP4 (E2M1), one power of two.
    MXFP4,
    /// 64 × FP4 (E2M1), E4M3 scales per 16.
    NVFP4,
    /// 128 × sign, one f16 scale.
    Q1_0,
    /// 64 × 2 bit, one f16 scale.
    Q2_0,
    /// 32 × 8 bit, f16 scale and sum: what ggml makes of activations.
    Q8_1,
    /// 256 × 8 bit, f32 scale and sums per 16: what ggml makes of activations.
    Q8K,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE binary64.
    F64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// A byte, 0 or 1.
    Bool,
    /// 8 bits, 4 of them exponent; no infinity.
    F8E4M3,
    /// 8 bits, 5 of them exponent.
    F8E5M2,
    /// A power of two.
    F8E8M0,
    /// As F8_E4M3, with another bias and one zero.
    F8E4M3Fnuz,
    /// As F8_E5M2, with another bias and one zero.
    F8E5M2Fnuz,
    /// 4 bits, 2 of them exponent.
    F4,
    /// 6 bits, 2 of them exponent.
    F6E2M3,
    /// 6 bits, 3 of them exponent.
    F6E3M2,
    /// Two binary32 numbers.
    C64,
}

/// What kind of encoding a dtype is. Kernels compute with the first two; tensors of the others are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeClass {
    /// One IEEE-like number per element.
    Float,
    /// Blocks of small integers with shared scales.
    Quantized,
    /// Such blocks as ggml makes of activations while it computes, and never of weights.
    Activation,
    /// One number per element, each of them a binary32 number too.
    Number,
    /// One number per element that decodes to the nearest binary32 number, the even one of two.
    WideNumber,
    /// Bytes whose values this version does not look at.
    Opaque,
}

/// One row of the dtype table.
#[derive(Clone, Copy, Debug)]
pub struct DTypeInfo {
    /// The dtype this row describes.
    pub dtype: DType,
    /// Name as ggml prints it (`Q4_K`), also accepted in any case on the command line.
    pub name: &'static str,
    /// ggml's type id, or a number from [`FIRST_OWN_ID`] on: the dtype byte in APR files and, where it is ggml's, in GGUF.
    pub id: u32,
    /// Name in a SafeTensors header, for dtypes that format has.
    pub safetensors_name: Option<&'static str>,
    /// Elements per block: 1 for plain numbers, as many as fill whole bytes where an element has less than one.
    pub block_elements: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// What kind of encoding it is.
    pub class: DTypeClass,
    /// Whether this version can encode `f32` values into it (decoding is always possible).
    pub encodes: bool,
    /// `torch_dtype` of a Transformers config, for dtypes torch has.
    pub torch_name: Option<&'static str>,
}

macro_rules! row {
    ($d:ident, $name:literal, $id:literal, $st:expr, $be:literal, $bb:literal, $class:ident, $enc:literal, $torch:expr) => {
        DTypeInfo {
            dtype: DType::$d,
            name: $name,
            id: $id,
            safetensors_name: $st,
            block_elements: $be,
            block_bytes: $bb,
            class: DTypeClass::$class,
            encodes: $enc,
            torch_name: $torch,
        }
    };
}

/// The first id that is not ggml's. Ids 128 and 129 have a meaning in APR files of other tools.
pub const FIRST_OWN_ID: u32 = 160;

/// Every dtype this version reads: all of ggml, and all that the SafeTensors library (0.8.0) names. Sizes and ids of ggml's: its `type_traits` table and the blocks that `ggml-common.h`
/// declares. A block of Q8_1 has 36 bytes there; gguf-py 0.19.0 states 40, the size when its scale and sum were f32.
pub const DTYPES: &[DTypeInfo] = &[
    row!(F32, "F32", 0, Some("F32"), 1, 4, Float, true, Some("float32")),
    row!(F16, "F16", 1, Some("F16"), 1, 2, Float, true, Some("float16")),
    row!(BF16, "BF16", 30, Some("BF16"), 1, 2, Float, true, Some("bfloat16")),
    row!(Q4_0, "Q4_0", 2, None, 32, 18, Quantized, true, None),
    row!(Q4_1, "Q4_1", 3, None, 32, 20, Quantized, true, None),
    row!(Q5_0, "Q5_0", 6, None, 32, 22, Quantized, true, None),
    row!(Q5_1, "Q5_1", 7, None, 32, 24, Quantized, true, None),
    row!(Q8_0, "Q8_0", 8, None, 32, 34, Quantized, true, None),
    row!(Q2K, "Q2_K", 10, None, 256, 84, Quantized, true, None),
    row!(Q3K, "Q3_K", 11, None, 256, 110, Quantized, true, None),
    row!(Q4K, "Q4_K", 12, None, 256, 144, Quantized, true, None),
    row!(Q5K, "Q5_K", 13, None, 256, 176, Quantized, true, None),
    row!(Q6K, "Q6_K", 14, None, 256, 210, Quantized, true, None),
    row!(IQ4NL, "IQ4_NL", 20, None, 32, 18, Quantized, true, None),
    row!(IQ4XS, "IQ4_XS", 23, None, 256, 136, Quantized, true, None),
    row!(IQ1S, "IQ1_S", 19, None, 256, 50, Quantized, false, None),
    row!(IQ1M, "IQ1_M", 29, None, 256, 56, Quantized, false, None),
    row!(IQ2XXS, "IQ2_XXS", 16, None, 256, 66, Quantized, false, None),
    row!(IQ2XS, "IQ2_XS", 17, None, 256, 74, Quantized, false, None),
    row!(IQ2S, "IQ2_S", 22, None, 256, 82, Quantized, false, None),
    row!(IQ3XXS, "IQ3_XXS", 18, None, 256, 98, Quantized, false, None),
    row!(IQ3S, "IQ3_S", 21, None, 256, 110, Quantized, false, None),
    row!(TQ1_0, "TQ1_0", 34, None, 256, 54, Quantized, false, None),
    row!(TQ2_0, "TQ2_0", 35, None, 256, 66, Quantized, false, None),
    row!(MXFP4, "MXFP4", 39, None, 32, 17, Quantized, false, None),
    row!(NVFP4, "NVFP4", 40, None, 64, 36, Quantized, false, None),
    row!(Q1_0, "Q1_0", 41, None, 128, 18, Quantized, false, None),
    row!(Q2_0, "Q2_0", 42, None, 64, 18, Quantized, false, None),
    row!(Q8_1, "Q8_1", 9, None, 32, 36, Activation, false, None),
    row!(Q8K, "Q8_K", 15, None, 256, 292, Activation, false, None),
    row!(I8, "I8", 24, Some("I8"), 1, 1, Number, false, None),
    row!(I16, "I16", 25, Some("I16"), 1, 2, Number, false, None),
    row!(I32, "I32", 26, Some("I32"), 1, 4, WideNumber, false, None),
    row!(I64, "I64", 27, Some("I64"), 1, 8, WideNumber, false, None),
    row!(F64, "F64", 28, Some("F64"), 1, 8, WideNumber, false, Some("float64")),
    row!(U8, "U8", 160, Some("U8"), 1, 1, Number, false, None),
    row!(U16, "U16", 161, Some("U16"), 1, 2, Number, false, None),
    row!(U32, "U32", 162, Some("U32"), 1, 4, WideNumber, false, None),
    row!(U64, "U64", 163, Some("U64"), 1, 8, WideNumber, false, None),
    row!(Bool, "BOOL", 164, Some("BOOL"), 1, 1, Number, false, None),
    row!(F8E4M3, "F8_E4M3", 165, Some("F8_E4M3"), 1, 1, Opaque, false, None),
    row!(F8E5M2, "F8_E5M2", 166, Some("F8_E5M2"), 1, 1, Opaque, false, None),
    row!(F8E8M0, "F8_E8M0", 167, Some("F8_E8M0"), 1, 1, Opaque, false, None),
    row!(F8E4M3Fnuz, "F8_E4M3FNUZ", 168, Some("F8_E4M3FNUZ"), 1, 1, Opaque, false, None),
    row!(F8E5M2Fnuz, "F8_E5M2FNUZ", 169, Some("F8_E5M2FNUZ"), 1, 1, Opaque, false, None),
    row!(F4, "F4", 170, Some("F4"), 2, 1, Opaque, false, None),
    row!(F6E2M3, "F6_E2M3", 171, Some("F6_E2M3"), 4, 3, Opaque, false, None),
    row!(F6E3M2, "F6_E3M2", 172, Some("F6_E3M2"), 4, 3, Opaque, false, None),
    row!(C64, "C64", 173, Some("C64"), 1, 8, Opaque, false, None),
];

/// A dtype id or name that this version does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dtype {found} is not supported; this version reads {}", supported_names())]
pub struct UnknownDType {
    /// What was found, as specific as it can be named (`4 (Q4_2, removed from ggml)`, `200`, `"I128"`).
    pub found: String,
}

fn supported_names() -> String {
    DTYPES.iter().map(|row| row.name).collect::<Vec<_>>().join(" ")
}

impl DType {
    /// The table row of this dtype. Every dtype has one; see the test below.
    pub const fn info(self) -> &'static DTypeInfo {
        let mut i = 0;
        while DTYPES[i].dtype as usize != self as usize {
            i += 1;
        }
        &DTYPES[i]
    }

    /// Name as ggml prints it.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// ggml's type id; `None` for a dtype that ggml, and so GGUF, does not have.
    pub fn ggml_id(self) -> Option<u32> {
        Some(self.info().id).filter(|&id| id < FIRST_OWN_ID)
    }

    /// The dtype with this ggml type id.
    pub fn from_ggml_id(id: u32) -> Result<Self, UnknownDType> {
        Self::from_id(id).ok().filter(|dtype| dtype.ggml_id().is_some()).ok_or_else(|| Self::unknown_id(id))
    }

    /// The dtype with this number in the table.
    pub fn from_id(id: u32) -> Result<Self, UnknownDType> {
        DTYPES.iter().find(|row| row.id == id).map(|row| row.dtype).ok_or_else(|| Self::unknown_id(id))
    }

    fn unknown_id(id: u32) -> UnknownDType {
        UnknownDType {
            found: match ggml_type_name(id) {
                Some(name) => format!("{id} ({name})"),
                None => format!("{id} (no ggml type has this id)"),
            },
        }
    }

    /// The dtype with this SafeTensors name (`"BF16"`).
    pub fn from_safetensors_name(name: &str) -> Result<Self, UnknownDType> {
        DTYPES
            .iter()
            .find(|row| row.safetensors_name == Some(name))
            .map(|row| row.dtype)
            .ok_or_else(|| UnknownDType { found: format!("{name:?}") })
    }

    /// The dtype with this name, in any case, with or without the underscore (`q4_k`, `Q4K`, `bf16`).
    pub fn from_name(name: &str) -> Result<Self, UnknownDType> {
        let plain = |s: &str| s.replace('_', "").to_ascii_uppercase();
        DTYPES
            .iter()
            .find(|row| plain(row.name) == plain(name))
            .map(|row| row.dtype)
            .ok_or_else(|| UnknownDType { found: format!("{name:?}") })
    }

    /// Bytes taken by `n_elements` consecutive elements, if they fill whole blocks and the count fits.
    pub fn bytes_for(self, n_elements: usize) -> Option<usize> {
        let info = self.info();
        if !n_elements.is_multiple_of(info.block_elements) {
            return None;
        }
        (n_elements / info.block_elements).checked_mul(info.block_bytes)
    }

    /// Whether values are stored in blocks with shared scales.
    pub fn is_quantized(self) -> bool {
        matches!(self.info().class, DTypeClass::Quantized | DTypeClass::Activation)
    }

    /// Whether kernels compute with it. Tensors of another dtype keep it, whatever is asked for of weights.
    pub fn holds_weights(self) -> bool {
        matches!(self.info().class, DTypeClass::Float | DTypeClass::Quantized)
    }

    /// Whether its values can be decoded.
    pub fn decodes(self) -> bool {
        self.info().class != DTypeClass::Opaque
    }

    /// Whether the binary32 numbers that it decodes to say all about its values. Where they don't, two values that differ
    /// may decode to the same one, or don't decode.
    pub fn decodes_exactly(self) -> bool {
        !matches!(self.info().class, DTypeClass::WideNumber | DTypeClass::Opaque)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The rows of dtypes that hold weights.
pub fn weight_dtypes() -> impl Iterator<Item = &'static DTypeInfo> {
    DTYPES.iter().filter(|row| row.dtype.holds_weights())
}

/// ggml's name of a type id, including ids that this version does not read, so that an error can name them.
/// Source: `enum ggml_type`.
pub fn ggml_type_name(id: u32) -> Option<&'static str> {
    match id {
        4 => Some("Q4_2, removed from ggml"),
        5 => Some("Q4_3, removed from ggml"),
        31 => Some("Q4_0_4_4, removed from ggml"),
        32 => Some("Q4_0_4_8, removed from ggml"),
        33 => Some("Q4_0_8_8, removed from ggml"),
        36 => Some("IQ4_NL_4_4, removed from ggml"),
        37 => Some("IQ4_NL_4_8, removed from ggml"),
        38 => Some("IQ4_NL_8_8, removed from ggml"),
        _ => DTYPES.iter().find(|row| row.id == id && id < FIRST_OWN_ID).map(|row| row.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_one_row_and_ids_and_names_are_unique() {
        for row in DTYPES {
            assert_eq!(DTYPES.iter().filter(|r| r.dtype == row.dtype || r.id == row.id).count(), 1);
            assert_eq!(row.dtype.info().name, row.name);
            assert_eq!(ggml_type_name(row.id), row.dtype.ggml_id().map(|_| row.name));
            assert!(u8::try_from(row.id).is_ok(), "APR has a byte for it");
        }
    }

    /// Seed 003, GH-191: writer and reader used different numbers, and an unknown one became F32.
    #[test]
    fn gh_191_dtype_byte_roundtrip() {
        for row in DTYPES {
            assert_eq!(DType::from_id(row.id), Ok(row.dtype));
            assert_eq!(DType::from_ggml_id(row.id).is_ok(), row.dtype.ggml_id().is_some(), "{}", row.name);
            assert_eq!(DType::from_name(row.name), Ok(row.dtype));
        }
        for (name, id) in
            [("F32", 0), ("F16", 1), ("BF16", 30), ("Q4_0", 2), ("Q8_0", 8), ("Q4_K", 12), ("Q5_K", 13), ("Q6_K", 14)]
        {
            assert_eq!(DType::from_name(name).unwrap().ggml_id(), Some(id), "{name}");
        }
    }

    #[test]
    fn unknown_ids_are_errors_that_name_the_type() {
        let known: Vec<u32> = DTYPES.iter().filter_map(|r| r.dtype.ggml_id()).collect();
        for id in (0..=255).filter(|id| !known.contains(id)) {
            assert!(DType::from_ggml_id(id).is_err(), "id {id} has no row and must be refused");
            assert_eq!(DType::from_id(id).is_ok(), (160..=173).contains(&id), "{id}");
        }
        let removed = DType::from_ggml_id(4).unwrap_err().to_string();
        assert!(removed.starts_with("dtype 4 (Q4_2, removed from ggml) is not supported"), "{removed}");
    }

    #[test]
    fn sizes_need_whole_blocks() {
        assert_eq!(DType::Q4K.bytes_for(512), Some(288));
        assert_eq!(DType::Q4K.bytes_for(100), None);
        assert_eq!([3, 4, 6, 8].map(|n| DType::F6E3M2.bytes_for(n)), [None, Some(3), None, Some(6)]);
        assert_eq!([3, 4].map(|n| DType::F4.bytes_for(n)), [None, Some(2)]);
        assert_eq!(DType::F32.bytes_for(usize::MAX), None);
    }
}
