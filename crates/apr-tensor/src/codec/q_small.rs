//! Q1_0, Q2_0, TQ1_0 and TQ2_0: two, four or three neighbouring integers with one f16 scale `d`.
//!
//! | dtype | bytes of a block | value |
//! |---|---|---|
//! | Q1_0 | `d` 2, `qs` 16 | 128 × `d` where the bit is set, else `-d` |
//! | Q2_0 | `d` 2, `qs` 16 | 64 × `d * (q - 1)`, two bits |
//! | TQ1_0 | `qs` 48, `qh` 4, `d` 2 | 256 × `d * (q - 1)`, five base-3 digits per byte of `qs`, four per byte of `qh` |
//! | TQ2_0 | `qs` 64, `d` 2 | 256 × `d * (q - 1)`, two bits |
//!
//! Every product is exact. Elements of Q1_0 and Q2_0 follow each other within a byte, lowest bits first.

use super::f16_at;

pub(super) fn decode_q1_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<18>().0.iter().zip(dst.as_chunks_mut::<128>().0) {
        let d = f16_at(block, 0);
        for (i, value) in values.iter_mut().enumerate() {
            *value = if block[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
        }
    }
}

pub(super) fn decode_q2_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<18>().0.iter().zip(dst.as_chunks_mut::<64>().0) {
        let d = f16_at(block, 0);
        for (i, value) in values.iter_mut().enumerate() {
            *value = d * centred(block[2 + i / 4] >> (i % 4 * 2) & 3);
        }
    }
}

fn centred(q: u8) -> f32 {
    f32::from(q as i8 - 1)
}

/// Digit `n` of a byte that holds a fraction of 256 in base 3: the integer part of three times what is left of it.
pub(super) fn digit(byte: u8, n: u32) -> u8 {
    let rest = byte.wrapping_mul(3u8.pow(n));
    ((u16::from(rest) * 3) >> 8) as u8
}

pub(super) fn decode_tq1_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<54>().0.iter().zip(dst.as_chunks_mut::<256>().0) {
        let d = f16_at(block, 52);
        // Runs of bytes, each giving its first digits, then its second ones, and so on.
        let digits = [(&block[..32], 5), (&block[32..48], 5), (&block[48..52], 4)]
            .into_iter()
            .flat_map(|(run, n_digits)| (0..n_digits).flat_map(move |n| run.iter().map(move |byte| digit(*byte, n))));
        for (value, q) in values.iter_mut().zip(digits) {
            *value = d * centred(q);
        }
    }
}

pub(super) fn decode_tq2_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<66>().0.iter().zip(dst.as_chunks_mut::<256>().0) {
        let d = f16_at(block, 64);
        for (i, value) in values.iter_mut().enumerate() {
            // Each 32 bytes hold 128 elements: bits 0-1 of all bytes, then bits 2-3, 4-5, 6-7.
            let (half, quarter, j) = (i / 128, i / 32 % 4, i % 32);
            *value = d * centred(block[32 * half + j] >> (2 * quarter) & 3);
        }
    }
}
