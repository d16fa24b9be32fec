//! Stored rows times a vector, and stored rows as numbers.

use super::stored::{Sink, Stored};
use super::{LANES, Lanes, load_n};

/// Bytes that come from memory at a time.
const CACHE_LINE: usize = 64;
/// How far ahead of its use each stream asks for memory.
const AHEAD_BYTES: usize = 512;

/// Multiplies weights with the vector and adds them to a row's running sums.
struct Accumulate<'a, V> {
    sums: &'a mut V,
    x: *const f32,
}

impl<V: Lanes> Sink<V> for Accumulate<'_, V> {
    #[inline(always)]
    unsafe fn take(&mut self, offset: usize, w: V) {
        // SAFETY: by the caller; `x` points to as many elements as the step has.
        unsafe { *self.sums = w.mul_add(V::load(self.x.add(offset)), *self.sums) }
    }
}

/// Writes weights as numbers, each group of sixteen `stride` groups after the one before.
struct Write {
    dst: *mut f32,
    stride: usize,
}

impl<V: Lanes> Sink<V> for Write {
    #[inline(always)]
    unsafe fn take(&mut self, offset: usize, w: V) {
        // SAFETY: by the caller; `dst` has room for as many groups as the step has.
        unsafe { w.store(self.dst.add(offset * self.stride)) }
    }
}

/// See [`crate::scalar::matvec`].
///
/// # Safety
/// `V` is available; `rows` is `y.len()` ≥ 1 rows of `x.len()` weights.
#[inline(always)]
pub(crate) unsafe fn matvec<V: Lanes, D: Stored>(rows: &[u8], x: &[f32], y: &mut [f32]) {
    // SAFETY: by the caller.
    unsafe {
        if V::MAX_STREAMS >= 8 && D::STREAMS >= 8 {
            streams::<V, D, 8>(rows, x, y);
        } else {
            streams::<V, D, 4>(rows, x, y);
        }
    }
}

/// `R` streams, each a run of consecutive rows, go side by side: that makes enough chains of multiply-adds to hide their
/// latency, and enough runs of memory for the hardware to see all of them coming. Neighbouring rows side by side would be
/// one run to it, read in an order that it can't foresee.
///
/// # Safety
/// As [`matvec`]; `R` is a multiple of four.
#[inline(always)]
unsafe fn streams<V: Lanes, D: Stored, const R: usize>(rows: &[u8], x: &[f32], y: &mut [f32]) {
    let row_bytes = rows.len() / y.len();
    let rows_per_stream = y.len() / R;
    let (streamed, rest) = y.split_at_mut(R * rows_per_stream);
    // SAFETY: by the caller; the row pointers stay within `rows`, and indices within the rows.
    unsafe {
        let row = |index: usize| rows.as_ptr().add(index * row_bytes);
        for i in 0..rows_per_stream {
            let sums = sums::<V, D, R>(std::array::from_fn(|r| row(r * rows_per_stream + i)), x);
            for (four, sums) in sums.as_chunks::<4>().0.iter().enumerate() {
                let mut y = [0.0; 4];
                V::sum4(*sums, y.as_mut_ptr());
                for (r, y) in y.into_iter().enumerate() {
                    *streamed.get_unchecked_mut((4 * four + r) * rows_per_stream + i) = y;
                }
            }
        }
        for (i, y) in rest.iter_mut().enumerate() {
            let [sums] = sums::<V, D, 1>([row(R * rows_per_stream + i)], x);
            *y = sums.sum();
        }
    }
}

/// The sixteen running sums of each of `R` rows. Meanwhile each asks for what comes next in its stream.
///
/// # Safety
/// `V` is available; each pointer is to a row of `x.len()` weights.
#[inline(always)]
unsafe fn sums<V: Lanes, D: Stored, const R: usize>(rows: [*const u8; R], x: &[f32]) -> [V; R] {
    let (n_blocks, tail) = (x.len() / D::ELEMENTS, x.len() % D::ELEMENTS);
    // SAFETY: by the caller; only floats have a tail, which is shorter than their group of sixteen.
    unsafe {
        let mut sums = [V::splat(0.0); R];
        for b in 0..n_blocks {
            for row in rows {
                for line in (0..D::BYTES).step_by(CACHE_LINE) {
                    V::prefetch(row.wrapping_add(b * D::BYTES + AHEAD_BYTES + line));
                }
            }
            let mut scales = [D::scales::<V>(rows[0].add(b * D::BYTES)); R];
            for r in 1..R {
                scales[r] = D::scales::<V>(rows[r].add(b * D::BYTES));
            }
            for step in 0..D::ELEMENTS / D::STEP {
                let x = x.as_ptr().add(b * D::ELEMENTS + step * D::STEP);
                for r in 0..R {
                    let mut sink = Accumulate { sums: &mut sums[r], x };
                    D::unpack::<V, _>(rows[r].add(b * D::BYTES), &scales[r], step, &mut sink);
                }
            }
        }
        if tail > 0 {
            let mut padded = [0.0f32; LANES];
            load_n::<V>(x.as_ptr().add(n_blocks * D::ELEMENTS), tail).store(padded.as_mut_ptr());
            for r in 0..R {
                let block = padded_block::<D>(rows[r].add(n_blocks * D::BYTES), tail);
                let mut sink = Accumulate { sums: &mut sums[r], x: padded.as_ptr() };
                D::unpack::<V, _>(block.as_ptr(), &D::scales::<V>(block.as_ptr()), 0, &mut sink);
            }
        }
        sums
    }
}

/// See [`crate::scalar::unpack`]. Meanwhile the bytes after `src` are asked for, since they will be unpacked next.
///
/// # Safety
/// `V` is available; `src` is `n` weights; `dst` holds the first group of sixteen and reaches to the last.
#[inline(always)]
pub(crate) unsafe fn unpack<V: Lanes, D: Stored>(src: &[u8], n: usize, dst: &mut [f32], stride: usize) {
    let (n_blocks, tail) = (n / D::ELEMENTS, n % D::ELEMENTS);
    let dst = dst.as_mut_ptr();
    // SAFETY: by the caller; only floats have a tail, which is shorter than their group of sixteen.
    unsafe {
        for b in 0..n_blocks {
            let block = src.as_ptr().add(b * D::BYTES);
            for line in (0..D::BYTES).step_by(CACHE_LINE) {
                V::prefetch(block.wrapping_add(src.len() + line));
            }
            let scales = D::scales::<V>(block);
            for step in 0..D::ELEMENTS / D::STEP {
                let mut sink = Write { dst: dst.add((b * D::ELEMENTS + step * D::STEP) * stride), stride };
                D::unpack::<V, _>(block, &scales, step, &mut sink);
            }
        }
        if tail > 0 {
            let block = padded_block::<D>(src.as_ptr().add(n_blocks * D::BYTES), tail);
            let mut sink = Write { dst: dst.add(n_blocks * D::ELEMENTS * stride), stride };
            D::unpack::<V, _>(block.as_ptr(), &D::scales::<V>(block.as_ptr()), 0, &mut sink);
        }
    }
}

/// The last `n` < 16 floats of a row, padded with zero bits, which are the number zero in every float dtype.
///
/// # Safety
/// `src` points to `n` elements of a dtype whose groups are of sixteen.
#[inline(always)]
unsafe fn padded_block<D: Stored>(src: *const u8, n: usize) -> [u8; 4 * LANES] {
    let mut block = [0; 4 * LANES];
    // SAFETY: by the caller; a group of the widest float fills `block`.
    unsafe { std::ptr::copy_nonoverlapping(src, block.as_mut_ptr(), n * D::BYTES / LANES) };
    block
}
