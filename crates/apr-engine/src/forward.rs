//! The forward pass: the steps of the plan on the tokens of one chunk.

use crate::plan::MlpInput;
use crate::weight::project_each;
use crate::{Activation, Session, Stage, feed_forward};
use apr_model::ModelSpec;
use std::ops::Range;

/// Positions whose logits are computed together where every position is wanted.
pub(crate) const LOGIT_ROWS: usize = 8;

/// Memory of the pass, allocated once: each buffer holds one chunk of tokens.
pub(crate) struct Scratch {
    /// Residual stream, `[n, hidden]`.
    x: Vec<f32>,
    /// Input of a block, `[n, hidden]`.
    norm: Vec<f32>,
    /// `[n, n_heads * head_dim]`.
    q: Vec<f32>,
    /// `[n, n_kv_heads * head_dim]` each.
    k: Vec<f32>,
    v: Vec<f32>,
    /// Output of attention, and of the norms of queries and keys, `[n, n_heads * head_dim]`.
    heads: Vec<f32>,
    /// Output of a block, `[n, hidden]`.
    out: Vec<f32>,
    /// The same after a norm.
    spare: Vec<f32>,
    /// That of the feed-forward block.
    mlp: feed_forward::Scratch,
    /// One row of outputs in stored order.
    stored_row: Vec<f32>,
    /// Logits of the rows last asked for, `[n_rows, vocab]`; always room for one row.
    pub(crate) logits: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new(spec: &ModelSpec, chunk: usize) -> Self {
        let buffer = |width: u32| vec![0.0; chunk * width as usize];
        let heads = |n: u32| vec![0.0; chunk * n as usize * spec.head_dim as usize];
        Self {
            x: buffer(spec.hidden_size),
            norm: buffer(spec.hidden_size),
            q: heads(spec.n_heads),
            k: heads(spec.n_kv_heads),
            v: heads(spec.n_kv_heads),
            heads: heads(spec.n_heads),
            out: buffer(spec.hidden_size),
            spare: buffer(spec.hidden_size),
            mlp: feed_forward::Scratch::default(),
            stored_row: Vec::new(),
            logits: vec![0.0; spec.vocab_size as usize],
        }
    }
}

impl Session<'_> {
    /// Runs `ids` at positions `first..` through all layers: afterwards the cache holds their keys and values, and
    /// the scratch, for the rows `wanted` of the chunk, the residual stream after the last layer.
    ///
    /// Of the last layer the other rows need keys and values only. An observer is shown all rows.
    pub(crate) fn forward(&mut self, ids: &[u32], first: usize, wanted: Range<usize>) {
        let Self { model, cache, ropes, scratch, observer, .. } = self;
        let (plan, backend, spec) = (&model.plan, &model.backend, &model.spec);
        let n_tokens = ids.len();
        let wanted = if observer.is_some() { 0..n_tokens } else { wanted };
        let mut show = |layer: Option<usize>, stage: Stage, values: &[f32]| {
            if let Some(observer) = observer {
                let layer = layer.map(|index| index as u32);
                observer.observe(&Activation { stage, layer, first_position: first, n_tokens, values });
            }
        };
        let hidden = spec.hidden_size as usize;
        let (n_heads, n_kv_heads) = (spec.n_heads as usize, spec.n_kv_heads as usize);
        let (q_width, kv_width) = (n_heads * spec.head_dim as usize, n_kv_heads * spec.head_dim as usize);
        let x = &mut scratch.x[..n_tokens * hidden];
        let norm = &mut scratch.norm[..n_tokens * hidden];
        let q = &mut scratch.q[..n_tokens * q_width];
        let k = &mut scratch.k[..n_tokens * kv_width];
        let v = &mut scratch.v[..n_tokens * kv_width];
        let heads = &mut scratch.heads[..n_tokens * q_width];
        let out = &mut scratch.out[..n_tokens * hidden];
        let spare = &mut scratch.spare[..n_tokens * hidden];
        let stored_row = &mut scratch.stored_row;
        // `x += block`, in models that scale what a block adds.
        let add = |x: &mut [f32], block: &[f32]| match plan.residual_scale {
            Some(factor) => backend.add_scaled(x, block, factor),
            None => backend.add(x, block),
        };

        for (&id, row) in ids.iter().zip(x.chunks_exact_mut(hidden)) {
            plan.embed.decode_row(id as usize, row);
        }
        if let Some(factor) = plan.embed_scale {
            backend.scale(x, factor);
        }
        if let Some(positions) = &plan.position_embed {
            for (position, row) in (first..).zip(norm.chunks_exact_mut(hidden)) {
                positions.decode_row(position, row);
            }
            backend.add(x, norm);
        }
        show(None, Stage::Embed, x);

        for (index, layer) in plan.layers.iter().enumerate() {
            let mut show = |stage, values: &[f32]| show(Some(index), stage, values);

            match &layer.attn_norm {
                Some(attn_norm) => {
                    attn_norm.apply(backend, x, norm);
                    show(Stage::AttnNorm, norm);
                }
                None => norm.copy_from_slice(x),
            }
            let rows = if index + 1 == plan.layers.len() { wanted.clone() } else { 0..n_tokens };
            let of_rows = |width: usize| rows.start * width..rows.end * width;
            if rows.len() == n_tokens {
                let projections = [(&layer.q, &mut *q), (&layer.k, &mut *k), (&layer.v, &mut *v)];
                project_each(backend, norm, projections, stored_row);
            } else {
                project_each(backend, norm, [(&layer.k, &mut *k), (&layer.v, &mut *v)], stored_row);
                layer.q.project(backend, &norm[of_rows(hidden)], &mut q[of_rows(q_width)], stored_row);
            }
            let (n_rows, first_row) = (rows.len(), first + rows.start);
            let q = &mut q[of_rows(q_width)];
            show(Stage::Query, q);
            show(Stage::Key, k);
            show(Stage::Value, v);
            // A gain of head_dim values norms each head on its own, a longer one the whole row.
            if let Some(q_norm) = &layer.q_norm {
                q_norm.apply_in_place(backend, q, heads);
                show(Stage::QueryNorm, q);
            }
            if let Some(k_norm) = &layer.k_norm {
                k_norm.apply_in_place(backend, k, heads);
                show(Stage::KeyNorm, k);
            }
            if let Some(rope) = layer.rope {
                backend.rope(q, n_heads, &ropes[rope], first_row);
                show(Stage::QueryRope, q);
                backend.rope(k, n_kv_heads, &ropes[rope], first);
                show(Stage::KeyRope, k);
            }
            cache.append(backend, index, k, v);
            if rows.is_empty() {
                return;
            }
            let (x, norm) = (&mut x[of_rows(hidden)], &mut norm[of_rows(hidden)]);
            let (out, spare) = (&mut out[of_rows(hidden)], &mut spare[of_rows(hidden)]);
            let heads = &mut heads[of_rows(q_width)];
            backend.attention(q, cache.view(index), layer.shape, first_row, heads);
            show(Stage::Attention, heads);
            layer.attn_out.project(backend, heads, out, stored_row);
            show(Stage::AttnOut, out);
            if let Some(post_norm) = &layer.attn_post_norm {
                post_norm.apply_in_place(backend, out, spare);
                show(Stage::AttnPostNorm, out);
            }
            add(x, out);
            show(Stage::AttnResidual, x);

            match &layer.mlp_input {
                MlpInput::Normed(mlp_norm) => {
                    mlp_norm.apply(backend, x, norm);
                    show(Stage::MlpNorm, norm);
                }
                MlpInput::Residual => norm.copy_from_slice(x),
                MlpInput::AttentionInput => {}
            }
            layer.mlp.run(backend, norm, out, n_rows, &mut scratch.mlp, &mut show);
            if let Some(post_norm) = &layer.mlp_post_norm {
                post_norm.apply_in_place(backend, out, spare);
                show(Stage::MlpPostNorm, out);
            }
            add(x, out);
            show(Stage::LayerOut, x);
        }
    }

    /// Logits of rows `rows` of the chunk that [`Session::forward`] has just run at positions `first..`.
    pub(crate) fn head(&mut self, rows: Range<usize>, first: usize) {
        let n_tokens = rows.len();
        self.output_norm(rows.clone(), first);
        let Self { model, scratch, observer, .. } = self;
        let (plan, backend) = (&model.plan, &model.backend);
        let (hidden, vocab) = (model.spec.hidden_size as usize, model.spec.vocab_size as usize);
        let norm = &scratch.norm[..n_tokens * hidden];
        scratch.logits.resize(n_tokens * vocab, 0.0);
        plan.head().project(backend, norm, &mut scratch.logits, &mut scratch.stored_row);
        if let Some(factor) = plan.logit_scale {
            backend.scale(&mut scratch.logits, factor);
        }
        if let Some(cap) = plan.logit_softcap {
            backend.softcap(&mut scratch.logits, cap);
        }
        if let Some(observer) = observer {
            let (values, first_position) = (scratch.logits.as_slice(), first + rows.start);
            observer.observe(&Activation { stage: Stage::Logits, layer: None, first_position, n_tokens, values });
        }
    }

    /// The states after the final norm of some rows of the chunk whose first position is `first`.
    pub(crate) fn output_norm(&mut self, rows: Range<usize>, first: usize) -> &[f32] {
        let Self { model, scratch, observer, .. } = self;
        let hidden = model.spec.hidden_size as usize;
        let x = &scratch.x[rows.start * hidden..rows.end * hidden];
        let values = &mut scratch.norm[..rows.len() * hidden];
        model.plan.output_norm.apply(&model.backend, x, values);
        if let Some(observer) = observer {
            let (n_tokens, first_position) = (rows.len(), first + rows.start);
            observer.observe(&Activation { stage: Stage::OutputNorm, layer: None, first_position, n_tokens, values });
        }
        values
    }
}
