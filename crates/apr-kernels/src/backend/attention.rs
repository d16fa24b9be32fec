//! Causal attention over the cache.

use super::{Backend, TASK, with_scratch};
use crate::kv::{AttentionShape, KvHead, KvLayout, KvView, QueryBlock};
use crate::pool::Disjoint;
use crate::scalar::CHUNK;

/// Queries that a task takes at least, if there are tokens enough.
const TASK_QUERIES: usize = 12;

impl Backend {
    /// Attention of `n` tokens at positions `first_pos..`: token `i` sees positions `0..=first_pos + i` of the cache,
    /// which holds the keys and values of these tokens too, by [`KvLayout`]. `q` and `out` are `[n, n_heads, head_dim]`.
    ///
    /// The score of a position is `dot(q, k) * scale`, then capped where the shape has a cap; softmax over all positions;
    /// then `p * v` is added position by position in chunks of 256 whose sums are added in order. Positions before the
    /// window, where the shape has one, count as scores of minus infinity.
    ///
    /// # Panics
    /// If the lengths contradict each other, or the window is empty.
    pub fn attention(&self, q: &[f32], cache: KvView<'_>, shape: AttentionShape, first_pos: usize, out: &mut [f32]) {
        let AttentionShape { n_heads, n_kv_heads, head_dim, window, .. } = shape;
        let width = n_heads * head_dim;
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
        let layout = KvLayout { n_kv_heads, head_dim };
        assert!(k_len.min(v_len) >= layout.len(n_positions), "the cache holds fewer than {n_positions} positions");

        // A task is the query heads of a few tokens that share a kv head, so that a key or value is loaded once for them.
        let group = n_heads / n_kv_heads;
        let n = q.len() / width;
        let tokens_per_task = (TASK_QUERIES / group).max(1);
        let out = Disjoint::new(out);
        self.pool.run(n.div_ceil(tokens_per_task) * n_kv_heads, &|task_idx| {
            let (token, kv_head) = (task_idx / n_kv_heads * tokens_per_task, task_idx % n_kv_heads);
            let n_tokens = tokens_per_task.min(n - token);
            let first_pos = first_pos + token;
            let first_seen = window.map_or(0, |window| (first_pos + 1).saturating_sub(window));
            // Chunks and lanes stay where they are without a window, so whole chunks are left out.
            let scores_stride = first_pos + n_tokens - first_seen / CHUNK * CHUNK;
            with_scratch(&TASK, n_tokens * group * scores_stride, |scores| {
                let offset = token * width + kv_head * group * head_dim;
                let block = QueryBlock {
                    shape: &shape,
                    head: KvHead { view: cache, layout, kv_head },
                    first_pos,
                    n_tokens,
                    group,
                    q: q[offset..].as_ptr(),
                    out: out.start().wrapping_add(offset),
                    token_stride: width,
                    scores: scores.as_mut_ptr(),
                    scores_stride,
                };
                // SAFETY: holding the set proves its instructions; the cache was checked to hold all positions, and tasks
                // have different results.
                unsafe { (self.set.attend)(block) }
            });
        });
    }
}
