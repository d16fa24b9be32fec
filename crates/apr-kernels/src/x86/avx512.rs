//! AVX-512 F, BW, DQ and VL: sixteen lanes are one register.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::isa::Isa;
use crate::lanes::{LANES, Lanes, kernel_set};

#[derive(Clone, Copy)]
struct Avx512(__m512);

kernel_set!(Isa::Avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", tile: 4 x 6, by_lane: 2 x 12 | 11, scored: 7 x 2, mixed: 7 x 4);

impl Lanes for Avx512 {
    const MAX_STREAMS: usize = 8;
    type Ints = __m512i;
    /// The function's values, in each quarter of the register.
    type Table4 = __m512;
    /// The function's values, twice.
    type Table8 = __m512;
    /// The function's values.
    type Table16 = __m512;
    /// The function's values.
    type Table32 = [__m512; 2];
    /// The function's values.
    type Values16 = __m512;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm512_set1_ps(value))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn splat_at(src: *const f32) -> Self {
        let lanes;
        // SAFETY: one number by the trait's contract; the instruction changes one register.
        unsafe {
            asm!("vbroadcastss {}, dword ptr [{}]", out(zmm_reg) lanes, in(reg) src, options(pure, readonly, nostack, preserves_flags));
        }
        Self(lanes)
    }

    #[inline]
    #[target_feature(enable = "avx512f,f16c")]
    unsafe fn halves_f16(src: *const u8) -> Self {
        // SAFETY: by the trait's contract.
        let numbers = unsafe { super::cvtph_of_eight(src) };
        let halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        Self(_mm512_permutexvar_ps(halves, _mm512_castps128_ps512(numbers)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(src: *const f32) -> Self {
        // SAFETY: sixteen elements by the trait's contract.
        Self(unsafe { _mm512_loadu_ps(src) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_f16(src: *const u16) -> Self {
        // The intrinsic converts from a register only, which costs two operations more.
        let lanes;
        // SAFETY: sixteen elements by the trait's contract; the instruction changes one register.
        unsafe {
            asm!("vcvtph2ps {}, ymmword ptr [{}]", out(zmm_reg) lanes, in(reg) src, options(pure, readonly, nostack, preserves_flags));
        }
        Self(lanes)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn load_bf16(src: *const u16) -> Self {
        // Word i becomes the upper half of lane i and the lower half zero, in one operation.
        const UPPER_HALVES: u32 = 0xaaaa_aaaa;
        let places = _mm512_setr_epi32(
            0, 0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000, 0x5_0000, 0x6_0000, 0x7_0000, 0x8_0000, 0x9_0000, 0xa_0000,
            0xb_0000, 0xc_0000, 0xd_0000, 0xe_0000, 0xf_0000,
        );
        // SAFETY: sixteen elements by the trait's contract.
        let words = _mm512_castsi256_si512(unsafe { _mm256_loadu_si256(src.cast()) });
        Self(_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(UPPER_HALVES, places, words)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(self, dst: *mut f32) {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe { _mm512_storeu_ps(dst, self.0) }
    }

    #[inline]
    unsafe fn prefetch(src: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(src.cast()) }
    }

    #[inline]
    unsafe fn prefetch_far(src: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(src.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store_f16(self, dst: *mut u16) {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe { _mm256_storeu_si256(dst.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm512_div_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, factor.0, term.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_sub(self, factor: Self, term: Self) -> Self {
        Self(_mm512_fmsub_ps(self.0, factor.0, term.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn zero_where_less(self, a: Self, b: Self) -> Self {
        Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a.0, b.0), self.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_power_of_two(self, n: Self) -> Self {
        Self(_mm512_scalef_ps(self.0, n.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn sum(self) -> f32 {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sum4([a, b, c, d]: [Self; 4], dst: *mut f32) {
        // 16 → 8: the halves of two registers side by side.
        let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a.0, b.0), _mm512_shuffle_f32x4::<0xee>(a.0, b.0));
        let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c.0, d.0), _mm512_shuffle_f32x4::<0xee>(c.0, d.0));
        // 8 → 4: one quarter of the register for each of the four.
        let four = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
        // 4 → 2 → 1 within each quarter.
        let two = _mm512_add_ps(four, _mm512_permute_ps::<0x4e>(four));
        let one = _mm512_add_ps(two, _mm512_permute_ps::<0xb1>(two));
        let sums = _mm512_maskz_compress_ps(0x1111, one);
        // SAFETY: four elements by the trait's contract.
        unsafe { _mm_storeu_ps(dst, _mm512_castps512_ps128(sums)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn transpose(src: *const f32, stride: usize, columns: [*mut f32; LANES]) {
        // SAFETY: sixteen rows and columns of sixteen values by the trait's contract.
        unsafe {
            for first in (0..LANES).step_by(4) {
                // Four columns of rows r, r + 4, r + 8 and r + 12, put side by side as they are read.
                let rows = |r: usize| {
                    let at = |r: usize| _mm_loadu_ps(src.add(r * stride + first));
                    let lanes = _mm512_castps128_ps512(at(r));
                    let lanes = _mm512_insertf32x4::<1>(lanes, at(r + 4));
                    let lanes = _mm512_insertf32x4::<2>(lanes, at(r + 8));
                    _mm512_insertf32x4::<3>(lanes, at(r + 12))
                };
                let (a, b, c, d) = (rows(0), rows(1), rows(2), rows(3));
                // 4 × 4 values in each quarter.
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                _mm512_storeu_ps(columns[first], _mm512_shuffle_ps::<0x44>(ab, cd));
                _mm512_storeu_ps(columns[first + 1], _mm512_shuffle_ps::<0xee>(ab, cd));
                let (ab, cd) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                _mm512_storeu_ps(columns[first + 2], _mm512_shuffle_ps::<0x44>(ab, cd));
                _mm512_storeu_ps(columns[first + 3], _mm512_shuffle_ps::<0xee>(ab, cd));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn to_bits(self) -> __m512i {
        _mm512_castps_si512(self.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn from_bits(bits: __m512i) -> Self {
        Self(_mm512_castsi512_ps(bits))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn from_ints(ints: __m512i) -> Self {
        Self(_mm512_cvtepi32_ps(ints))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn ints(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn ints_from_u8(src: *const u8) -> __m512i {
        // SAFETY: sixteen elements by the trait's contract.
        _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(src.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn ints_from_i8(src: *const u8) -> __m512i {
        // SAFETY: sixteen elements by the trait's contract.
        _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(src.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn ints_from_i8_at(src: *const i8) -> __m512i {
        let ints;
        // SAFETY: sixteen elements by the trait's contract; the instruction changes one register.
        unsafe {
            asm!("vpmovsxbd {}, xmmword ptr [{}]", out(zmm_reg) ints, in(reg) src, options(pure, readonly, nostack, preserves_flags));
        }
        ints
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx2")]
    unsafe fn six_bit_scales(src: *const u8) -> __m512i {
        // SAFETY: sixteen bytes by the trait's contract.
        _mm512_cvtepu8_epi32(unsafe { super::six_bit_scales(src) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_ints(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sub_ints(a: __m512i, b: __m512i) -> __m512i {
        _mm512_sub_epi32(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn shift_left(ints: __m512i, n_bits: u32) -> __m512i {
        _mm512_sllv_epi32(ints, _mm512_set1_epi32(n_bits as i32))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn shift_right(ints: __m512i, n_bits: u32) -> __m512i {
        _mm512_srlv_epi32(ints, _mm512_set1_epi32(n_bits as i32))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn affine4(scale: Self, min: Self) -> __m512 {
        _mm512_fmsub_ps(scale.0, _mm512_setr4_ps(0.0, 1.0, 2.0, 3.0), min.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_affine4(table: __m512, ints: __m512i) -> Self {
        Self(_mm512_permutevar_ps(table, ints))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn centred8(scale: Self) -> __m512 {
        let low = [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];
        let [a, b, c, d, e, f, g, h] = low;
        _mm512_mul_ps(_mm512_setr_ps(a, b, c, d, e, f, g, h, a, b, c, d, e, f, g, h), scale.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_centred8(table: __m512, low: __m512i, third: __m512i, bit: u32) -> Self {
        // SAFETY: this function has the instructions.
        let third =
            unsafe { if bit < 2 { Self::shift_left(third, 2 - bit) } else { Self::shift_right(third, bit - 2) } };
        // Bits 0 and 1 of `low`, all others of `third`; the permutation looks at bit 3, too, hence a table that repeats.
        let q = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi32(3), low, third);
        Self(_mm512_permutexvar_ps(q, table))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn values16(values: &[f32; 16], scale: Self) -> __m512 {
        // SAFETY: sixteen elements.
        _mm512_mul_ps(unsafe { _mm512_loadu_ps(values.as_ptr()) }, scale.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_values16(table: __m512, ints: __m512i) -> Self {
        Self(_mm512_permutexvar_ps(ints, table))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn affine16(scale: Self, min: Self) -> __m512 {
        _mm512_fmsub_ps(scale.0, from(0.0), min.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_affine16(table: __m512, ints: __m512i) -> Self {
        Self(_mm512_permutexvar_ps(ints, table))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn centred16(scale: Self) -> __m512 {
        _mm512_mul_ps(from(-8.0), scale.0)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_centred16(table: __m512, ints: __m512i) -> Self {
        Self(_mm512_permutexvar_ps(ints, table))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn affine32(scale: Self, min: Self) -> [__m512; 2] {
        let (scale, min) = (scale.0, min.0);
        [_mm512_fmsub_ps(scale, from(0.0), min), _mm512_fmsub_ps(scale, from(16.0), min)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_affine32(table: [__m512; 2], low: __m512i, fifth: __m512i, bit: u32) -> Self {
        let to_bit_4 = _mm512_set1_epi32(bit as i32 - 4);
        let fifth = _mm512_rorv_epi32(fifth, to_bit_4);
        let q = _mm512_ternarylogic_epi32::<0xd8>(low, fifth, _mm512_set1_epi32(1 << 4));
        Self(_mm512_permutex2var_ps(table[0], q, table[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_affine32_bits<const HALF: usize>(table: [__m512; 2], low: __m512i, fifth: u32) -> Self {
        Self(_mm512_permutex2var_ps(table[0], five_bits::<HALF>(low, fifth), table[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn centred32(scale: Self) -> [__m512; 2] {
        let scale = scale.0;
        [_mm512_mul_ps(from(-16.0), scale), _mm512_mul_ps(from(0.0), scale)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn apply_centred32<const HALF: usize>(table: [__m512; 2], low: __m512i, fifth: u32) -> Self {
        Self(_mm512_permutex2var_ps(table[0], five_bits::<HALF>(low, fifth), table[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2")]
    unsafe fn six_bits(low: *const u8, high: *const u8, dst: &mut [i8; 128]) {
        // SAFETY: 64 and 32 bytes by the trait's contract; `dst` takes two registers.
        unsafe {
            let low = _mm512_loadu_si512(low.cast());
            let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(high.cast()));
            let (low_bits, all_bits) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x3f));
            let centre = _mm512_set1_epi8(32);
            // In each half of a register its two bits come to lie above the four low ones.
            let counts =
                |first: i16, second: i16| _mm512_inserti64x4::<1>(_mm512_set1_epi16(first), _mm256_set1_epi16(second));
            let first = _mm512_sllv_epi16(high, counts(4, 2));
            let second = _mm512_srlv_epi16(high, counts(0, 2));
            let first = _mm512_ternarylogic_epi32::<0xd8>(first, low, low_bits);
            let second = _mm512_ternarylogic_epi32::<0xd8>(second, _mm512_srli_epi16::<4>(low), low_bits);
            let dst = dst.as_mut_ptr().cast::<__m512i>();
            dst.write_unaligned(_mm512_sub_epi8(_mm512_and_si512(first, all_bits), centre));
            dst.add(1).write_unaligned(_mm512_sub_epi8(_mm512_and_si512(second, all_bits), centre));
        }
    }

    #[inline]
    #[target_feature(enable = "f16c")]
    unsafe fn f16(bits: u16) -> f32 {
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
    }

    #[inline]
    #[target_feature(enable = "f16c")]
    unsafe fn f16_of_eight(src: *const u8) -> f32 {
        // SAFETY: by the trait's contract.
        _mm_cvtss_f32(unsafe { super::cvtph_of_eight(src) })
    }
}
/// `first`, `first + 1`, …, sixteen small integers.
#[inline]
#[target_feature(enable = "avx512f")]
fn from(first: f32) -> __m512 {
    let iota = _mm512_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0);
    _mm512_add_ps(iota, _mm512_set1_ps(first))
}

/// The low four bits of each of `low` and above them, for lane `l`, bit `16 * HALF + l` of `fifth`.
#[inline]
#[target_feature(enable = "avx512f")]
fn five_bits<const HALF: usize>(low: __m512i, fifth: u32) -> __m512i {
    // Rotated by its own count, each lane's bit comes to lie above the four low ones.
    let to_bit_4 = if HALF == 0 {
        _mm512_setr_epi32(28, 29, 30, 31, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    } else {
        _mm512_setr_epi32(12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27)
    };
    let fifth = _mm512_rorv_epi32(_mm512_set1_epi32(fifth as i32), to_bit_4);
    // Bit 4 of `fifth`, all others of `low`; a permutation of two registers looks at five bits.
    _mm512_ternarylogic_epi32::<0xd8>(low, fifth, _mm512_set1_epi32(1 << 4))
}
