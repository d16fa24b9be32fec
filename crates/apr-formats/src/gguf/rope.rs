//! Rotary scaling as GGUF states it: by keys, by a tensor of factors, and by a key of this project where neither says all.
//!
//! Source of the keys: gguf-py's constants. Source of the factors: the formula of Llama 3.1's scaling in Transformers; that
//! they divide the frequencies, and in which steps of binary32 they are computed, is what llama.cpp's converter and loader do.

use super::container::Entry;
use super::keys::Keys;
use super::variation::Pair;
use super::{Header, TensorInfo};
use crate::ParseError;
use crate::plan::OutPiece;
use apr_model::{Architecture, ModelSpec, RopeScaling, Spec, TensorRole};
use apr_tensor::{ByteOrder, DType};
use std::f32::consts::TAU;

/// This project's key: the scaling as JSON, in the fields of a Transformers config.
const OWN_KEY: &str = "apr.rope_scaling";

/// What llama.cpp's keys say of a scaling: numbers of 32 bits, YaRN without its two options, and no other kinds.
fn in_keys(scaling: RopeScaling) -> RopeScaling {
    let narrow = |x: f64| f64::from(x as f32);
    match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } => RopeScaling::None,
        RopeScaling::Linear { factor } => RopeScaling::Linear { factor: narrow(factor) },
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, .. } => RopeScaling::Yarn {
            factor: narrow(factor),
            beta_fast: narrow(beta_fast),
            beta_slow: narrow(beta_slow),
            original_max_position_embeddings,
            attention_factor: None,
            truncate: true,
        },
    }
}

/// Whether llama.cpp takes the scaling of a model from its file as it is.
pub(super) fn is_heard(spec: &ModelSpec) -> bool {
    in_keys(spec.variation.rope_scaling) == spec.variation.rope_scaling || factors(spec).is_some()
}

/// The pairs that state a scaling.
pub(super) fn pairs(scaling: RopeScaling) -> Vec<Pair> {
    let mut pairs = match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } => Vec::new(),
        RopeScaling::Linear { factor } => {
            vec![Pair::Str("rope.scaling.type", "linear"), Pair::F32("rope.scaling.factor", factor as f32)]
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, .. } => vec![
            Pair::Str("rope.scaling.type", "yarn"),
            Pair::F32("rope.scaling.factor", factor as f32),
            Pair::U32("rope.scaling.original_context_length", original_max_position_embeddings),
            Pair::F32("rope.scaling.yarn_beta_fast", beta_fast as f32),
            Pair::F32("rope.scaling.yarn_beta_slow", beta_slow as f32),
        ],
    };
    if in_keys(scaling) != scaling {
        pairs.push(Pair::OwnStr(OWN_KEY, serde_json::to_string(&scaling).expect("numbers print")));
    }
    pairs
}

/// The tensor of factors that a file of such a model has, before its other tensors.
pub(super) fn entry(spec: &ModelSpec) -> Option<Entry> {
    let factors = factors(spec)?;
    let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
    let name = TensorRole::RopeFactors.gguf_name(spec.arch);
    Some(Entry { name, dims: vec![factors.len()], dtype: DType::F32, data: vec![OutPiece::Literal(bytes.into())] })
}

/// Whether a tensor of the file follows from the scaling that was read.
pub(super) fn is_derived(name: &str, spec: &Spec) -> bool {
    let derives = |spec: &ModelSpec| {
        let is_llama3 = matches!(spec.variation.rope_scaling, RopeScaling::Llama3 { .. });
        is_llama3 && TensorRole::from_gguf_name(name, spec.arch) == Some(TensorRole::RopeFactors)
    };
    spec.known().is_some_and(derives)
}

/// The factors of a file, where it has some in binary32.
pub(super) fn stored_factors(header: &Header<'_>, file: &[u8]) -> Option<Vec<f32>> {
    let is_factors = |info: &&TensorInfo<'_>| info.name == "rope_freqs.weight" && info.dtype == DType::F32;
    let info = header.tensors.iter().find(is_factors)?;
    let number = |bytes: &[u8; 4]| match header.byte_order {
        ByteOrder::Little => f32::from_le_bytes(*bytes),
        ByteOrder::Big => f32::from_be_bytes(*bytes),
    };
    Some(file[info.range.clone()].as_chunks::<4>().0.iter().map(number).collect())
}

/// The scaling that a file states; that of `spec` is not looked at.
pub(super) fn read(keys: &Keys<'_, '_>, spec: &ModelSpec, found: Option<&[f32]>) -> Result<RopeScaling, ParseError> {
    let by_keys = by_keys(keys, spec.arch)?;
    let Some(text) = keys.string(OWN_KEY)? else {
        let found = found.filter(|_| spec.arch.gguf.rope_factors && by_keys == RopeScaling::None);
        return Ok(found.and_then(|found| llama3_of(found, spec)).unwrap_or(by_keys));
    };
    let own: RopeScaling = serde_json::from_str(text).map_err(|e| ParseError::new(format!("{OWN_KEY}: {e}")))?;
    if in_keys(own) != by_keys {
        return Err(ParseError::new(format!("{OWN_KEY} and the keys of rope.scaling state different scalings")));
    }
    let mut scaled = spec.clone();
    scaled.variation.rope_scaling = own;
    match factors(&scaled) {
        Some(expected) if found != Some(&expected) => {
            let name = TensorRole::RopeFactors.gguf_name(spec.arch);
            Err(ParseError::new(format!("tensor {name:?} does not hold the factors of {OWN_KEY}")))
        }
        _ => Ok(own),
    }
}

fn by_keys(keys: &Keys<'_, '_>, arch: &Architecture) -> Result<RopeScaling, ParseError> {
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

/// What llama.cpp's converter makes of llama3 scaling, where its loader asks for that.
fn factors(spec: &ModelSpec) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
        spec.variation.rope_scaling
    else {
        return None;
    };
    if !spec.arch.gguf.rope_factors {
        return None;
    }
    let [factor, low, high] = [factor, low_freq_factor, high_freq_factor].map(|x| x as f32);
    let context = original_max_position_embeddings as f32;
    let of = |pair: u32| {
        let exponent = (2 * pair) as f32 / spec.rotary_dim() as f32;
        let frequency = 1.0 / libm::pow(f64::from(spec.rope_theta), f64::from(exponent)) as f32;
        let wavelength = TAU * (1.0 / frequency);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let kept = (context * (1.0 / wavelength) - low) / (high - low);
            1.0 / ((1.0 - kept) / factor + kept)
        }
    };
    Some((0..spec.rotary_dim() / 2).map(of).collect())
}

/// Contexts that a model may have had before it was scaled.
const CONTEXTS: std::ops::RangeInclusive<u32> = 8..=20;
/// Difference of factors that were computed in other steps of binary32, as a part of their size.
const ROUNDING: f32 = 1e-6;

/// The llama3 scaling that gives the factors of a file which does not state it, in the form that every published model has:
/// mixing between one turn and four, and a context that is a power of two. A model with other numbers, or so few mixed
/// factors that they would not tell, keeps its factors.
fn llama3_of(found: &[f32], spec: &ModelSpec) -> Option<RopeScaling> {
    let &factor = found.last()?;
    let is_mixed = |x: &&f32| **x != 1.0 && **x != factor;
    if found.iter().filter(is_mixed).count() < 2 || found.len() != spec.rotary_dim() as usize / 2 {
        return None;
    }
    let candidates = CONTEXTS.map(|exponent| RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 1 << exponent,
    });
    let gives_them = |scaling: &RopeScaling| {
        let mut scaled = spec.clone();
        scaled.variation.rope_scaling = *scaling;
        let expected = factors(&scaled).unwrap_or_default();
        expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= ROUNDING * a.abs())
    };
    let mut fitting = candidates.filter(gives_them);
    fitting.next().filter(|_| fitting.next().is_none())
}
