//! The operations compute what their names say: compared with the same formulas in f64.
//!
//! These tests are about meaning, so they run on the best kernels of the machine; that all kernels agree bit by bit is
//! the conformance suite's to say. Bounds are a few roundings of the quantity summed.

mod common;

use apr_kernels::{AttentionShape, Backend, KvLayout, KvView, Matrix, Nonlinearity, RopeScaling, RopeTable};
use apr_tensor::{DType, codec, weight_dtypes};
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
    for row in weight_dtypes() {
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
fn attention_is_causal_grouped_scaled_capped_and_windowed() {
    let plain = AttentionShape::plain(6, 2, 20);
    let check = |shape: AttentionShape| {
        let AttentionShape { n_heads, n_kv_heads, head_dim, .. } = shape;
        let (first_pos, n) = (290, 4);
        let mut seeded = Seeded::new(5);
        let q = seeded.values(n * n_heads * head_dim, 2.0);
        let layout = KvLayout { n_kv_heads, head_dim };
        let k = seeded.values(layout.len(first_pos + n), 2.0);
        let v = seeded.values(layout.len(first_pos + n), 1.0);
        let mut out = vec![0.0; q.len()];
        backend().attention(&q, KvView::F32 { k: &k, v: &v }, shape, first_pos, &mut out);
        for t in 0..n {
            for h in 0..n_heads {
                let key = |position: usize| {
                    let numbers = k[layout.key_offset(position, h / 3)..].iter().step_by(16);
                    numbers.take(head_dim).map(|&number| f64::from(number))
                };
                let value = |position: usize| wide(&v[layout.value_offset(position, h / 3)..][..head_dim]);
                let q = wide(&q[(t * n_heads + h) * head_dim..][..head_dim]);
                let p = first_pos + t;
                let seen = shape.window.map_or(0, |window| p + 1 - window)..=p;
                let cap = |score: f64| match shape.softcap.map(f64::from) {
                    Some(cap) => cap * (score / cap).tanh(),
                    None => score,
                };
                let weights: Vec<f64> = seen
                    .clone()
                    .map(|j| q.iter().zip(key(j)).map(|(q, k)| q * k).sum::<f64>() * f64::from(shape.scale))
                    .map(|score| cap(score).exp())
                    .collect();
                for d in 0..head_dim {
                    let mixed: f64 = weights.iter().zip(seen.clone()).map(|(w, j)| w * value(j)[d]).sum();
                    let expected = mixed / weights.iter().sum::<f64>();
                    assert_close(out[(t * n_heads + h) * head_dim + d], expected, 3e-6);
                }
            }
        }
    };
    assert!((plain.scale - 1.0 / 20f32.sqrt()).abs() < 1e-8);
    check(plain);
    check(AttentionShape { scale: 0.3, ..plain });
    check(AttentionShape { softcap: Some(1.0), ..plain });
    for window in [1, 5, 36, 37, 200] {
        check(AttentionShape { window: Some(window), ..plain });
    }
}

#[test]
fn layer_norm_centres_and_divides_by_the_deviation() {
    let (n, width, eps) = (3, 100, 1e-3f32);
    let mut seeded = Seeded::new(2);
    let (x, gain, bias) = (seeded.values(n * width, 0.1), seeded.values(width, 2.0), seeded.values(width, 1.0));
    let mut y = vec![0.0; n * width];
    backend().layer_norm(&x, &gain, &bias, eps, &mut y);
    for (x, y) in x.chunks(width).zip(y.chunks(width)) {
        let mean = wide(x).iter().sum::<f64>() / width as f64;
        let variance = wide(x).iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        for (((x, y), gain), bias) in wide(x).iter().zip(y).zip(wide(&gain)).zip(wide(&bias)) {
            assert_close(*y, (x - mean) / (variance + f64::from(eps)).sqrt() * gain + bias, 1e-6);
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
    let mut table = RopeTable::new(head_dim, head_dim, theta, RopeScaling::None);
    table.grow(10);
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
fn a_head_turns_in_its_rotary_part_only() {
    let (head_dim, rotary_dim) = (20, 8);
    let mut partial = RopeTable::new(head_dim, rotary_dim, 1e4, RopeScaling::None);
    let mut whole = RopeTable::new(rotary_dim, rotary_dim, 1e4, RopeScaling::None);
    partial.grow(8);
    whole.grow(8);
    let x = Seeded::new(4).values(3 * head_dim, 1.0);
    let mut turned = x.clone();
    backend().rope(&mut turned, 1, &partial, 5);
    for (i, (x, turned)) in x.chunks(head_dim).zip(turned.chunks(head_dim)).enumerate() {
        let mut alone = x[..rotary_dim].to_vec();
        backend().rope(&mut alone, 1, &whole, 5 + i);
        assert_eq!(turned[..rotary_dim], alone);
        assert_eq!(turned[rotary_dim..], x[rotary_dim..]);
    }
}

/// The angle of the second pair of a head of four at the last position, read off the sine of a unit vector.
#[test]
fn rotary_scaling_changes_frequencies_as_defined() {
    let angle = |scaling: RopeScaling, position: usize| {
        let mut table = RopeTable::new(4, 4, 1e4, scaling);
        table.grow(position + 1);
        let mut x = [0.0, 1.0, 0.0, 0.0];
        backend().rope(&mut x, 1, &table, position);
        (f64::from(x[3]).atan2(f64::from(x[1])), f64::from(x[3]).hypot(f64::from(x[1])))
    };
    // The second pair turns by 1e4^-0.5 = 0.01 a position: 20.48 / 2π = 3.26 turns in 2048 positions.
    let close = |(found, length): (f64, f64), expected: f64, expected_length: f64| {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        assert!((length - expected_length).abs() < 1e-6, "{length} is not {expected_length}");
    };
    close(angle(RopeScaling::None, 100), 1.0, 1.0);
    close(angle(RopeScaling::Linear { factor: 4.0 }, 100), 0.25, 1.0);
    let llama3 = |low, high| RopeScaling::Llama3 { factor: 4.0, low, high, original_context: 2048 };
    close(angle(llama3(4.0, 8.0), 100), 0.25, 1.0);
    close(angle(llama3(1.0, 3.0), 100), 1.0, 1.0);
    let turns = 20.48 / std::f64::consts::TAU;
    let kept = (turns - 1.0) / 4.0;
    close(angle(llama3(1.0, 5.0), 100), kept + (1.0 - kept) / 4.0, 1.0);
    // Pairs are numbered by their turns: here 32 turns are pair 0.505, rounded down 0; 1 turn is pair 1.26, up to 2.
    let yarn = |truncate| RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context: 2048,
        attention_factor: Some(1.25),
        truncate,
    };
    close(angle(yarn(true), 100), 0.5 + 0.5 / 4.0, 1.25);
    let pair = |turns: f64| 4.0 * (2048.0 / (turns * std::f64::consts::TAU)).ln() / (2.0 * 1e4f64.ln());
    let divided = (1.0 - pair(32.0)) / (pair(1.0) - pair(32.0));
    close(angle(yarn(false), 100), divided / 4.0 + (1.0 - divided), 1.25);
    // Theta grows by (2 · 151 / 100 - 1)^2 for the position that ends a context of 151.
    let dynamic = RopeScaling::Dynamic { factor: 2.0, context: 100 };
    close(angle(dynamic, 99), 0.99, 1.0);
    close(angle(dynamic, 150), 150.0 * (1e4f64 * 2.02f64.powi(2)).powf(-0.5), 1.0);
}

#[test]
fn softmax_sums_to_one_and_functions_are_those_of_their_names() {
    let mut p = Seeded::new(8).values(1000, 10.0);
    let expected: Vec<f64> = wide(&p).into_iter().map(f64::exp).collect();
    let sum: f64 = expected.iter().sum();
    backend().softmax(&mut p);
    for (p, expected) in p.iter().zip(expected) {
        // Subtracting the maximum rounds the exponent, hence its size in the bound.
        assert_close(*p, expected / sum, expected / sum * 20.0 * f64::from(f32::EPSILON));
    }

    let (x, up) = (Seeded::new(9).values(1000, 6.0), Seeded::new(10).values(1000, 1.0));
    let exact = |f: Nonlinearity, x: f64| match f {
        Nonlinearity::Silu => x / (1.0 + (-x).exp()),
        Nonlinearity::Gelu => x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2),
        Nonlinearity::GeluTanh => {
            x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Nonlinearity::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    };
    for f in Nonlinearity::ALL {
        let (mut plain, mut gated) = (x.clone(), x.clone());
        backend().apply(f, &mut plain);
        backend().gate(f, &mut gated, &up);
        for (((plain, gated), x), up) in plain.iter().zip(&gated).zip(wide(&x)).zip(wide(&up)) {
            let expected = exact(f, x);
            assert_close(*plain, expected, 1e-6 * expected.abs() + 1e-7);
            assert_close(*gated, expected * up, 1e-6 * expected.abs() + 1e-7);
        }
    }
    let mut capped = x.clone();
    backend().softcap(&mut capped, 2.5);
    for (capped, x) in capped.iter().zip(wide(&x)) {
        assert_close(*capped, 2.5 * (x / 2.5).tanh(), 1e-6);
    }
    let mut sum = x.clone();
    backend().scale(&mut sum, 0.5);
    backend().add_scaled(&mut sum, &up, 3.0);
    for ((sum, x), up) in sum.iter().zip(wide(&x)).zip(wide(&up)) {
        assert_close(*sum, x * 0.5 + up * 3.0, 1e-6);
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
    for row in weight_dtypes() {
        let none = Matrix::new(row.dtype, 0, 256, &[]).unwrap();
        backend.matmul(&none, &[1.0; 512], &mut []);
        let wide_nothing = Matrix::new(row.dtype, 3, 0, &[]).unwrap();
        let mut y = [1.0; 6];
        backend.matmul(&wide_nothing, &[], &mut y);
        assert_eq!(y, [0.0; 6], "an empty sum is zero");
        let data = Seeded::new(1).weights(row.dtype, 256);
        backend.matmul(&Matrix::new(row.dtype, 1, 256, &data).unwrap(), &[], &mut []);
    }
    let shape = AttentionShape::plain(2, 1, 4);
    backend.attention(&[], KvView::F32 { k: &[], v: &[] }, shape, 0, &mut []);
    backend.attention(&[], KvView::F16 { k: &[], v: &[] }, AttentionShape { head_dim: 0, ..shape }, 3, &mut []);
    backend.rms_norm(&[], &[1.0], 1e-5, &mut []);
    backend.rms_norm(&[], &[], 1e-5, &mut []);
    backend.rope(&mut [], 0, &RopeTable::new(8, 8, 1e4, RopeScaling::None), 0);
    backend.rope(&mut [], 3, &RopeTable::new(0, 0, 1e4, RopeScaling::None), 7);
    backend.layer_norm(&[], &[1.0], &[1.0], 1e-5, &mut []);
    backend.layer_norm(&[], &[], &[], 1e-5, &mut []);
    backend.softcap(&mut [], 1.0);
    backend.scale(&mut [], 1.0);
    backend.add_scaled(&mut [], &[], 1.0);
    backend.add_bias(&mut [], &[]);
    backend.apply(Nonlinearity::Gelu, &mut []);
    backend.gate(Nonlinearity::Silu, &mut [], &[]);
    backend.softmax(&mut []);
    backend.store_kv_f16(&[], &mut []);
}

/// A token's result does not depend on how its dtype stores the values; here through the F16 cache.
#[test]
fn an_f16_cache_holds_rounded_values() {
    let shape = AttentionShape::plain(1, 1, 32);
    let mut seeded = Seeded::new(6);
    let n_cached = KvLayout { n_kv_heads: 1, head_dim: 32 }.len(5);
    let (q, k, v) = (seeded.values(32, 1.0), seeded.values(n_cached, 1.0), seeded.values(n_cached, 1.0));
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

/// Heads of 256 positions lie together, one head after the other, and blocks of 256 positions one after the other. Keys
/// of sixteen positions lie dimension by dimension.
#[test]
fn a_cache_lies_by_blocks_heads_and_positions() {
    let layout = KvLayout { n_kv_heads: 3, head_dim: 2 };
    let block = 256 * 3 * 2;
    assert_eq!([0, 1, 256, 257].map(|n_positions| layout.len(n_positions)), [0, block, block, 2 * block]);
    let positions = [(0, 0), (1, 0), (0, 1), (255, 2), (256, 0), (300, 1)];
    let values = positions.map(|(position, head)| layout.value_offset(position, head));
    assert_eq!(values, [0, 2, 512, block - 2, block, block + 512 + 44 * 2]);
    let keys = positions.map(|(position, head)| layout.key_offset(position, head));
    assert_eq!(keys, [0, 1, 512, block - 17, block, block + 512 + 2 * 32 + 12]);

    let (first, n) = (250, 30);
    let rows: Vec<usize> = (0..n * 3 * 2).collect();
    let (mut k, mut v) = (vec![usize::MAX; layout.len(first + n)], vec![usize::MAX; layout.len(first + n)]);
    layout.store_keys(&mut k, first, &rows);
    layout.store_values(&mut v, first, &rows);
    for (i, row) in rows.iter().enumerate() {
        let (position, head, d) = (first + i / 6, i / 2 % 3, i % 2);
        assert_eq!(k[layout.key_offset(position, head) + 16 * d], *row);
        assert_eq!(v[layout.value_offset(position, head) + d], *row);
    }
    let n_stored = |cache: &[usize]| cache.iter().filter(|number| **number != usize::MAX).count();
    assert_eq!((n_stored(&k), n_stored(&v)), (rows.len(), rows.len()));
}
