//! Hyper-parameters beyond a plain decoder's, as GGUF keys. Source of the keys: gguf-py's constants.

use super::keys::Keys;
use super::rope;
use crate::ParseError;
use apr_model::{
    Architecture, AttnScale, Experts, ModelSpec, NormKind, Positions, RopeScaling, Variation, Window, WindowRule,
};

/// A key after the architecture's name, and its value.
pub(super) enum Pair {
    U32(&'static str, u32),
    F32(&'static str, f32),
    Bool(&'static str, bool),
    Str(&'static str, &'static str),
    /// One for each layer that has it, zero for the others.
    Layers(&'static str, Vec<u32>),
    /// A key of this project, whole.
    OwnF32(&'static str, f32),
    /// The same.
    OwnStr(&'static str, String),
}

/// The counts that decide what a key's absence means.
pub(super) struct Counts {
    pub(super) n_layers: u32,
    pub(super) head_dim: u32,
    pub(super) hidden_size: u32,
    pub(super) n_heads: u32,
}

const SHARED_WIDTH: &str = "expert_shared_feed_forward_length";
const NORMALISES: &str = "expert_weights_norm";
const WINDOW: &str = "attention.sliding_window";
const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
const WINDOW_ROPE_BASE: &str = "rope.freq_base_swa";
const SCORE_CAP: &str = "attn_logit_softcapping";
const LOGIT_CAP: &str = "final_logit_softcapping";
/// What scores are divided by the root of, where llama.cpp would take something else: it has no key for it.
const SCORE_WIDTH_KEY: &str = "apr.query_pre_attn_scalar";

/// The caps that families have keys for, and what llama.cpp takes in a file without the key.
const CAPS: &[(&str, &str, Option<f32>)] =
    &[("gemma2", SCORE_CAP, Some(50.0)), ("gemma2", LOGIT_CAP, Some(30.0)), ("gemma3", LOGIT_CAP, None)];
/// The window that llama.cpp gives a family without the key.
const WINDOW_OF: &[(&str, u32)] = &[("gemma2", 4096)];
/// The rotary base that it gives their layers with a window.
const WINDOW_ROPE_BASE_OF: &[(&str, f32)] = &[("gemma3", 10_000.0)];
/// The numbers of layers at which it divides scores by the root of the model's width for each head: the 27 B models.
const SCORES_BY_WIDTH_AT: &[(&str, u32)] = &[("gemma2", 46), ("gemma3", 62)];

fn row_of<T: Copy>(table: &[(&str, T)], arch: &Architecture) -> Option<T> {
    table.iter().find(|(id, _)| *id == arch.id).map(|(_, value)| *value)
}

fn cap_of(arch: &Architecture, key: &str) -> Option<Option<f32>> {
    CAPS.iter().find(|row| (row.0, row.1) == (arch.id, key)).map(|row| row.2)
}

/// What llama.cpp multiplies scores by where no key says it.
fn implied_scale(arch: &Architecture, counts: &Counts) -> AttnScale {
    let width = counts.hidden_size.checked_div(counts.n_heads);
    match (row_of(SCORES_BY_WIDTH_AT, arch), width) {
        (Some(n), Some(width)) if n == counts.n_layers => by_width(width as f32, counts),
        _ => AttnScale::Plain,
    }
}

fn by_width(width: f32, counts: &Counts) -> AttnScale {
    if width == counts.head_dim as f32 { AttnScale::Plain } else { AttnScale::InverseRoot(width) }
}

/// The layers below `n_layers` that have a window where every `n`th has none.
fn all_but_every(n: u32, n_layers: u32) -> Vec<u32> {
    (0..n_layers.min(1 << 16)).filter(|index| n == 0 || !(index + 1).is_multiple_of(n)).collect()
}

/// Whether llama.cpp would compute scores otherwise, for which this project has a key of its own.
pub(super) fn has_own_scale(spec: &ModelSpec) -> bool {
    let scale = spec.variation.attn_scale;
    !matches!(scale, AttnScale::Factor(_)) && scale != implied_scale(spec.arch, &counts(spec))
}

/// Whether llama.cpp would give the model a cap or a window that it does not have.
pub(super) fn lacks_what_is_implied(spec: &ModelSpec) -> bool {
    let v = &spec.variation;
    let caps = [(SCORE_CAP, v.attn_softcap), (LOGIT_CAP, v.logit_softcap)];
    let lacks_cap = caps.iter().any(|&(key, cap)| cap.is_none() && cap_of(spec.arch, key).flatten().is_some());
    lacks_cap || (v.window.is_none() && row_of(WINDOW_OF, spec.arch).is_some())
}

fn counts(spec: &ModelSpec) -> Counts {
    let ModelSpec { n_layers, head_dim, hidden_size, n_heads, .. } = *spec;
    Counts { n_layers, head_dim, hidden_size, n_heads }
}

/// llama.cpp's `smollm3` leaves every fourth layer unturned; its files have no key for it.
const UNTURNED_EVERY: &[(&str, u32)] = &[("smollm3", 4)];

/// The key of the number under the root of every norm.
pub(super) fn norm_eps(arch: &Architecture) -> &'static str {
    match arch.norm {
        NormKind::Layer => "attention.layer_norm_epsilon",
        NormKind::Rms | NormKind::RmsPlusOne => "attention.layer_norm_rms_epsilon",
    }
}

/// The pairs that say what `spec` is beyond a plain decoder, or what GGUF has no key for.
pub(super) fn pairs(spec: &ModelSpec) -> Result<Vec<Pair>, String> {
    let (arch, v) = (spec.arch, &spec.variation);
    let no_key = |what: &str| Err(format!("GGUF has no key for {what} of a {} model", arch.id));
    let mut pairs = Vec::new();
    if arch.gguf.permutes_qk || v.rotary_dim.is_some() {
        pairs.push(Pair::U32("rope.dimension_count", spec.rotary_dim()));
    }
    pairs.extend(rope::pairs(v.rope_scaling));
    if v.unrotated_layers != unturned(arch, spec.n_layers) {
        return no_key("the layers that don't turn");
    }
    window_pairs(spec, &mut pairs)?;
    match v.attn_scale {
        AttnScale::Factor(factor) => pairs.push(Pair::F32("attention.scale", factor)),
        AttnScale::Plain | AttnScale::InverseRoot(_) if !has_own_scale(spec) => {}
        AttnScale::Plain => pairs.push(Pair::OwnF32(SCORE_WIDTH_KEY, spec.head_dim as f32)),
        AttnScale::InverseRoot(width) => pairs.push(Pair::OwnF32(SCORE_WIDTH_KEY, width)),
    }
    for (key, cap) in [(SCORE_CAP, v.attn_softcap), (LOGIT_CAP, v.logit_softcap)] {
        match (cap_of(arch, key), cap) {
            (None, Some(_)) => return no_key("the cap of scores and logits"),
            // Zero is none, where the key's absence would be a cap.
            (Some(implied), cap) if cap.or(implied).is_some() => pairs.push(Pair::F32(key, cap.unwrap_or(0.0))),
            _ => {}
        }
    }
    let factors =
        [("embedding_scale", v.embed_scale), ("residual_scale", v.residual_scale), ("logit_scale", v.logit_divisor)];
    pairs.extend(factors.into_iter().filter_map(|(key, factor)| Some(Pair::F32(key, factor?))));
    if has_parallel_key(arch) {
        pairs.push(Pair::Bool("use_parallel_residual", v.parallel_residual));
    } else if v.parallel_residual {
        return no_key("parallel residuals");
    }
    if let Some(experts) = &v.experts {
        pairs.push(Pair::U32("expert_count", experts.n_experts));
        pairs.push(Pair::U32("expert_used_count", experts.n_used));
        pairs.push(Pair::U32("expert_feed_forward_length", experts.ffn_size));
        if experts.shared_ffn_size > 0 {
            pairs.push(Pair::U32(SHARED_WIDTH, experts.shared_ffn_size));
        }
        if experts.normalise != normalises(arch) {
            pairs.push(Pair::Bool(NORMALISES, experts.normalise));
        }
    }
    Ok(pairs)
}

fn window_pairs(spec: &ModelSpec, pairs: &mut Vec<Pair>) -> Result<(), String> {
    let (arch, v) = (spec.arch, &spec.variation);
    let no_key = |what: &str| Err(format!("GGUF has no key for {what} of a {} model", arch.id));
    let implied_base = row_of(WINDOW_ROPE_BASE_OF, arch).filter(|_| v.window.is_some());
    match (v.window_rope_theta, arch.window) {
        (Some(theta), WindowRule::AllButEvery(_)) => pairs.push(Pair::F32(WINDOW_ROPE_BASE, theta)),
        (None, _) if implied_base.is_none() => {}
        _ => return no_key("the rotary base in layers with a window"),
    }
    let Some(window) = &v.window else {
        pairs.extend(row_of(WINDOW_OF, arch).map(|_| Pair::U32(WINDOW, 0)));
        return Ok(());
    };
    if arch.window == WindowRule::Absent {
        return no_key("the sliding window");
    }
    let has_layers = |n: u32| window.layers == all_but_every(n, spec.n_layers);
    if implied_windows(arch, spec.n_layers).as_ref() != Some(&window.layers) {
        // llama.cpp reads a number where it knows the window at all, and ignores a list where it does not.
        let is_number = matches!(arch.window, WindowRule::AllButEvery(_));
        pairs.push(match (2..=spec.n_layers).find(|&n| is_number && has_layers(n)) {
            Some(n) => Pair::U32(WINDOW_PATTERN, n),
            None => {
                let has = |index| u32::from(window.layers.contains(&index));
                Pair::Layers(WINDOW_PATTERN, (0..spec.n_layers).map(has).collect())
            }
        });
    }
    pairs.push(Pair::U32(WINDOW, window.size));
    Ok(())
}

/// The layers that have the window where no key lists them; none where that says nothing.
fn implied_windows(arch: &Architecture, n_layers: u32) -> Option<Vec<u32>> {
    match arch.window {
        WindowRule::All => Some(all_but_every(0, n_layers)),
        WindowRule::AllButEvery(n) => Some(all_but_every(n, n_layers)),
        WindowRule::FromLayer | WindowRule::Absent => None,
    }
}

/// The window that the keys state.
fn window(keys: &Keys<'_, '_>, arch: &Architecture, n_layers: u32) -> Result<Option<Window>, ParseError> {
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    let size = keys.count(&key(WINDOW))?.or_else(|| row_of(WINDOW_OF, arch)).filter(|&n| n > 0);
    let Some(size) = size else { return Ok(None) };
    if arch.window == WindowRule::Absent {
        return Err(ParseError::unsupported(format!("{} in a {} model", key(WINDOW), arch.id)));
    }
    let layers = match (keys.flags(&key(WINDOW_PATTERN))?, keys.number(&key(WINDOW_PATTERN))?) {
        (Some(flags), _) if flags.len() == n_layers as usize => {
            (0..n_layers).zip(flags).filter(|(_, flag)| **flag != 0).map(|(index, _)| index).collect()
        }
        (Some(flags), _) => {
            let (key, n) = (key(WINDOW_PATTERN), flags.len());
            return Err(ParseError::new(format!("metadata key {key:?} lists {n} layers of {n_layers}")));
        }
        (None, Some(n)) if matches!(arch.window, WindowRule::AllButEvery(_)) => all_but_every(n, n_layers),
        (None, number) => implied_windows(arch, n_layers).filter(|_| number.is_none()).ok_or_else(|| {
            let (window, layers) = (key(WINDOW), key(WINDOW_PATTERN));
            ParseError::unsupported(format!("{window} in a {} model without a list {layers}", arch.id))
        })?,
    };
    Ok((!layers.is_empty()).then_some(Window { size, layers }))
}

/// The experts that the keys state; layers without a router have none.
fn experts(
    keys: &Keys<'_, '_>,
    arch: &Architecture,
    n_layers: u32,
    has_router: impl Fn(u32) -> bool,
) -> Result<Option<Experts>, ParseError> {
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    let Some(n_experts) = keys.count(&key("expert_count"))?.filter(|&n| n > 0) else { return Ok(None) };
    if !arch.experts {
        return Err(ParseError::unsupported(format!("{} in a {} model", key("expert_count"), arch.id)));
    }
    Ok(Some(Experts {
        n_experts,
        n_used: keys.required_count(&key("expert_used_count"))?,
        ffn_size: keys.required_count(&key("expert_feed_forward_length"))?,
        shared_ffn_size: keys.count(&key(SHARED_WIDTH))?.unwrap_or(0),
        normalise: keys.boolean(&key(NORMALISES))?.unwrap_or(normalises(arch)),
        dense_layers: (0..n_layers.min(1 << 12)).filter(|&index| !has_router(index)).collect(),
    }))
}

/// Whether llama.cpp divides the weights of the used experts by their sum.
pub(super) fn normalises(arch: &Architecture) -> bool {
    arch.id == "qwen3moe"
}

/// What the keys say beyond a plain decoder, but for the rotary scaling.
pub(super) fn read(
    keys: &Keys<'_, '_>,
    arch: &'static Architecture,
    counts: &Counts,
    has_router: impl Fn(u32) -> bool,
) -> Result<Variation, ParseError> {
    let &Counts { n_layers, head_dim, .. } = counts;
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    // A factor of one, and in files of some converters zero, changes nothing.
    let factor = |suffix: &str| -> Result<Option<f32>, ParseError> {
        Ok(keys.float(&key(suffix))?.filter(|&x| x != 1.0 && x != 0.0))
    };
    let window = window(keys, arch, n_layers)?;
    let cap = |suffix: &str| -> Result<Option<f32>, ParseError> {
        let stated = keys.float(&key(suffix))?;
        match (cap_of(arch, suffix), stated.filter(|&cap| cap != 0.0)) {
            (None, Some(_)) => Err(ParseError::unsupported(format!("{} in a {} model", key(suffix), arch.id))),
            (implied, cap) => Ok(if stated.is_some() { cap } else { implied.flatten() }),
        }
    };
    let attn_scale = match (factor("attention.scale")?, keys.float(SCORE_WIDTH_KEY)?) {
        (Some(factor), _) => AttnScale::Factor(factor),
        (None, Some(width)) => by_width(width, counts),
        (None, None) => implied_scale(arch, counts),
    };
    let window_rope_theta = keys.float(&key(WINDOW_ROPE_BASE))?;
    let parallel = if has_parallel_key(arch) { keys.boolean(&key("use_parallel_residual"))? } else { None };
    Ok(Variation {
        rotary_dim: match arch.positions {
            Positions::Rotary => keys.count(&key("rope.dimension_count"))?.filter(|&n| n != head_dim),
            Positions::Learned => None,
        },
        rope_scaling: RopeScaling::None,
        unrotated_layers: unturned(arch, n_layers),
        window_rope_theta: window_rope_theta.or_else(|| row_of(WINDOW_ROPE_BASE_OF, arch).filter(|_| window.is_some())),
        window,
        attn_scale,
        attn_softcap: cap(SCORE_CAP)?,
        logit_softcap: cap(LOGIT_CAP)?,
        embed_scale: factor("embedding_scale")?,
        residual_scale: factor("residual_scale")?,
        logit_divisor: factor("logit_scale")?,
        parallel_residual: parallel == Some(true),
        experts: experts(keys, arch, n_layers, has_router)?,
    })
}

fn has_parallel_key(arch: &Architecture) -> bool {
    arch.id == "stablelm"
}

fn unturned(arch: &Architecture, n_layers: u32) -> Vec<u32> {
    let layers = 0..n_layers.min(1 << 16);
    row_of(UNTURNED_EVERY, arch)
        .map(|every| layers.filter(|index| (index + 1).is_multiple_of(every)).collect())
        .unwrap_or_default()
}
