//! x86-64: one file per instruction set, each with its sixteen lanes and its table of kernels.

mod avx2;
mod avx512;

use std::arch::asm;
use std::arch::x86_64::*;

use crate::set::KernelSet;

/// The sets that this machine can run, the fastest last.
pub(crate) fn available() -> Vec<&'static KernelSet> {
    let mut sets = Vec::new();
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    if avx2 {
        sets.push(&avx2::SET);
    }
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if avx2 && avx512 {
        sets.push(&avx512::SET);
    }
    sets
}

/// Four binary16 numbers at `src` as binary32.
///
/// The instruction is spelt out because it needs no shuffle only while its operand is in memory, and a compiler that
/// sees one of the numbers used reads that one and shuffles.
///
/// # Safety
/// F16C is available and eight bytes can be read at `src`.
#[inline(always)]
unsafe fn cvtph_of_eight(src: *const u8) -> __m128 {
    let numbers;
    // SAFETY: by the caller; the instruction reads eight bytes and changes one register.
    unsafe {
        asm!("vcvtph2ps {}, qword ptr [{}]", out(xmm_reg) numbers, in(reg) src, options(pure, readonly, nostack, preserves_flags));
    }
    numbers
}

/// The six-bit scales and mins of a Q4_K or Q5_K block, one to a byte: the low six bits of eight bytes, and for the rest
/// nibbles of four bytes below the upper two bits of those eight.
///
/// # Safety
/// AVX2 is available and sixteen bytes can be read at `src`, of which twelve count.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn six_bit_scales(src: *const u8) -> __m128i {
    // SAFETY: by the caller.
    let words = unsafe { _mm_loadu_si128(src.cast()) };
    let low = _mm_srlv_epi32(_mm_shuffle_epi32::<0b10_01_10_00>(words), _mm_setr_epi32(0, 0, 0, 4));
    let low = _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
    let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b01_01_00_00>(words));
    _mm_or_si128(low, _mm_and_si128(high, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030)))
}
