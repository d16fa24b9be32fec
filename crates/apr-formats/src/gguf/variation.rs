//! Hyper-parameters beyond a plain decoder's, as GGUF keys. Source of the keys: gguf-py's constants.

use super::keys::Keys;
use crate::ParseError;
use apr_model::{Architecture, AttnScale, ModelSpec, NormKind, Positions, RopeScaling, Variation, Window, WindowRule};

/// A key after the architecture's name, and its value.
pub(super) enum Pair {
    U32(&'static str, u32),
    F32(&'static str, f32),
    Bool(&'static str, bool),
    Str(&'static str, &'static str),
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
    if arch.gguf_permutes_qk() || v.rotary_dim.is_some() {
        pairs.push(Pair::U32("rope.dimension_count", spec.rotary_dim()));
    }
    match scaling_pairs(v.rope_scaling) {
        Some(scaling) => pairs.extend(scaling),
        None => return no_key("the rotary scaling"),
    }
    if v.window_rope_theta.is_some() {
        return no_key("the rotary base in layers with a window");
    }
    if v.unrotated_layers != unturned(arch, spec.n_layers) {
        return no_key("the layers that don't turn");
    }
    if let Some(window) = &v.window {
        if arch.window != WindowRule::All || window.layers.len() != spec.n_layers as usize {
            return no_key("the sliding window in some layers");
        }
        pairs.push(Pair::U32("attention.sliding_window", window.size));
    }
    match v.attn_scale {
        AttnScale::Plain => {}
        AttnScale::Factor(factor) => pairs.push(Pair::F32("attention.scale", factor)),
        AttnScale::InverseRoot(_) => return no_key("the scale of scores"),
    }
    if v.attn_softcap.or(v.logit_softcap).is_some() {
        return no_key("the cap of scores and logits");
    }
    let factors =
        [("embedding_scale", v.embed_scale), ("residual_scale", v.residual_scale), ("logit_scale", v.logit_divisor)];
    pairs.extend(factors.into_iter().filter_map(|(key, factor)| Some(Pair::F32(key, factor?))));
    if has_parallel_key(arch) {
        pairs.push(Pair::Bool("use_parallel_residual", v.parallel_residual));
    } else if v.parallel_residual {
        return no_key("parallel residuals");
    }
    if v.experts.is_some() {
        return no_key("the experts");
    }
    Ok(pairs)
}

/// What the keys say beyond a plain decoder.
pub(super) fn read(
    keys: &Keys<'_, '_>,
    arch: &'static Architecture,
    n_layers: u32,
    head_dim: u32,
) -> Result<Variation, ParseError> {
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    // A factor of one, and in files of some converters zero, changes nothing.
    let factor = |suffix: &str| -> Result<Option<f32>, ParseError> {
        Ok(keys.float(&key(suffix))?.filter(|&x| x != 1.0 && x != 0.0))
    };
    let window = keys.count(&key("attention.sliding_window"))?.filter(|&n| n > 0);
    let window = match (window, arch.window) {
        (Some(size), WindowRule::All) => Some(Window { size, layers: (0..n_layers.min(1 << 16)).collect() }),
        (Some(_), _) => {
            let detail = format!("{} in a {} model", key("attention.sliding_window"), arch.id);
            return Err(ParseError::unsupported(detail));
        }
        (None, _) => None,
    };
    for suffix in ["attn_logit_softcapping", "final_logit_softcapping", "expert_count"] {
        if keys.float(&key(suffix)).ok().flatten().is_some() || keys.count(&key(suffix)).ok().flatten() > Some(0) {
            return Err(ParseError::unsupported(format!("{} in a {} model", key(suffix), arch.id)));
        }
    }
    let parallel = if has_parallel_key(arch) { keys.boolean(&key("use_parallel_residual"))? } else { None };
    Ok(Variation {
        rotary_dim: match arch.positions {
            Positions::Rotary => keys.count(&key("rope.dimension_count"))?.filter(|&n| n != head_dim),
            Positions::Learned => None,
        },
        rope_scaling: scaling(keys, arch)?,
        unrotated_layers: unturned(arch, n_layers),
        window,
        attn_scale: factor("attention.scale")?.map_or(AttnScale::Plain, AttnScale::Factor),
        embed_scale: factor("embedding_scale")?,
        residual_scale: factor("residual_scale")?,
        logit_divisor: factor("logit_scale")?,
        parallel_residual: parallel == Some(true),
        ..Variation::default()
    })
}

fn has_parallel_key(arch: &Architecture) -> bool {
    arch.id == "stablelm"
}

fn unturned(arch: &Architecture, n_layers: u32) -> Vec<u32> {
    let every = UNTURNED_EVERY.iter().find(|(id, _)| *id == arch.id).map(|(_, every)| *every);
    let layers = 0..n_layers.min(1 << 16);
    every.map(|every| layers.filter(|index| (index + 1).is_multiple_of(every)).collect()).unwrap_or_default()
}

/// GGUF states factors as 32-bit numbers, and YaRN without its two options.
fn scaling_pairs(scaling: RopeScaling) -> Option<Vec<Pair>> {
    let narrow = |x: f64| (f64::from(x as f32) == x).then_some(x as f32);
    Some(match scaling {
        RopeScaling::None => Vec::new(),
        RopeScaling::Linear { factor } => {
            vec![Pair::Str("rope.scaling.type", "linear"), Pair::F32("rope.scaling.factor", narrow(factor)?)]
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_position_embeddings,
            attention_factor: None,
            truncate: true,
        } => vec![
            Pair::Str("rope.scaling.type", "yarn"),
            Pair::F32("rope.scaling.factor", narrow(factor)?),
            Pair::U32("rope.scaling.original_context_length", original_max_position_embeddings),
            Pair::F32("rope.scaling.yarn_beta_fast", narrow(beta_fast)?),
            Pair::F32("rope.scaling.yarn_beta_slow", narrow(beta_slow)?),
        ],
        RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } | RopeScaling::Yarn { .. } => return None,
    })
}

fn scaling(keys: &Keys<'_, '_>, arch: &Architecture) -> Result<RopeScaling, ParseError> {
    let key = |suffix: &str| format!("{}.rope.scaling.{suffix}", arch.gguf_id());
    let kind = keys.string(&key("type"))?;
    let float = |suffix: &str| Ok::<_, ParseError>(keys.float(&key(suffix))?.map(f64::from));
    let factor = || keys.required_float(&key("factor")).map(f64::from);
    match kind {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
        Some("yarn") => {
            for suffix in ["attn_factor", "yarn_attn_factor", "yarn_ext_factor", "yarn_log_multiplier"] {
                if keys.float(&key(suffix))?.is_some() {
                    return Err(ParseError::unsupported(format!("{} of rotary scaling \"yarn\"", key(suffix))));
                }
            }
            Ok(RopeScaling::Yarn {
                factor: factor()?,
                beta_fast: float("yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: float("yarn_beta_slow")?.unwrap_or(1.0),
                original_max_position_embeddings: keys.required_count(&key("original_context_length"))?,
                attention_factor: None,
                truncate: true,
            })
        }
        Some(other) => Err(ParseError::unsupported(format!("rotary scaling {other:?}"))),
    }
}
