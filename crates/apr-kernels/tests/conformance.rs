//! Every instruction set, number of threads and way to cut a batch gives the bits of the scalar definition.
//!
//! Each case computes its result on one thread with the scalar kernels, then on every set this machine has with 1, 2
//! and 5 threads, and compares bits. Shapes are small, because the definition is slow without hardware for fused
//! multiply-adds, and chosen for their edges: tails of every length, one row more or less than a tile.

mod common;

use apr_kernels::{
    AttentionShape, Backend, KernelSet, KvLayout, KvView, Matrix, Nonlinearity, Product, RopeScaling, RopeTable,
};
use apr_tensor::{DType, weight_dtypes};
use common::{Seeded, n_scales, set_scale};

/// Bits with one pattern for NaN, whose payload is not part of the promise.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

fn definition() -> Backend {
    Backend::new(KernelSet::available()[0], 1)
}

fn backends() -> Vec<Backend> {
    let sets = KernelSet::available();
    sets.into_iter().flat_map(|set| [1, 2, 5].map(|n_threads| Backend::new(set, n_threads))).collect()
}

/// Compares `expected` with what `compute` gives on every backend.
fn check(backends: &[Backend], case: &str, expected: &[f32], compute: impl Fn(&Backend) -> Vec<f32>) {
    for backend in backends {
        let found = compute(backend);
        if let Some(i) = bits(&found).iter().zip(bits(expected)).position(|(found, expected)| *found != expected) {
            panic!("{case} on {backend:?}: value {i} is {:e}, defined as {:e}", found[i], expected[i]);
        }
        assert_eq!(found.len(), expected.len(), "{case}");
    }
}

/// Ways to cut `n` tokens into consecutive calls: all at once, one by one, and ragged.
fn splits(n: usize) -> Vec<Vec<usize>> {
    let mut ragged = Vec::new();
    let mut left = n;
    for len in [1, 3, 2, 7, 4].into_iter().cycle() {
        if left == 0 {
            break;
        }
        ragged.push(len.min(left));
        left -= len.min(left);
    }
    vec![vec![n], vec![1; n], ragged]
}

#[test]
fn machine_under_test() {
    let names: Vec<_> = KernelSet::available().iter().map(|set| set.isa().name()).collect();
    println!("compared: {}", names.join(" "));
    assert_eq!(names[0], "scalar");
}

#[test]
fn matmul_has_one_result() {
    let backends = backends();
    for row in weight_dtypes() {
        let cols: &[usize] = match row.block_elements {
            1 => &[1, 2, 15, 16, 17, 31, 33, 63, 100, 530, 1041],
            32 => &[32, 64, 96, 544, 1056],
            64 | 128 => &[128, 384, 1152],
            _ => &[256, 512, 1280],
        };
        for (seed, &cols) in cols.iter().enumerate() {
            let mut seeded = Seeded::new(seed as u64 + 1);
            // Many rows with short columns and few with long ones.
            let shapes = if cols < 300 { vec![1, 2, 3, 4, 5, 7, 37, 131] } else { vec![3, 9] };
            for rows in shapes {
                let data = seeded.weights(row.dtype, rows * cols);
                let w = Matrix::new(row.dtype, rows, cols, &data).unwrap();
                for n in [1, 2, 5, 6, 7, 13] {
                    let x = seeded.values(n * cols, 1.0);
                    let product = |backend: &Backend, split: &[usize]| {
                        let (mut y, mut start) = (vec![f32::NAN; n * rows], 0);
                        for len in split {
                            let (x, y) = (&x[start * cols..][..len * cols], &mut y[start * rows..][..len * rows]);
                            backend.matmul(&w, x, y);
                            start += len;
                        }
                        y
                    };
                    let expected = product(&definition(), &vec![1; n]);
                    for split in splits(n) {
                        let case = format!("{} {rows}×{cols}, tokens {split:?}", row.name);
                        check(&backends, &case, &expected, |backend| product(backend, &split));
                    }
                }
            }
        }
    }
}

/// Rows past a panel, columns past a slice, tokens past a block: running sums go to memory and come back.
#[test]
fn matmul_of_several_panels_slices_and_blocks_has_one_result() {
    let (rows, cols, n) = (67, 2112, 263);
    let mut seeded = Seeded::new(9);
    let x = seeded.values(n * cols, 1.0);
    let data = [seeded.weights(DType::Q5_0, rows * cols), seeded.weights(DType::BF16, 5 * cols)];
    let w =
        [Matrix::new(DType::Q5_0, rows, cols, &data[0]).unwrap(), Matrix::new(DType::BF16, 5, cols, &data[1]).unwrap()];
    // Two matrices at once, or each alone.
    let products = |backend: &Backend, at_once: bool| {
        let (mut a, mut b) = (vec![f32::NAN; n * rows], vec![f32::NAN; n * 5]);
        if at_once {
            backend.matmul_each(&x, &mut [Product { w: w[0], y: &mut a }, Product { w: w[1], y: &mut b }]);
        } else {
            backend.matmul(&w[0], &x, &mut a);
            backend.matmul(&w[1], &x, &mut b);
        }
        [a, b].concat()
    };
    let expected = products(&definition(), false);
    for at_once in [false, true] {
        check(&backends(), "matmul_each", &expected, |backend| products(backend, at_once));
    }
}

/// Long rows and very many tokens go lane by lane: ragged columns, rows past a tile, the fewest tokens, and products so
/// small that sums end in either zero.
#[test]
fn matmul_lane_by_lane_has_one_result() {
    let backends = backends();
    let cases = [
        (DType::F32, 3, 1025, 132, 1e-38),
        (DType::F32, 33, 1041, 133, 1.0),
        (DType::F16, 70, 1040, 143, 1e-38),
        (DType::BF16, 16, 1039, 151, 1e-42),
        (DType::Q8_0, 5, 1056, 200, 1.0),
        (DType::Q4K, 49, 1280, 145, 1.0),
        (DType::Q6K, 2, 11008, 132, 1.0),
    ];
    for (dtype, rows, cols, n, scale) in cases {
        let mut seeded = Seeded::new(cols as u64);
        let data = seeded.weights(dtype, rows * cols);
        let w = Matrix::new(dtype, rows, cols, &data).unwrap();
        let x = seeded.values(n * cols, scale);
        let mut expected = vec![f32::NAN; n * rows];
        for (x, y) in x.chunks(cols).zip(expected.chunks_mut(rows)) {
            definition().matmul(&w, x, y);
        }
        check(&backends, &format!("{dtype} {rows}×{cols}, {n} tokens"), &expected, |backend| {
            let mut y = vec![f32::NAN; n * rows];
            backend.matmul(&w, &x, &mut y);
            y
        });
    }
}

/// Sub-normal and huge scales and values: every rounding counts, and none is flushed.
#[test]
fn matmul_agrees_on_extreme_weights() {
    let backends = backends();
    let extremes = [0x0001u16, 0x03ff, 0x0400, 0x7bff, 0x8001, 0xfbff, 0x0000, 0x8000, 0x7c00, 0x7e00];
    for row in weight_dtypes().filter(|row| row.dtype != DType::F32) {
        let mut seeded = Seeded::new(7);
        let (rows, cols) = (2 * extremes.len(), 256);
        let mut data = seeded.weights(row.dtype, rows * cols);
        // One kind of extreme per row, so that an infinity in one does not hide the others.
        for (r, row_bytes) in data.chunks_mut(row.dtype.bytes_for(cols).unwrap()).enumerate() {
            for block in row_bytes.chunks_mut(row.block_bytes) {
                for i in 0..n_scales(row.dtype) {
                    set_scale(row.dtype, block, i, extremes[(r + i * 3) % extremes.len()]);
                }
            }
        }
        let w = Matrix::new(row.dtype, rows, cols, &data).unwrap();
        for scale in [1.0, f32::MIN_POSITIVE, 1e-42] {
            let x = seeded.values(3 * cols, scale);
            for n in [1, 3] {
                let product = |backend: &Backend| {
                    let mut y = vec![f32::NAN; n * rows];
                    backend.matmul(&w, &x[..n * cols], &mut y);
                    y
                };
                check(&backends, &format!("{} × {scale:e}", row.name), &product(&definition()), product);
            }
        }
    }
}

#[test]
fn equal_values_in_another_dtype_give_equal_bits() {
    let (rows, cols) = (6, 512);
    let mut seeded = Seeded::new(3);
    let x = seeded.values(2 * cols, 1.0);
    for row in weight_dtypes() {
        let stored = seeded.weights(row.dtype, rows * cols);
        let mut decoded = vec![0.0; rows * cols];
        apr_tensor::codec::decode(row.dtype, &stored, &mut decoded);
        let floats: Vec<u8> = decoded.iter().flat_map(|value| value.to_le_bytes()).collect();
        for backend in backends() {
            let product = |dtype, data| {
                let mut y = vec![f32::NAN; 2 * rows];
                backend.matmul(&Matrix::new(dtype, rows, cols, data).unwrap(), &x, &mut y);
                y
            };
            assert_eq!(bits(&product(row.dtype, &stored)), bits(&product(DType::F32, &floats)), "{}", row.name);
        }
    }
}

#[test]
fn attention_has_one_result() {
    let backends = backends();
    let shapes = [
        (1, 1, 16),
        (4, 2, 64),
        (6, 1, 20),
        (3, 3, 80),
        (2, 1, 128),
        (14, 2, 4),
        (8, 1, 96),
        (2, 2, 7),
        (5, 1, 256),
        (80, 1, 3),
    ];
    // Windows of one position, within a chunk, of a chunk and beyond; each context meets all of them but for the first.
    let windows = [None, Some(1), Some(7), Some(255), Some(256), Some(300)];
    // Contexts on both sides of a chunk's end, one that takes three chunks, and one that threads share by chunks.
    for (seed, first_pos) in [0, 1, 250, 255, 600, 2500].into_iter().enumerate() {
        for (i, (n_heads, n_kv_heads, head_dim)) in shapes.into_iter().enumerate() {
            let shape = AttentionShape {
                scale: [0.25, 0.1][i % 2],
                softcap: [None, Some(1.5)][(i + seed) % 2],
                window: windows[(i + seed) % windows.len()],
                ..AttentionShape::plain(n_heads, n_kv_heads, head_dim)
            };
            let n = if first_pos < 300 { 9 } else { 3 };
            let width = n_heads * head_dim;
            let n_cached = KvLayout { n_kv_heads, head_dim }.len(first_pos + n);
            let mut seeded = Seeded::new(seed as u64 + 1);
            let q = seeded.values(n * width, 2.0);
            // Of some keys the weights are too small to count.
            let k_scale = [2.0, 200.0][usize::from(seed == 3)];
            let (mut k, mut v) = (seeded.values(n_cached, k_scale), seeded.values(n_cached, 1.0));
            // What lies behind the last position may be anything.
            let layout = KvLayout { n_kv_heads, head_dim };
            for position in first_pos + n..(first_pos + n).next_multiple_of(256) {
                for kv_head in 0..n_kv_heads {
                    let nan = |cached: &mut [f32], offset: usize, stride: usize| {
                        cached[offset..]
                            .iter_mut()
                            .step_by(stride)
                            .take(head_dim)
                            .for_each(|number| *number = f32::NAN);
                    };
                    nan(&mut k, layout.key_offset(position, kv_head), 16);
                    nan(&mut v, layout.value_offset(position, kv_head), 1);
                }
            }
            let (mut k_f16, mut v_f16) = (vec![0; k.len()], vec![0; v.len()]);
            definition().store_kv_f16(&k, &mut k_f16);
            definition().store_kv_f16(&v, &mut v_f16);
            for cache in [KvView::F32 { k: &k, v: &v }, KvView::F16 { k: &k_f16, v: &v_f16 }] {
                let attend = |backend: &Backend, split: &[usize]| {
                    let (mut out, mut start) = (vec![f32::NAN; n * width], 0);
                    for len in split {
                        let range = start * width..(start + len) * width;
                        backend.attention(&q[range.clone()], cache, shape, first_pos + start, &mut out[range]);
                        start += len;
                    }
                    out
                };
                let expected = attend(&definition(), &[n]);
                assert!(expected.iter().all(|value| value.is_finite()));
                for split in splits(n) {
                    let case = format!("{shape:?} from {first_pos}, tokens {split:?}");
                    check(&backends, &case, &expected, |backend| attend(backend, &split));
                }
            }
        }
    }
}

/// Lengths with every tail, and enough rows that several threads take part.
const WIDTHS: [usize; 10] = [1, 3, 15, 16, 17, 31, 32, 64, 100, 1000];

#[test]
fn norms_have_one_result() {
    let backends = backends();
    for width in WIDTHS {
        let mut seeded = Seeded::new(width as u64);
        let (n, gain) = (20_000 / width + 1, seeded.values(width, 1.5));
        let x = seeded.values(n * width, 3.0);
        let norm = |backend: &Backend| {
            let mut y = vec![f32::NAN; x.len()];
            backend.rms_norm(&x, &gain, 1e-6, &mut y);
            y
        };
        check(&backends, &format!("rms_norm of {n} × {width}"), &norm(&definition()), norm);
        let bias = seeded.values(width, 0.5);
        let norm = |backend: &Backend| {
            let mut y = vec![f32::NAN; x.len()];
            backend.layer_norm(&x, &gain, &bias, 1e-6, &mut y);
            y
        };
        check(&backends, &format!("layer_norm of {n} × {width}"), &norm(&definition()), norm);
    }
}

#[test]
fn rope_has_one_result_and_any_batch_split() {
    let backends = backends();
    for (n_heads, head_dim, rotary_dim) in [(1, 2, 2), (2, 6, 4), (3, 64, 64), (5, 80, 20), (2, 128, 128)] {
        let n = 9_000 / (n_heads * head_dim) + 3;
        let mut table = RopeTable::new(head_dim, rotary_dim, 10_000.0, RopeScaling::None);
        table.grow(n + 5);
        let x = Seeded::new(head_dim as u64).values(n * n_heads * head_dim, 2.0);
        let turn = |backend: &Backend, calls: &[usize]| {
            let (mut x, mut start) = (x.clone(), 0);
            for len in calls {
                let width = n_heads * head_dim;
                backend.rope(&mut x[start * width..][..len * width], n_heads, &table, start + 5);
                start += len;
            }
            x
        };
        let expected = turn(&definition(), &[n]);
        for calls in [vec![n], vec![1, 2, n - 3]] {
            check(&backends, &format!("rope {n_heads} × {head_dim}"), &expected, |backend| turn(backend, &calls));
        }
    }
}

/// Ordinary values, the ends of `exp`'s range, infinities and NaN.
fn scores(len: usize) -> Vec<Vec<f32>> {
    let mut seeded = Seeded::new(len as u64);
    let mut rows = vec![seeded.values(len, 5.0), seeded.values(len, 120.0), vec![-0.0; len]];
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, f32::MAX, f32::MIN] {
        let mut row = seeded.values(len, 5.0);
        row[len / 2] = special;
        rows.push(row);
    }
    rows.push(vec![f32::NEG_INFINITY; len]);
    rows
}

#[test]
fn softmax_has_one_result() {
    let backends = backends();
    for len in WIDTHS {
        for row in scores(len) {
            let softmax = |backend: &Backend| {
                let mut x = row.clone();
                backend.softmax(&mut x);
                x
            };
            check(&backends, &format!("softmax of {len}"), &softmax(&definition()), softmax);
        }
    }
}

#[test]
fn functions_of_one_number_have_one_result() {
    let backends = backends();
    for len in WIDTHS.into_iter().chain([40_000]) {
        let up = Seeded::new(11).values(len, 2.0);
        for row in scores(len) {
            let each = |name: &str, change: &dyn Fn(&Backend, &mut [f32])| {
                let changed = |backend: &Backend| {
                    let mut x = row.clone();
                    change(backend, &mut x);
                    x
                };
                check(&backends, &format!("{name} of {len}"), &changed(&definition()), changed);
            };
            for f in Nonlinearity::ALL {
                each(&format!("{f:?}"), &|backend, x| backend.apply(f, x));
                each(&format!("{f:?} gate"), &|backend, x| backend.gate(f, x, &up));
            }
            each("softcap", &|backend, x| backend.softcap(x, 30.0));
            each("scale", &|backend, x| backend.scale(x, 1.7));
            each("add_scaled", &|backend, x| backend.add_scaled(x, &up, 0.22));
            each("add", &|backend, x| {
                backend.add(x, &up);
                backend.add_bias(x, &up);
            });
        }
    }
}

#[test]
fn storing_as_f16_has_one_result() {
    let mut values: Vec<f32> = (0..=u16::MAX).map(apr_tensor::codec::f16_to_f32).collect();
    // Ties and their neighbours, beyond the largest number, below the smallest.
    for i in 0..values.len() - 1 {
        let middle = (values[i] + values[i + 1]) / 2.0;
        values.extend([middle, middle.next_up(), middle.next_down()]);
    }
    values.extend([65519.9, 65520.0, f32::MAX, f32::MIN_POSITIVE, 2f32.powi(-25), 1.1 * 2f32.powi(-25)]);
    let stored = |backend: &Backend| {
        let mut bits = vec![0; values.len()];
        backend.store_kv_f16(&values, &mut bits);
        bits.into_iter().map(apr_tensor::codec::f16_to_f32).collect::<Vec<_>>()
    };
    check(&backends(), "store_kv_f16", &stored(&definition()), stored);
}
