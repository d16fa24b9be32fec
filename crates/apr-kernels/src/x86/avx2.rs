//! AVX2, FMA and F16C: sixteen lanes are two registers.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::isa::Isa;
use crate::lanes::{LANES, Lanes, kernel_set};

/// Lanes 0..8 and lanes 8..16.
#[derive(Clone, Copy)]
struct Avx2(__m256, __m256);

/// As [`Avx2`].
#[derive(Clone, Copy)]
struct Avx2Ints(__m256i, __m256i);

kernel_set!(Isa::Avx2, Avx2, "avx2,fma,f16c", tile: 2 x 3, by_lane: 1 x 6 | 5, scored: 6 x 1, mixed: 6 x 1);

impl Lanes for Avx2 {
    const MAX_STREAMS: usize = 4;
    type Ints = Avx2Ints;
    /// The function's values, in each half of the register.
    type Table4 = __m256;
    /// The function's values.
    type Table8 = __m256;
    /// Factor and subtrahend: a register is too narrow for the sixteen values themselves.
    type Table16 = (__m256, __m256);
    /// As `Table16`.
    type Table32 = (__m256, __m256);
    /// The values of 0..8 and of 8..16.
    type Values16 = (__m256, __m256);

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value), _mm256_set1_ps(value))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn splat_at(src: *const f32) -> Self {
        let half;
        // SAFETY: one number by the trait's contract; the instruction changes one register.
        unsafe {
            asm!("vbroadcastss {}, dword ptr [{}]", out(ymm_reg) half, in(reg) src, options(pure, readonly, nostack, preserves_flags));
        }
        Self(half, half)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn halves_f16(src: *const u8) -> Self {
        // SAFETY: by the trait's contract.
        let numbers = unsafe { super::cvtph_of_eight(src) };
        Self(_mm256_broadcastss_ps(numbers), _mm256_broadcastss_ps(_mm_movehdup_ps(numbers)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(src: *const f32) -> Self {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe { Self(_mm256_loadu_ps(src), _mm256_loadu_ps(src.add(8))) }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load_f16(src: *const u16) -> Self {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe {
            Self(_mm256_cvtph_ps(_mm_loadu_si128(src.cast())), _mm256_cvtph_ps(_mm_loadu_si128(src.add(8).cast())))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_bf16(src: *const u16) -> Self {
        // SAFETY: sixteen elements by the trait's contract.
        let words = unsafe { [_mm_loadu_si128(src.cast()), _mm_loadu_si128(src.add(8).cast())] };
        let [low, high] = words.map(|words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words))));
        Self(low, high)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store(self, dst: *mut f32) {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe {
            _mm256_storeu_ps(dst, self.0);
            _mm256_storeu_ps(dst.add(8), self.1);
        }
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
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn store_f16(self, dst: *mut u16) {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe {
            _mm_storeu_si128(dst.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(dst.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul_sub(self, factor: Self, term: Self) -> Self {
        Self(_mm256_fmsub_ps(self.0, factor.0, term.0), _mm256_fmsub_ps(self.1, factor.1, term.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn zero_where_less(self, a: Self, b: Self) -> Self {
        let kept = |x, a, b| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(a, b), x);
        Self(kept(self.0, a.0, b.0), kept(self.1, a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn mul_power_of_two(self, n: Self) -> Self {
        Self(mul_power_of_two(self.0, n.0), mul_power_of_two(self.1, n.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sum(self) -> f32 {
        let eight = _mm256_add_ps(self.0, self.1);
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sum4([a, b, c, d]: [Self; 4], dst: *mut f32) {
        // 16 → 8
        let (a, b) = (_mm256_add_ps(a.0, a.1), _mm256_add_ps(b.0, b.1));
        let (c, d) = (_mm256_add_ps(c.0, c.1), _mm256_add_ps(d.0, d.1));
        // 8 → 4: the halves of two registers side by side.
        let ab = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        let cd = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
        // 4 → 2: each half now holds two lanes of a and c, and of b and d.
        let two = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd));
        // 2 → 1: sums of a, c in lanes 0, 2 of the lower half; of b, d in those of the upper.
        let one = _mm256_add_ps(two, _mm256_movehdup_ps(two));
        let sums = _mm_unpacklo_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps::<1>(one));
        let cd = _mm_unpackhi_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps::<1>(one));
        // SAFETY: four elements by the trait's contract.
        unsafe { _mm_storeu_ps(dst, _mm_movelh_ps(sums, cd)) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn transpose(src: *const f32, stride: usize, columns: [*mut f32; LANES]) {
        // SAFETY: sixteen rows and columns of sixteen values by the trait's contract.
        unsafe {
            for half in [0, 8] {
                for first in (0..LANES).step_by(4) {
                    // Four columns of rows r and r + 4, put side by side as they are read.
                    let rows = |r: usize| {
                        let at = |r: usize| _mm_loadu_ps(src.add(r * stride + first));
                        _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(at(half + r)), at(half + r + 4))
                    };
                    let (a, b, c, d) = (rows(0), rows(1), rows(2), rows(3));
                    // 4 × 4 values in each half.
                    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                    _mm256_storeu_ps(columns[first].add(half), _mm256_shuffle_ps::<0x44>(ab, cd));
                    _mm256_storeu_ps(columns[first + 1].add(half), _mm256_shuffle_ps::<0xee>(ab, cd));
                    let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                    _mm256_storeu_ps(columns[first + 2].add(half), _mm256_shuffle_ps::<0x44>(ab, cd));
                    _mm256_storeu_ps(columns[first + 3].add(half), _mm256_shuffle_ps::<0xee>(ab, cd));
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn to_bits(self) -> Avx2Ints {
        Avx2Ints(_mm256_castps_si256(self.0), _mm256_castps_si256(self.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn from_bits(bits: Avx2Ints) -> Self {
        Self(_mm256_castsi256_ps(bits.0), _mm256_castsi256_ps(bits.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn from_ints(ints: Avx2Ints) -> Self {
        Self(_mm256_cvtepi32_ps(ints.0), _mm256_cvtepi32_ps(ints.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn ints(value: i32) -> Avx2Ints {
        Avx2Ints(_mm256_set1_epi32(value), _mm256_set1_epi32(value))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn ints_from_u8(src: *const u8) -> Avx2Ints {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe {
            Avx2Ints(
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(src.cast())),
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(src.add(8).cast())),
            )
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn ints_from_i8(src: *const u8) -> Avx2Ints {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe {
            Avx2Ints(
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(src.cast())),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(src.add(8).cast())),
            )
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn ints_from_i8_at(src: *const i8) -> Avx2Ints {
        // SAFETY: sixteen elements by the trait's contract.
        unsafe { Self::ints_from_i8(src.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn six_bit_scales(src: *const u8) -> Avx2Ints {
        // SAFETY: sixteen bytes by the trait's contract.
        let bytes = unsafe { super::six_bit_scales(src) };
        Avx2Ints(_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add_ints(a: Avx2Ints, b: Avx2Ints) -> Avx2Ints {
        Avx2Ints(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sub_ints(a: Avx2Ints, b: Avx2Ints) -> Avx2Ints {
        Avx2Ints(_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn shift_left(ints: Avx2Ints, n_bits: u32) -> Avx2Ints {
        let n_bits = _mm256_set1_epi32(n_bits as i32);
        Avx2Ints(_mm256_sllv_epi32(ints.0, n_bits), _mm256_sllv_epi32(ints.1, n_bits))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn shift_right(ints: Avx2Ints, n_bits: u32) -> Avx2Ints {
        let n_bits = _mm256_set1_epi32(n_bits as i32);
        Avx2Ints(_mm256_srlv_epi32(ints.0, n_bits), _mm256_srlv_epi32(ints.1, n_bits))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn affine4(scale: Self, min: Self) -> __m256 {
        let q = _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0);
        _mm256_fmsub_ps(scale.0, q, min.0)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn apply_affine4(table: __m256, ints: Avx2Ints) -> Self {
        Self(_mm256_permutevar_ps(table, ints.0), _mm256_permutevar_ps(table, ints.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn centred8(scale: Self) -> __m256 {
        _mm256_mul_ps(_mm256_setr_ps(-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0), scale.0)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn apply_centred8(table: __m256, low: Avx2Ints, third: Avx2Ints, bit: u32) -> Self {
        // SAFETY: this function has the instructions.
        let third =
            unsafe { if bit < 2 { Self::shift_left(third, 2 - bit) } else { Self::shift_right(third, bit - 2) } };
        // The permutation looks at three bits only.
        let q = low_bits::<3>(low).or(low_bits::<-4>(third));
        Self(_mm256_permutevar8x32_ps(table, q.0), _mm256_permutevar8x32_ps(table, q.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn values16(values: &[f32; 16], scale: Self) -> (__m256, __m256) {
        // SAFETY: sixteen elements.
        let (low, high) = unsafe { (_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))) };
        (_mm256_mul_ps(low, scale.0), _mm256_mul_ps(high, scale.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn apply_values16(table: (__m256, __m256), ints: Avx2Ints) -> Self {
        Self(one_of_16(table, ints.0), one_of_16(table, ints.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn affine16(scale: Self, min: Self) -> (__m256, __m256) {
        (scale.0, min.0)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn apply_affine16((scale, min): (__m256, __m256), ints: Avx2Ints) -> Self {
        let low = low_bits::<15>(ints).numbers();
        Self(_mm256_fmsub_ps(scale, low.0, min), _mm256_fmsub_ps(scale, low.1, min))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn centred16(scale: Self) -> (__m256, __m256) {
        (scale.0, _mm256_set1_ps(8.0))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn apply_centred16((scale, centre): (__m256, __m256), ints: Avx2Ints) -> Self {
        let low = low_bits::<15>(ints).numbers();
        Self(_mm256_mul_ps(_mm256_sub_ps(low.0, centre), scale), _mm256_mul_ps(_mm256_sub_ps(low.1, centre), scale))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn affine32(scale: Self, min: Self) -> (__m256, __m256) {
        (scale.0, min.0)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn apply_affine32((scale, min): (__m256, __m256), low: Avx2Ints, fifth: Avx2Ints, bit: u32) -> Self {
        // SAFETY: this function has the instructions.
        let fifth = unsafe { Self::shift_right(fifth, bit) };
        let q = low_bits::<15>(low).or(low_bits::<1>(fifth).shift_left_4()).numbers();
        Self(_mm256_fmsub_ps(scale, q.0, min), _mm256_fmsub_ps(scale, q.1, min))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn apply_affine32_bits<const HALF: usize>(
        (scale, min): (__m256, __m256),
        low: Avx2Ints,
        fifth: u32,
    ) -> Self {
        let q = low_bits::<15>(low).or(low_bits::<16>(mask((fifth >> (16 * HALF)) as u16))).numbers();
        Self(_mm256_fmsub_ps(scale, q.0, min), _mm256_fmsub_ps(scale, q.1, min))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn centred32(scale: Self) -> (__m256, __m256) {
        (scale.0, _mm256_set1_ps(16.0))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn apply_centred32<const HALF: usize>((scale, centre): (__m256, __m256), low: Avx2Ints, fifth: u32) -> Self {
        let q = low_bits::<15>(low).or(low_bits::<16>(mask((fifth >> (16 * HALF)) as u16))).numbers();
        Self(_mm256_mul_ps(_mm256_sub_ps(q.0, centre), scale), _mm256_mul_ps(_mm256_sub_ps(q.1, centre), scale))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn six_bits(low: *const u8, high: *const u8, dst: &mut [i8; 128]) {
        // SAFETY: 64 and 32 bytes by the trait's contract; `dst` takes four registers.
        unsafe {
            let low = [_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(low.add(32).cast())];
            let high = _mm256_loadu_si256(high.cast());
            let nibbles = [low[0], low[1], _mm256_srli_epi16::<4>(low[0]), _mm256_srli_epi16::<4>(low[1])];
            let pairs =
                [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high), high, _mm256_srli_epi16::<2>(high)];
            let dst = dst.as_mut_ptr().cast::<__m256i>();
            for i in 0..4 {
                let nibble = _mm256_and_si256(nibbles[i], _mm256_set1_epi8(0x0f));
                let q = _mm256_or_si256(nibble, _mm256_and_si256(pairs[i], _mm256_set1_epi8(0x30)));
                dst.add(i).write_unaligned(_mm256_sub_epi8(q, _mm256_set1_epi8(32)));
            }
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

impl Avx2Ints {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn or(self, other: Self) -> Self {
        Self(_mm256_or_si256(self.0, other.0), _mm256_or_si256(self.1, other.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn shift_left_4(self) -> Self {
        Self(_mm256_slli_epi32::<4>(self.0), _mm256_slli_epi32::<4>(self.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn numbers(self) -> Avx2 {
        Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1))
    }
}

/// The bits of each integer that `MASK` has.
#[inline]
#[target_feature(enable = "avx2")]
fn low_bits<const MASK: i32>(ints: Avx2Ints) -> Avx2Ints {
    let mask = _mm256_set1_epi32(MASK);
    Avx2Ints(_mm256_and_si256(ints.0, mask), _mm256_and_si256(ints.1, mask))
}

/// All ones in lane `l` where bit `l` is set.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(bits: u16) -> Avx2Ints {
    let bits = _mm256_set1_epi32(i32::from(bits));
    let (lanes_0_8, lanes_8_16) = (
        _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128),
        _mm256_setr_epi32(256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    );
    Avx2Ints(
        _mm256_cmpeq_epi32(_mm256_and_si256(bits, lanes_0_8), lanes_0_8),
        _mm256_cmpeq_epi32(_mm256_and_si256(bits, lanes_8_16), lanes_8_16),
    )
}

/// The values that the low four bits of each integer choose: one of eight from both halves, then bit 3 between them.
#[inline]
#[target_feature(enable = "avx2")]
fn one_of_16((low, high): (__m256, __m256), ints: __m256i) -> __m256 {
    let bit_3 = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(ints));
    _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, ints), _mm256_permutevar8x32_ps(high, ints), bit_3)
}

/// `x * 2^n` in two steps: 2^n alone may be out of range where the product is not. The first step is exact.
#[inline]
#[target_feature(enable = "avx2")]
fn mul_power_of_two(x: __m256, n: __m256) -> __m256 {
    let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
    let n = _mm256_cvtps_epi32(n);
    let half = _mm256_srai_epi32::<1>(n);
    _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(n, half)))
}
