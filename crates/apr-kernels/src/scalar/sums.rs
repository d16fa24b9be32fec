//! The one order in which sums are formed: sixteen lanes, then a tree.

/// Number of running sums. One AVX-512 register, two AVX2 registers, four NEON registers, or this array.
pub(crate) const LANES: usize = 16;

/// `sum of w[k] * x[k]`: [`accumulate`] from zero, then the tree.
pub(crate) fn dot(w: &[f32], x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    accumulate(&mut sums, w, x);
    tree(sums)
}

/// Adds `w[k] * x[k]` to sum `k mod 16` by ascending `k`, each by one fused multiply-add; a short tail counts as zeros.
pub(crate) fn accumulate(sums: &mut [f32; LANES], w: &[f32], x: &[f32]) {
    for (w, x) in w.chunks(LANES).zip(x.chunks(LANES)) {
        let (w, x) = (padded(w), padded(x));
        for l in 0..LANES {
            sums[l] = w[l].mul_add(x[l], sums[l]);
        }
    }
}

/// `sum of x[k]`, by addition in the lanes and the tree of [`dot`].
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for x in x.chunks(LANES) {
        let x = padded(x);
        for l in 0..LANES {
            lanes[l] += x[l];
        }
    }
    tree(lanes)
}

/// 16 → 8 → 4 → 2 → 1: lane `i` and lane `i + n / 2` are added each time.
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

fn padded(values: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Magnitudes so different that every other order of these additions gives another result.
    #[test]
    fn the_tree_halves_sixteen_lanes_four_times() {
        let l: [f32; LANES] = std::array::from_fn(|i| 1.1f32.powi(i as i32 * 7) * if i % 3 == 0 { -1.0 } else { 1.0 });
        let eight = |i: usize| l[i] + l[i + 8];
        let four = |i: usize| eight(i) + eight(i + 4);
        let expected = (four(0) + four(2)) + (four(1) + four(3));
        assert_eq!(tree(l).to_bits(), expected.to_bits());
        assert_ne!(l.iter().sum::<f32>().to_bits(), expected.to_bits(), "the example distinguishes orders");
    }

    #[test]
    fn lanes_take_every_sixteenth_product_in_ascending_order() {
        // Lane 0: (2^24 + 1) loses the one, then -2^24 leaves nothing; in another order one is left.
        let mut w = vec![0.0; 33];
        (w[0], w[16], w[32]) = (16_777_216.0, 1.0, -16_777_216.0);
        assert_eq!(dot(&w, &[1.0; 33]), 0.0);
        w.swap(16, 32);
        assert_eq!(dot(&w, &[1.0; 33]), 1.0);
        // Fused: the product's low bits take part in the sum.
        let x = 1.0 + f32::EPSILON;
        let mut pair = vec![0.0; 17];
        (pair[0], pair[16]) = (-1.0, x);
        let mut factor = vec![0.0; 17];
        (factor[0], factor[16]) = (x * x, x);
        assert_eq!(dot(&pair, &factor), f32::EPSILON * f32::EPSILON);
    }
}
