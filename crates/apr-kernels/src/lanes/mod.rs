//! The vector paths, written once over [`Lanes`]: a register, or two, of sixteen `f32` lanes.
//!
//! Each function does for sixteen lanes what its namesake in `scalar/` does, in the same order and with the same
//! roundings. All of it is inlined into the functions of an instruction set's [`kernel_set`], which carry the
//! `#[target_feature]`; an unaligned pointer is always allowed.

#![expect(clippy::needless_range_loop, reason = "lanes of rows and tokens are named by index, as in the definition")]

mod attention;
mod by_lane;
mod elementwise;
mod matvec;
mod nonlinear;
mod probe;
mod stored;
mod tile;

pub(crate) use attention::{attend, join};
pub(crate) use by_lane::{lane_major, lane_strip};
pub(crate) use elementwise::{
    add, add_scaled, apply, gate, layer_norm, rms_norm, rope, scale, softcap, softmax, store_f16,
};
pub(crate) use matvec::{matvec, unpack};
pub(crate) use probe::{count_up, n_chains, read_words};
pub(crate) use stored::{
    Bf16, F16, F32, Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Mxfp4, Nvfp4, Q1_0, Q2_0, Q2K, Q3K,
    Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Stored, Tq1_0, Tq2_0,
};
pub(crate) use tile::strip;

/// Number of lanes.
pub(crate) const LANES: usize = 16;

/// Sixteen `f32` lanes of an instruction set.
///
/// # Safety
/// Every method may be called only where the instruction set is available. Methods that take a pointer read or write
/// what their name says: sixteen elements at any alignment.
pub(crate) trait Lanes: Copy {
    /// Rows whose products with a vector have room side by side; a multiple of four.
    const MAX_STREAMS: usize;
    /// Sixteen 32-bit integers.
    type Ints: Copy;
    /// A function of the integers 0..4, made once and applied to many.
    type Table4: Copy;
    /// A function of the integers 0..8, made once and applied to many.
    type Table8: Copy;
    /// A function of the integers 0..16, made once and applied to many.
    type Table16: Copy;
    /// A function of the integers 0..32, made once and applied to many.
    type Table32: Copy;
    /// Any sixteen values, one for each of the integers 0..16.
    type Values16: Copy;

    unsafe fn splat(value: f32) -> Self;
    /// The number at `src` in every lane. It is read from memory there and then, which costs no shuffle.
    unsafe fn splat_at(src: *const f32) -> Self;
    /// Lanes 0..8 the first binary16 number at `src`, lanes 8..16 the second; eight bytes can be read there.
    unsafe fn halves_f16(src: *const u8) -> Self;
    unsafe fn load(src: *const f32) -> Self;
    unsafe fn load_f16(src: *const u16) -> Self;
    unsafe fn load_bf16(src: *const u16) -> Self;
    unsafe fn store(self, dst: *mut f32);
    /// Asks for the cache line at `src`, which may be any address.
    unsafe fn prefetch(src: *const u8);
    /// As [`Self::prefetch`], to the second-level cache.
    unsafe fn prefetch_far(src: *const u8);
    /// Rounds to nearest even.
    unsafe fn store_f16(self, dst: *mut u16);

    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, one rounding.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `self * factor - term`, one rounding.
    unsafe fn mul_sub(self, factor: Self, term: Self) -> Self;
    /// `if self < other { self } else { other }`
    unsafe fn min(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`
    unsafe fn max(self, other: Self) -> Self;

    /// `if a < b { 0.0 } else { self }`
    unsafe fn zero_where_less(self, a: Self, b: Self) -> Self;
    /// `self * 2^n`, one rounding, for integers `n` in -151..=129 and `self` from 0.5 to 2; a NaN for a NaN.
    unsafe fn mul_power_of_two(self, n: Self) -> Self;

    /// The tree 16 → 8 → 4 → 2 → 1.
    unsafe fn sum(self) -> f32;
    /// The tree of each of four, written to `dst[0..4]`.
    unsafe fn sum4(lanes: [Self; 4], dst: *mut f32);
    /// Transposes the 16 × 16 values at `src`, whose rows are `stride` values apart: column `c` goes to `columns[c]`.
    unsafe fn transpose(src: *const f32, stride: usize, columns: [*mut f32; LANES]);

    unsafe fn to_bits(self) -> Self::Ints;
    unsafe fn from_bits(bits: Self::Ints) -> Self;
    /// The integers as numbers, each below 2^24 in magnitude.
    unsafe fn from_ints(ints: Self::Ints) -> Self;
    unsafe fn ints(value: i32) -> Self::Ints;
    unsafe fn ints_from_u8(src: *const u8) -> Self::Ints;
    unsafe fn ints_from_i8(src: *const u8) -> Self::Ints;
    /// As [`Self::ints_from_i8`], for bytes that this function's caller has just computed: it widens them from memory,
    /// where a compiler would rather keep them in registers and shuffle.
    unsafe fn ints_from_i8_at(src: *const i8) -> Self::Ints;
    /// The eight scales and then the eight mins of a Q4_K or Q5_K block, from the twelve bytes at `src`, where sixteen can
    /// be read.
    unsafe fn six_bit_scales(src: *const u8) -> Self::Ints;
    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn sub_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn shift_left(ints: Self::Ints, n_bits: u32) -> Self::Ints;
    /// Fills with zeros.
    unsafe fn shift_right(ints: Self::Ints, n_bits: u32) -> Self::Ints;

    /// `q -> scale * q - min`, one rounding, for q < 4.
    unsafe fn affine4(scale: Self, min: Self) -> Self::Table4;
    /// Applies [`Self::affine4`] to the low two bits of each integer.
    unsafe fn apply_affine4(table: Self::Table4, ints: Self::Ints) -> Self;
    /// `q -> (q - 4) * scale`, for q < 8.
    unsafe fn centred8(scale: Self) -> Self::Table8;
    /// Applies [`Self::centred8`] to the low two bits of each of `low` and, of weight 4, bit `bit` of each of `third`.
    unsafe fn apply_centred8(table: Self::Table8, low: Self::Ints, third: Self::Ints, bit: u32) -> Self;
    /// `q -> values[q] * scale`.
    unsafe fn values16(values: &[f32; 16], scale: Self) -> Self::Values16;
    /// Applies [`Self::values16`] to the low four bits of each integer.
    unsafe fn apply_values16(table: Self::Values16, ints: Self::Ints) -> Self;
    /// `q -> scale * q - min`, one rounding, for q < 16.
    unsafe fn affine16(scale: Self, min: Self) -> Self::Table16;
    /// Applies [`Self::affine16`] to the low four bits of each integer.
    unsafe fn apply_affine16(table: Self::Table16, ints: Self::Ints) -> Self;
    /// `q -> (q - 8) * scale`, for q < 16.
    unsafe fn centred16(scale: Self) -> Self::Table16;
    /// Applies [`Self::centred16`] to the low four bits of each integer.
    unsafe fn apply_centred16(table: Self::Table16, ints: Self::Ints) -> Self;
    /// `q -> scale * q - min`, one rounding, for q < 32.
    unsafe fn affine32(scale: Self, min: Self) -> Self::Table32;
    /// Applies [`Self::affine32`] to the low four bits of each of `low` and, of weight 16, bit `bit` of each of `fifth`.
    unsafe fn apply_affine32(table: Self::Table32, low: Self::Ints, fifth: Self::Ints, bit: u32) -> Self;
    /// Applies [`Self::affine32`] to the low four bits of each of `low` and, of weight 16 and for lane `l`, bit
    /// `16 * HALF + l` of `fifth`.
    unsafe fn apply_affine32_bits<const HALF: usize>(table: Self::Table32, low: Self::Ints, fifth: u32) -> Self;
    /// `q -> (q - 16) * scale`, for q < 32.
    unsafe fn centred32(scale: Self) -> Self::Table32;
    /// Applies [`Self::centred32`] to the low four bits of each of `low` and, of weight 16 and for lane `l`, bit
    /// `16 * HALF + l` of `fifth`.
    unsafe fn apply_centred32<const HALF: usize>(table: Self::Table32, low: Self::Ints, fifth: u32) -> Self;
    /// `q - 32` of 128 six-bit integers of half a Q6_K block: their low four bits are the low halves, then the high
    /// halves, of the 64 bytes at `low`; their upper two bits are bits 0 and 1, then 2 and 3, and so on of the 32 bytes at
    /// `high`.
    unsafe fn six_bits(low: *const u8, high: *const u8, dst: &mut [i8; 128]);

    /// One binary16 number.
    unsafe fn f16(bits: u16) -> f32;
    /// The binary16 number at `src`, where eight bytes can be read.
    unsafe fn f16_of_eight(src: *const u8) -> f32;
}

/// The first `n` ≤ 16 elements at `src`, then zeros.
///
/// # Safety
/// `V` is available and `src` is valid for `n` elements.
#[inline(always)]
unsafe fn load_n<V: Lanes>(src: *const f32, n: usize) -> V {
    // SAFETY: by the caller; the copy has room for sixteen.
    unsafe {
        if n == LANES {
            return V::load(src);
        }
        let mut copy = [0.0f32; LANES];
        std::ptr::copy_nonoverlapping(src, copy.as_mut_ptr(), n);
        V::load(copy.as_ptr())
    }
}

/// Stores the first `n` ≤ 16 lanes.
///
/// # Safety
/// `V` is available and `dst` is valid for `n` elements.
#[inline(always)]
unsafe fn store_n<V: Lanes>(lanes: V, dst: *mut f32, n: usize) {
    // SAFETY: by the caller; the copy has room for sixteen.
    unsafe {
        if n == LANES {
            return lanes.store(dst);
        }
        let mut copy = [0.0f32; LANES];
        lanes.store(copy.as_mut_ptr());
        std::ptr::copy_nonoverlapping(copy.as_ptr(), dst, n);
    }
}

/// The table of an instruction set: a function with its target features for each kernel, and `SET` listing them.
macro_rules! kernel_set {
    ($isa:expr, $lanes:ty, $features:literal, tile: $tile_rows:literal x $tile_tokens:literal,
     by_lane: $lane_registers:literal x $lane_tokens:literal | $lane_tokens_less:literal,
     scored: $scored:literal x $groups:literal, mixed: $mixed:literal x $columns:literal) => {
        use std::ops::Range;

        use apr_tensor::DType;

        use crate::by_lane::LaneStrip;
        use crate::kv::QueryBlock;
        use crate::lanes;
        use crate::nonlinearity::Nonlinearity;
        use crate::set::{KernelSet, Strip};

        pub(super) static SET: KernelSet = KernelSet {
            isa: $isa,
            matvec,
            unpack,
            strip,
            tile_rows: $tile_rows,
            tile_tokens: $tile_tokens,
            lane_major,
            lane_strip,
            lane_tile_rows: $lane_registers * lanes::LANES,
            lane_tile_tokens: $lane_tokens,
            rms_norm,
            layer_norm,
            rope,
            softmax,
            apply,
            gate,
            softcap,
            scale,
            add,
            add_scaled,
            attend,
            join,
            store_f16,
            read_words,
            count_up,
        };

        unsafe fn matvec(dtype: DType, rows: &[u8], x: &[f32], y: &mut [f32]) {
            #[target_feature(enable = $features)]
            unsafe fn of<D: lanes::Stored>(rows: &[u8], x: &[f32], y: &mut [f32]) {
                // SAFETY: this function has the instructions; lengths are the caller's promise.
                unsafe { lanes::matvec::<$lanes, D>(rows, x, y) }
            }
            // SAFETY: the caller holds a reference to `SET`, so the instructions are there.
            unsafe { lanes::for_dtype!(dtype, of(rows, x, y)) }
        }

        unsafe fn unpack(dtype: DType, src: &[u8], n: usize, dst: &mut [f32], stride: usize) {
            #[target_feature(enable = $features)]
            unsafe fn of<D: lanes::Stored>(src: &[u8], n: usize, dst: &mut [f32], stride: usize) {
                // SAFETY: this function has the instructions; lengths are the caller's promise.
                unsafe { lanes::unpack::<$lanes, D>(src, n, dst, stride) }
            }
            // SAFETY: the caller holds a reference to `SET`, so the instructions are there.
            unsafe { lanes::for_dtype!(dtype, of(src, n, dst, stride)) }
        }

        lanes::kernels! { $lanes, $features,
            fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]);
            fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, y: &mut [f32]);
            fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]);
            fn softmax(x: &mut [f32]);
            fn apply(f: Nonlinearity, x: &mut [f32]);
            fn gate(f: Nonlinearity, gate: &mut [f32], up: &[f32]);
            fn softcap(x: &mut [f32], cap: f32);
            fn scale(x: &mut [f32], factor: f32);
            fn add(x: &mut [f32], y: &[f32]);
            fn add_scaled(x: &mut [f32], y: &[f32], factor: f32);
            fn join(block: QueryBlock<'_>);
            fn store_f16(x: &[f32], bits: &mut [u16]);
            fn read_words(data: &[u8], sum: &mut u32);
        }

        #[target_feature(enable = $features)]
        unsafe fn count_up(n_steps: usize, sums: &mut [f32]) {
            // SAFETY: this function has the instructions; lengths are the caller's promise.
            unsafe { lanes::count_up::<$lanes, { lanes::n_chains($isa) }>(n_steps, sums) }
        }

        #[target_feature(enable = $features)]
        unsafe fn attend(block: QueryBlock<'_>, chunks: Range<usize>) {
            // SAFETY: this function has the instructions; lengths are the caller's promise.
            unsafe { lanes::attend::<$lanes, $scored, $groups, $mixed, $columns>(block, chunks) }
        }

        #[target_feature(enable = $features)]
        unsafe fn strip(strip: Strip<'_>) {
            // SAFETY: this function has the instructions; lengths are the caller's promise.
            unsafe { lanes::strip::<$lanes, $tile_rows>(strip) }
        }

        #[target_feature(enable = $features)]
        unsafe fn lane_strip(strip: LaneStrip<'_>) {
            // SAFETY: this function has the instructions; lengths are the caller's promise.
            unsafe { lanes::lane_strip::<$lanes, $lane_registers, $lane_tokens, $lane_tokens_less>(strip) }
        }

        #[target_feature(enable = $features)]
        unsafe fn lane_major(
            src: *const f32,
            stride: usize,
            n_groups: usize,
            dst: *mut f32,
            lane_stride: usize,
            width: usize,
        ) {
            // SAFETY: this function has the instructions; places are the caller's promise.
            unsafe { lanes::lane_major::<$lanes>(src, stride, n_groups, dst, lane_stride, width) }
        }
    };
}

/// Functions of this module for one instruction set.
macro_rules! kernels {
    ($lanes:ty, $features:literal, $(fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            #[target_feature(enable = $features)]
            unsafe fn $name($($arg: $type),*) {
                // SAFETY: this function has the instructions; lengths are the caller's promise.
                unsafe { lanes::$name::<$lanes>($($arg),*) }
            }
        )*
    };
}

/// Calls a function that is generic over [`Stored`] for a dtype.
macro_rules! for_dtype {
    ($dtype:expr, $of:ident($($arg:expr),*)) => {
        match $dtype {
            DType::F32 => $of::<lanes::F32>($($arg),*),
            DType::F16 => $of::<lanes::F16>($($arg),*),
            DType::BF16 => $of::<lanes::Bf16>($($arg),*),
            DType::Q4_0 => $of::<lanes::Q4_0>($($arg),*),
            DType::Q4_1 => $of::<lanes::Q4_1>($($arg),*),
            DType::Q5_0 => $of::<lanes::Q5_0>($($arg),*),
            DType::Q5_1 => $of::<lanes::Q5_1>($($arg),*),
            DType::Q8_0 => $of::<lanes::Q8_0>($($arg),*),
            DType::Q2K => $of::<lanes::Q2K>($($arg),*),
            DType::Q3K => $of::<lanes::Q3K>($($arg),*),
            DType::Q4K => $of::<lanes::Q4K>($($arg),*),
            DType::Q5K => $of::<lanes::Q5K>($($arg),*),
            DType::Q6K => $of::<lanes::Q6K>($($arg),*),
            DType::IQ4NL => $of::<lanes::Iq4Nl>($($arg),*),
            DType::IQ4XS => $of::<lanes::Iq4Xs>($($arg),*),
            DType::IQ1S => $of::<lanes::Iq1S>($($arg),*),
            DType::IQ1M => $of::<lanes::Iq1M>($($arg),*),
            DType::IQ2XXS => $of::<lanes::Iq2Xxs>($($arg),*),
            DType::IQ2XS => $of::<lanes::Iq2Xs>($($arg),*),
            DType::IQ2S => $of::<lanes::Iq2S>($($arg),*),
            DType::IQ3XXS => $of::<lanes::Iq3Xxs>($($arg),*),
            DType::IQ3S => $of::<lanes::Iq3S>($($arg),*),
            DType::TQ1_0 => $of::<lanes::Tq1_0>($($arg),*),
            DType::TQ2_0 => $of::<lanes::Tq2_0>($($arg),*),
            DType::MXFP4 => $of::<lanes::Mxfp4>($($arg),*),
            DType::NVFP4 => $of::<lanes::Nvfp4>($($arg),*),
            DType::Q1_0 => $of::<lanes::Q1_0>($($arg),*),
            DType::Q2_0 => $of::<lanes::Q2_0>($($arg),*),
            other => unreachable!("Matrix::new takes dtypes that hold weights, and {other} is none"),
        }
    };
}

pub(crate) use {for_dtype, kernel_set, kernels};
