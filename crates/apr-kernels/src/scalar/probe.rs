//! What the probes in `backend/probe.rs` time. Unlike every other operation, they are run for the time they take.

/// Adds the 32-bit words of `data` to `sum`, wrapping; up to three bytes at the end are left out.
pub(crate) fn read_words(data: &[u8], sum: &mut u32) {
    for word in data.as_chunks::<4>().0 {
        *sum = sum.wrapping_add(u32::from_le_bytes(*word));
    }
}

/// `n_steps` times `sum = fma(sum, 1, 1)` for each of the sums; there is a multiple of 24 * 16 of them.
pub(crate) fn count_up(n_steps: usize, sums: &mut [f32]) {
    let one = std::hint::black_box(1.0f32);
    for _ in 0..n_steps {
        for sum in &mut *sums {
            *sum = sum.mul_add(one, one);
        }
    }
}
