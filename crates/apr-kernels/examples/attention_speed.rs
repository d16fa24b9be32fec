//! Times attention with the heads of Qwen2.5-0.5B: `cargo run --release --example attention_speed [n_threads [context
//! n_tokens]]`.
//!
//! One line per cache dtype, context and number of tokens: the best of several passes over caches that together exceed a
//! last-level cache, `GB/s` of keys and values, and `G FMA/s` of multiply-adds in scores and mixing.

#[path = "../tests/common/mod.rs"]
#[expect(dead_code, reason = "only numbers are needed here, not weights")]
mod common;

use std::time::Instant;

use apr_kernels::{AttentionShape, Backend, KernelSet, KvLayout, KvView};
use common::Seeded;

fn main() {
    let set = KernelSet::detect().unwrap_or_else(|error| panic!("{error}"));
    let numbers: Vec<usize> = std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    let n_threads = numbers.first().copied().unwrap_or(1);
    let cases = match numbers[..] {
        [_, context, n] => vec![(context, n)],
        _ => vec![(8192, 1), (1024, 1), (8192, 8), (512, 256)],
    };
    let backend = Backend::new(set, n_threads);
    let shape = AttentionShape::plain(14, 2, 64);
    let (width, kv_width) = (14 * 64, 2 * 64);
    let layout = KvLayout { n_kv_heads: 2, head_dim: 64 };
    println!("{} kernels, {} threads", backend.isa(), backend.n_threads());
    println!("{:5} {:>8} {:>6} {:>8} {:>10} {:>10}", "cache", "context", "n", "GB/s", "G FMA/s", "µs");
    for (context, n) in cases {
        let mut seeded = Seeded::new(1);
        let n_layers = 24;
        let q = seeded.values(n * width, 1.0);
        let mut cached = || seeded.values(n_layers * layout.len(context), 1.0);
        let (k, v) = (cached(), cached());
        let (mut k_f16, mut v_f16, mut out) = (vec![0; k.len()], vec![0; v.len()], vec![0.0; q.len()]);
        backend.store_kv_f16(&k, &mut k_f16);
        backend.store_kv_f16(&v, &mut v_f16);
        for is_f16 in [false, true] {
            let mut best_seconds = vec![f64::INFINITY; n_layers];
            for _ in 0..6 {
                for (layer, best_seconds) in best_seconds.iter_mut().enumerate() {
                    let range = layer * layout.len(context)..(layer + 1) * layout.len(context);
                    let cache = if is_f16 {
                        KvView::F16 { k: &k_f16[range.clone()], v: &v_f16[range] }
                    } else {
                        KvView::F32 { k: &k[range.clone()], v: &v[range] }
                    };
                    let start = Instant::now();
                    backend.attention(&q, cache, shape, context - n, &mut out);
                    *best_seconds = best_seconds.min(start.elapsed().as_secs_f64());
                }
            }
            let seconds = best_seconds.iter().sum::<f64>() / n_layers as f64;
            let bytes = 2 * context * kv_width * if is_f16 { 2 } else { 4 };
            let seen: usize = (context - n + 1..=context).sum();
            println!(
                "{:5} {context:>8} {n:>6} {:>8.1} {:>10.1} {:>10.1}",
                if is_f16 { "f16" } else { "f32" },
                bytes as f64 / seconds / 1e9,
                (2 * seen * width) as f64 / seconds / 1e9,
                seconds * 1e6
            );
        }
    }
}
