//! Causal attention over the cache.

use std::ops::Range;

use super::{Backend, CALL, TASK, with_scratch};
use crate::kv::{AttentionShape, KvHead, KvLayout, KvView, Parts, QueryBlock};
use crate::pool::Disjoint;
use crate::scalar::CHUNK;

/// Queries that a block takes at least, if there are tokens enough.
const BLOCK_QUERIES: usize = 14;
/// Tasks that a call hands out at least for each thread, if there are positions enough, so that threads end together.
const TASKS_PER_THREAD: usize = 4;
/// Chunks of positions that a task takes at least.
const TASK_CHUNKS: usize = 4;

impl Backend {
    /// Attention of `n` tokens at positions `first_pos..`: token `i` sees positions `0..=first_pos + i` of the cache,
    /// which holds the keys and values of these tokens too, by [`KvLayout`]. `q` and `out` are `[n, n_heads, head_dim]`.
    ///
    /// The score of a position is `dot(q, k) * scale`, then capped where the shape has a cap. The result is the mean of
    /// values, weighted by `e^score`. Each chunk of 256 positions has its sums of weights and of weighted values, relative
    /// to its largest score; these sums are then joined in order. Positions before the window, where the shape has one,
    /// take no part.
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

        let n = q.len() / width;
        if n == 0 {
            return;
        }
        // A block is the query heads of a few tokens that share a kv head, so that a key or value is loaded once for them.
        let group = n_heads / n_kv_heads;
        let tokens_per_block = (BLOCK_QUERIES / group).clamp(1, n);
        let n_blocks = n.div_ceil(tokens_per_block) * n_kv_heads;
        let first_chunk = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window)) / CHUNK;
        let n_chunks = n_positions.div_ceil(CHUNK) - first_chunk(first_pos);
        let parts_len = Parts::len(n_chunks, tokens_per_block * group, head_dim);
        let out = Disjoint::new(out);
        let block = |block_idx: usize, parts: *mut f32| {
            let (token, kv_head) = (block_idx / n_kv_heads * tokens_per_block, block_idx % n_kv_heads);
            let (first_pos, n_tokens) = (first_pos + token, tokens_per_block.min(n - token));
            let offset = token * width + kv_head * group * head_dim;
            QueryBlock {
                shape: &shape,
                head: KvHead { view: cache, layout, kv_head },
                first_pos,
                n_tokens,
                group,
                q: q[offset..].as_ptr(),
                out: out.start().wrapping_add(offset),
                token_stride: width,
                parts: Parts {
                    start: parts,
                    first_chunk: first_chunk(first_pos),
                    n_queries: n_tokens * group,
                    head_dim,
                },
            }
        };
        let n_tasks = if self.n_threads() == 1 { n_blocks } else { TASKS_PER_THREAD * self.n_threads() };
        let n_shares = n_tasks.div_ceil(n_blocks).min(n_chunks / TASK_CHUNKS);
        if n_shares <= 1 {
            self.pool.run(n_blocks, &|block_idx| {
                with_scratch(&TASK, parts_len, |parts| {
                    let block = block(block_idx, parts.as_mut_ptr());
                    // SAFETY: holding the set proves its instructions; the cache was checked to hold all positions, and
                    // blocks have different results.
                    unsafe {
                        (self.set.attend)(block, block.all_chunks());
                        (self.set.join)(block);
                    }
                });
            });
            return;
        }
        // There are few blocks, so each is shared by chunks of positions.
        with_scratch(&CALL, n_blocks * parts_len, |parts| {
            let parts = Disjoint::new(parts);
            let block = |block_idx| block(block_idx, parts.start().wrapping_add(block_idx * parts_len));
            self.pool.run(n_blocks * n_shares, &|task_idx| {
                let (block, share) = (block(task_idx / n_shares), task_idx % n_shares);
                let Range { start, end } = block.all_chunks();
                let bound = |share: usize| start + (end - start) * share / n_shares;
                // SAFETY: as above; different chunks leave different parts.
                unsafe { (self.set.attend)(block, bound(share)..bound(share + 1)) }
            });
            self.pool.run(n_blocks, &|block_idx| {
                // SAFETY: as above; all parts are there.
                unsafe { (self.set.join)(block(block_idx)) }
            });
        });
    }
}
