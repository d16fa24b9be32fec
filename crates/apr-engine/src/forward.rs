//! The forward pass: the steps of the plan on the tokens of one chunk.

use crate::{Activation, Session, Stage};
use apr_kernels::Nonlinearity;
use apr_model::ModelSpec;
use std::ops::Range;

/// Positions whose logits are computed together where every position is wanted.
pub(crate) const LOGIT_ROWS: usize = 8;

/// Memory of the pass, allocated once: each buffer holds one chunk of tokens.
pub(crate) struct Scratch {
    /// Residual stream, `[n, hidden]`.
    x: Vec<f32>,
    /// Input of a block after its norm, `[n, hidden]`.
    norm: Vec<f32>,
    /// `[n, n_heads * head_dim]`.
    q: Vec<f32>,
    /// `[n, n_kv_heads * head_dim]` each.
    k: Vec<f32>,
    v: Vec<f32>,
    /// Output of attention, and of the per-head norms, `[n, n_heads * head_dim]`.
    heads: Vec<f32>,
    /// Output of a block, `[n, hidden]`.
    out: Vec<f32>,
    /// `[n, ffn]` each.
    gate: Vec<f32>,
    up: Vec<f32>,
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
            gate: buffer(spec.ffn_size),
            up: buffer(spec.ffn_size),
            stored_row: Vec::new(),
            logits: vec![0.0; spec.vocab_size as usize],
        }
    }
}

impl Session<'_> {
    /// Runs `ids` at positions `first..` through all layers: afterwards the cache holds their keys and values, and
    /// the scratch the residual stream after the last layer.
    pub(crate) fn forward(&mut self, ids: &[u32], first: usize) {
        let Self { model, cache, rope, scratch, observer, .. } = self;
        let (plan, backend, eps) = (&model.plan, &model.backend, model.spec.rms_eps);
        let n_tokens = ids.len();
        let mut show = |layer: Option<usize>, stage: Stage, values: &[f32]| {
            if let Some(observer) = observer {
                let layer = layer.map(|index| index as u32);
                observer.observe(&Activation { stage, layer, first_position: first, n_tokens, values });
            }
        };
        let (hidden, ffn) = (model.spec.hidden_size as usize, model.spec.ffn_size as usize);
        let q_width = plan.shape.n_heads * plan.shape.head_dim;
        let kv_width = plan.shape.n_kv_heads * plan.shape.head_dim;
        let x = &mut scratch.x[..n_tokens * hidden];
        let norm = &mut scratch.norm[..n_tokens * hidden];
        let q = &mut scratch.q[..n_tokens * q_width];
        let k = &mut scratch.k[..n_tokens * kv_width];
        let v = &mut scratch.v[..n_tokens * kv_width];
        let heads = &mut scratch.heads[..n_tokens * q_width];
        let out = &mut scratch.out[..n_tokens * hidden];
        let gate = &mut scratch.gate[..n_tokens * ffn];
        let up = &mut scratch.up[..n_tokens * ffn];
        let stored_row = &mut scratch.stored_row;

        for (&id, row) in ids.iter().zip(x.chunks_exact_mut(hidden)) {
            plan.embed.decode_row(id as usize, row);
        }
        show(None, Stage::Embed, x);

        for (index, layer) in plan.layers.iter().enumerate() {
            let mut show = |stage, values: &[f32]| show(Some(index), stage, values);

            backend.rms_norm(x, &layer.attn_norm, eps, norm);
            show(Stage::AttnNorm, norm);
            layer.q.project(backend, norm, q, stored_row);
            show(Stage::Query, q);
            layer.k.project(backend, norm, k, stored_row);
            show(Stage::Key, k);
            layer.v.project(backend, norm, v, stored_row);
            show(Stage::Value, v);
            // A gain of head_dim values norms each head on its own.
            if let Some(gain) = &layer.q_norm {
                backend.rms_norm(q, gain, eps, heads);
                q.copy_from_slice(heads);
                show(Stage::QueryNorm, q);
            }
            if let Some(gain) = &layer.k_norm {
                let normed = &mut heads[..k.len()];
                backend.rms_norm(k, gain, eps, normed);
                k.copy_from_slice(normed);
                show(Stage::KeyNorm, k);
            }
            backend.rope(q, plan.shape.n_heads, rope, first);
            show(Stage::QueryRope, q);
            backend.rope(k, plan.shape.n_kv_heads, rope, first);
            show(Stage::KeyRope, k);
            cache.append(backend, index, k, v);
            backend.attention(q, cache.view(index), plan.shape, first, heads);
            show(Stage::Attention, heads);
            layer.attn_out.project(backend, heads, out, stored_row);
            show(Stage::AttnOut, out);
            backend.add(x, out);
            show(Stage::AttnResidual, x);

            backend.rms_norm(x, &layer.mlp_norm, eps, norm);
            show(Stage::MlpNorm, norm);
            layer.gate.project(backend, norm, gate, stored_row);
            show(Stage::Gate, gate);
            layer.up.project(backend, norm, up, stored_row);
            show(Stage::Up, up);
            backend.gate(Nonlinearity::Silu, gate, up);
            show(Stage::GatedUp, gate);
            layer.down.project(backend, gate, out, stored_row);
            show(Stage::Down, out);
            backend.add(x, out);
            show(Stage::LayerOut, x);
        }
    }

    /// Logits of rows `rows` of the chunk that [`Session::forward`] has just run at positions `first..`.
    pub(crate) fn head(&mut self, rows: Range<usize>, first: usize) {
        let Self { model, scratch, observer, .. } = self;
        let (plan, backend, eps) = (&model.plan, &model.backend, model.spec.rms_eps);
        let (hidden, vocab) = (model.spec.hidden_size as usize, model.spec.vocab_size as usize);
        let (n_tokens, first_position) = (rows.len(), first + rows.start);
        let mut show = |stage: Stage, values: &[f32]| {
            if let Some(observer) = observer {
                observer.observe(&Activation { stage, layer: None, first_position, n_tokens, values });
            }
        };
        let x = &scratch.x[rows.start * hidden..rows.end * hidden];
        let norm = &mut scratch.norm[..n_tokens * hidden];
        backend.rms_norm(x, &plan.output_norm, eps, norm);
        show(Stage::OutputNorm, norm);
        scratch.logits.resize(n_tokens * vocab, 0.0);
        plan.head().project(backend, norm, &mut scratch.logits, &mut scratch.stored_row);
        show(Stage::Logits, &scratch.logits);
    }
}
