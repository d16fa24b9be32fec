//! Causal attention over the cache.

use super::{Backend, TASK, with_scratch};
use crate::kv::{AttentionShape, KvHead, KvView};
use crate::scalar::CHUNK;

impl Backend {
    /// Attention of `n` tokens at positions `first_pos..`: token `i` sees positions `0..=first_pos + i` of the cache,
    /// which holds the keys and values of these tokens too. `q` and `out` are `[n, n_heads, head_dim]`.
    ///
    /// The score of a position is `dot(q, k) * scale`, then capped where the shape has a cap; softmax over all positions;
    /// then `p * v` is added position by position in chunks of 256 whose sums are added in order. Positions before the
    /// window, where the shape has one, count as scores of minus infinity.
    ///
    /// # Panics
    /// If the lengths contradict each other, or the window is empty.
    pub fn attention(&self, q: &[f32], cache: KvView<'_>, shape: AttentionShape, first_pos: usize, out: &mut [f32]) {
        let AttentionShape { n_heads, n_kv_heads, head_dim, window, .. } = shape;
        let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
        assert_eq!(q.len(), out.len(), "q and out have the same shape");
        if width == 0 {
            assert!(q.is_empty(), "{shape:?} for {} values", q.len());
            return;
        }
        assert!(window != Some(0), "{shape:?}");
        assert!(n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads), "{shape:?}");
        assert!(q.len().is_multiple_of(width), "{} values for {shape:?}", q.len());
        let n_positions = first_pos + q.len() / width;
        let (k_len, v_len) = cache.lens();
        assert!(k_len.min(v_len) >= n_positions * kv_width, "the cache holds fewer than {n_positions} positions");

        // A task is the query heads of one token that share a kv head, so that its keys and values are read once.
        let group_width = n_heads / n_kv_heads * head_dim;
        self.pool.for_each_chunk(out, group_width, |task_idx, out| {
            let (token, kv_head) = (task_idx / n_kv_heads, task_idx % n_kv_heads);
            let n_positions = first_pos + token + 1;
            let first_seen = window.map_or(0, |window| n_positions.saturating_sub(window));
            // Chunks and lanes stay where they are without a window, so whole chunks are left out.
            let first_chunk = first_seen / CHUNK * CHUNK;
            let head = KvHead { view: cache, stride: kv_width, offset: first_chunk * kv_width + kv_head * head_dim };
            let q = &q[task_idx * group_width..][..group_width];
            with_scratch(&TASK, n_positions - first_chunk, |scores| {
                for (q, out) in q.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                    // SAFETY: holding the set proves its instructions; the cache was checked to hold as many positions
                    // as there are scores, each with this kv head.
                    unsafe { (self.set.attend)(q, head, &shape, first_seen - first_chunk, scores, out) }
                }
            });
        });
    }
}
