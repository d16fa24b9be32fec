//! Causal attention over the cache.

use super::{Backend, TASK, with_scratch};
use crate::kv::{AttentionShape, KvHead, KvView};

impl Backend {
    /// Attention of `n` tokens at positions `first_pos..`: token `i` sees positions `0..=first_pos + i` of the cache,
    /// which holds the keys and values of these tokens too. `q` and `out` are `[n, n_heads, head_dim]`.
    ///
    /// The score of a position is `dot(q, k) * scale` with `scale = 1 / sqrt(head_dim)`; softmax over all positions;
    /// then `p * v` is added position by position in chunks of 256 whose sums are added in order.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn attention(&self, q: &[f32], cache: KvView<'_>, shape: AttentionShape, first_pos: usize, out: &mut [f32]) {
        let AttentionShape { n_heads, n_kv_heads, head_dim } = shape;
        let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
        assert_eq!(q.len(), out.len(), "q and out have the same shape");
        if width == 0 {
            assert!(q.is_empty(), "{shape:?} for {} values", q.len());
            return;
        }
        assert!(n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads), "{shape:?}");
        assert!(q.len().is_multiple_of(width), "{} values for {shape:?}", q.len());
        let n_positions = first_pos + q.len() / width;
        let (k_len, v_len) = cache.lens();
        assert!(k_len.min(v_len) >= n_positions * kv_width, "the cache holds fewer than {n_positions} positions");

        let scale = 1.0 / (head_dim as f32).sqrt();
        // A task is the query heads of one token that share a kv head, so that its keys and values are read once.
        let group_width = n_heads / n_kv_heads * head_dim;
        self.pool.for_each_chunk(out, group_width, |task_idx, out| {
            let (token, kv_head) = (task_idx / n_kv_heads, task_idx % n_kv_heads);
            let head = KvHead { view: cache, stride: kv_width, offset: kv_head * head_dim };
            let q = &q[task_idx * group_width..][..group_width];
            with_scratch(&TASK, first_pos + token + 1, |scores| {
                for (q, out) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                    // SAFETY: holding the set proves its instructions; the cache was checked to hold as many positions
                    // as there are scores, each with this kv head.
                    unsafe { (self.set.attend)(q, head, scale, scores, out) }
                }
            });
        });
    }
}
