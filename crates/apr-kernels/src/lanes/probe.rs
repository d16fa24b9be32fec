//! What the probes in `backend/probe.rs` time.

use super::{LANES, Lanes};
use crate::isa::Isa;

const CACHE_LINE: usize = 64;

/// Bytes by which each stream asks ahead.
const AHEAD_BYTES: usize = 512;

/// See [`crate::scalar::read_words`]. Eight parts of `data` side by side, each with a running sum of its own: a processor
/// asks for more memory at a time where it sees several streams.
///
/// # Safety
/// `V` is available.
#[inline(always)]
pub(crate) unsafe fn read_words<V: Lanes>(data: &[u8], sum: &mut u32) {
    const STREAMS: usize = 8;
    let n_lines = data.len() / (STREAMS * CACHE_LINE);
    let (streams, rest) = data.split_at(n_lines * STREAMS * CACHE_LINE);
    // SAFETY: by the caller; a line is sixteen words, and a prefetch may name any address.
    unsafe {
        let mut sums = [V::ints(0); STREAMS];
        for i in 0..n_lines {
            for s in 0..STREAMS {
                let line = streams.as_ptr().add((s * n_lines + i) * CACHE_LINE);
                V::prefetch(line.wrapping_add(AHEAD_BYTES));
                sums[s] = V::add_ints(sums[s], V::load(line.cast()).to_bits());
            }
        }
        for ints in sums {
            let mut words = [0.0f32; LANES];
            V::from_bits(ints).store(words.as_mut_ptr());
            *sum = words.iter().fold(*sum, |sum, word| sum.wrapping_add(word.to_bits()));
        }
    }
    crate::scalar::read_words(rest, sum);
}

/// Chains of sixteen sums that fit into the registers of an instruction set, beside one operand.
pub(crate) const fn n_chains(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 24,
        Isa::Avx2 | Isa::Scalar => 6,
    }
}

/// See [`crate::scalar::count_up`]. As many chains of sixteen sums side by side as registers hold, because each step
/// of a chain waits for the one before.
///
/// # Safety
/// `V` is available; `sums.len()` is a multiple of `C * 16`.
#[inline(always)]
pub(crate) unsafe fn count_up<V: Lanes, const C: usize>(n_steps: usize, sums: &mut [f32]) {
    let one = std::hint::black_box(1.0f32);
    for chains in sums.chunks_exact_mut(C * LANES) {
        // SAFETY: by the caller; `chains` is `C` times sixteen sums.
        unsafe {
            let one = V::splat(one);
            let mut sums = [one; C];
            for c in 0..C {
                sums[c] = V::load(chains[c * LANES..].as_ptr());
            }
            for _ in 0..n_steps {
                for c in 0..C {
                    sums[c] = sums[c].mul_add(one, one);
                }
            }
            for c in 0..C {
                sums[c].store(chains[c * LANES..].as_mut_ptr());
            }
        }
    }
}
