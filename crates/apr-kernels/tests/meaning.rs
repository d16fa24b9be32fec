//! The operations compute what their names say: compared with the same formulas in f64.
//!
//! These tests are about meaning, so they run on the best kernels of the machine; that all kernels agree bit by bit is
//! the conformance suite's to say. Bounds are a few roundings of the quantity summed.

mod common;

use apr_kernels::{AttentionShape, Backend, KvView, Matrix, RopeTable};
use apr_tensor::{DTYPES, DType, codec};
use common::Seeded;

fn backend() -> Backend {
    Backend::detect().unwrap()
}

#[track_caller]
fn assert_close(found: f32, expected: f64, bound: f64) {
    assert!((f64::from(found) - expected).abs() <= bound, "{found:e} is not {expected:e} within {bound:e}");
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn matmul_multiplies_decoded_rows_with_tokens() {
    let (rows, cols, n) = (5, 512, 3);
    for row in DTYPES {
        let mut seeded = Seeded::new(1);
        let data = seeded.weights(row.dtype, rows * cols);
        let mut w = vec![0.0; rows * cols];
        codec::decode(row.dtype, &data, &mut w);
        let (w, x) = (wide(&w), seeded.values(n * cols, 1.0));
        let mut y = vec![0.0; n * rows];
        backend().matmul(&Matrix::new(row.dtype, rows, cols, &data).unwrap(), &x, &mut y);
        for t in 0..n {
            for r in 0..rows {
                let products = || w[r * cols..][..cols].iter().zip(&x[t * cols..]).map(|(w, x)| w * f64::from(*x));
                let size: f64 = products().map(f64::abs).sum();
                assert_close(y[t * rows + r], products().sum(), size * 40.0 * f64::from(f32::EPSILON));
            }
        }
    }
}

#[test]
fn attention_is_causal_grouped_and_scaled() {
    let shape = AttentionShape { n_heads: 6, n_kv_heads: 2, head_dim: 20 };
    let AttentionShape { n_heads, n_kv_heads, head_dim } = shape;
    let (first_pos, n) = (290, 4);
    let mut seeded = Seeded::new(5);
    let q = seeded.values(n * n_heads * head_dim, 2.0);
    let k = seeded.values((first_pos + n) * n_kv_heads * head_dim, 2.0);
    let v = seeded.values((first_pos + n) * n_kv_heads * head_dim, 1.0);
    let mut out = vec![0.0; q.len()];
    backend().attention(&q, KvView::F32 { k: &k, v: &v }, shape, first_pos, &mut out);
    for t in 0..n {
        for h in 0..n_heads {
            let at = |position: usize| (position * n_kv_heads + h / 3) * head_dim;
            let q = wide(&q[(t * n_heads + h) * head_dim..][..head_dim]);
            let weights: Vec<f64> = (0..=first_pos + t)
                .map(|j| q.iter().zip(wide(&k[at(j)..])).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt())
                .map(f64::exp)
                .collect();
            for d in 0..head_dim {
                let mixed: f64 = weights.iter().enumerate().map(|(j, w)| w * f64::from(v[at(j) + d])).sum();
                let expected = mixed / weights.iter().sum::<f64>();
                assert_close(out[(t * n_heads + h) * head_dim + d], expected, 3e-6);
            }
        }
    }
}

#[test]
fn rms_norm_divides_by_the_root_of_the_mean_square() {
    let (n, width, eps) = (3, 100, 1e-3f32);
    let mut seeded = Seeded::new(2);
    let (x, gain) = (seeded.values(n * width, 0.1), seeded.values(width, 2.0));
    let mut y = vec![0.0; n * width];
    backend().rms_norm(&x, &gain, eps, &mut y);
    for (x, y) in x.chunks(width).zip(y.chunks(width)) {
        let mean = wide(x).iter().map(|x| x * x).sum::<f64>() / width as f64;
        for ((x, y), gain) in wide(x).iter().zip(y).zip(wide(&gain)) {
            let expected = x / (mean + f64::from(eps)).sqrt() * gain;
            assert_close(*y, expected, expected.abs() * 5.0 * f64::from(f32::EPSILON));
        }
    }
}

#[test]
fn rope_turns_pairs_half_a_head_apart() {
    let (n_heads, head_dim, theta, first_pos) = (2, 64, 1e6f32, 1000);
    let mut table = RopeTable::new(head_dim, theta, 10);
    table.grow(first_pos + 3);
    let x = Seeded::new(4).values(3 * n_heads * head_dim, 1.0);
    let mut turned = x.clone();
    backend().rope(&mut turned, n_heads, &table, first_pos);
    for (i, (x, turned)) in x.chunks(head_dim).zip(turned.chunks(head_dim)).enumerate() {
        let position = (first_pos + i / n_heads) as f64;
        for pair in 0..head_dim / 2 {
            let angle = position * f64::from(theta).powf(-2.0 * pair as f64 / head_dim as f64);
            let (a, b) = (f64::from(x[pair]), f64::from(x[pair + head_dim / 2]));
            assert_close(turned[pair], a * angle.cos() - b * angle.sin(), 3e-7);
            assert_close(turned[pair + head_dim / 2], b * angle.cos() + a * angle.sin(), 3e-7);
        }
    }
}

#[test]
fn softmax_sums_to_one_and_silu_gates() {
    let mut p = Seeded::new(8).values(1000, 10.0);
    let expected: Vec<f64> = wide(&p).into_iter().map(f64::exp).collect();
    let sum: f64 = expected.iter().sum();
    backend().softmax(&mut p);
    for (p, expected) in p.iter().zip(expected) {
        // Subtracting the maximum rounds the exponent, hence its size in the bound.
        assert_close(*p, expected / sum, expected / sum * 20.0 * f64::from(f32::EPSILON));
    }

    let (gate, up) = (Seeded::new(9).values(1000, 10.0), Seeded::new(10).values(1000, 1.0));
    let mut out = gate.clone();
    backend().silu_mul(&mut out, &up);
    for ((out, gate), up) in out.iter().zip(wide(&gate)).zip(wide(&up)) {
        let expected = gate / (1.0 + (-gate).exp()) * up;
        assert_close(*out, expected, expected.abs() * 4.0 * f64::from(f32::EPSILON));
    }
}

#[test]
fn argmax_takes_the_lowest_of_equals_and_refuses_nan() {
    let check = |x: &[f32], expected| assert_eq!(backend().argmax(x), expected, "{x:?}");
    check(&[1.0, 3.0, 2.0, 3.0], Some(1));
    check(&[-0.0, 0.0], Some(0));
    check(&[f32::NEG_INFINITY; 3], Some(0));
    check(&[1.0, f32::NAN, 2.0], None);
    check(&[f32::NAN], None);
    check(&[], None);
}

#[test]
fn empty_shapes_are_computed_without_a_panic() {
    let backend = backend();
    for row in DTYPES {
        let none = Matrix::new(row.dtype, 0, 256, &[]).unwrap();
        backend.matmul(&none, &[1.0; 512], &mut []);
        let wide_nothing = Matrix::new(row.dtype, 3, 0, &[]).unwrap();
        let mut y = [1.0; 6];
        backend.matmul(&wide_nothing, &[], &mut y);
        assert_eq!(y, [0.0; 6], "an empty sum is zero");
        let data = Seeded::new(1).weights(row.dtype, 256);
        backend.matmul(&Matrix::new(row.dtype, 1, 256, &data).unwrap(), &[], &mut []);
    }
    let shape = AttentionShape { n_heads: 2, n_kv_heads: 1, head_dim: 4 };
    backend.attention(&[], KvView::F32 { k: &[], v: &[] }, shape, 0, &mut []);
    backend.attention(&[], KvView::F16 { k: &[], v: &[] }, AttentionShape { head_dim: 0, ..shape }, 3, &mut []);
    backend.rms_norm(&[], &[1.0], 1e-5, &mut []);
    backend.rms_norm(&[], &[], 1e-5, &mut []);
    backend.rope(&mut [], 0, &RopeTable::new(8, 1e4, 4), 0);
    backend.rope(&mut [], 3, &RopeTable::new(0, 1e4, 4), 7);
    backend.add_bias(&mut [], &[]);
    backend.silu_mul(&mut [], &[]);
    backend.softmax(&mut []);
    backend.store_kv_f16(&[], &mut []);
}

/// A token's result does not depend on how its dtype stores the values; here through the F16 cache.
#[test]
fn an_f16_cache_holds_rounded_values() {
    let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_dim: 32 };
    let mut seeded = Seeded::new(6);
    let (q, k, v) = (seeded.values(32, 1.0), seeded.values(5 * 32, 1.0), seeded.values(5 * 32, 1.0));
    let round = |values: &[f32]| {
        let mut stored = vec![0; values.len()];
        backend().store_kv_f16(values, &mut stored);
        let mut bytes = Vec::new();
        codec::encode(DType::F16, values, &mut bytes).unwrap();
        assert_eq!(bytes, stored.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>());
        let rounded: Vec<f32> = stored.iter().map(|&bits| codec::f16_to_f32(bits)).collect();
        (stored, rounded)
    };
    let ((k_stored, k), (v_stored, v)) = (round(&k), round(&v));
    let (mut from_f16, mut from_f32) = (vec![0.0; 32], vec![0.0; 32]);
    backend().attention(&q, KvView::F16 { k: &k_stored, v: &v_stored }, shape, 4, &mut from_f16);
    backend().attention(&q, KvView::F32 { k: &k, v: &v }, shape, 4, &mut from_f32);
    assert_eq!(from_f16, from_f32);
}
