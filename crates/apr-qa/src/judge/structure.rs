//! Is one model file what it says it is? Judged from `apr inspect`, `apr validate` and the first bytes of the file.

use super::{Fact, facts};
use crate::harness::{HarnessError, io};
use apr_model::{ARCHITECTURES, Format, LayerRole, ModelSpec, Part, Presence, TensorRole, Variation};
use apr_report::{InspectReport, Measurement, Outcome, Side, Unit, ValidateReport};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// Judges that a file begins like its format and that `apr inspect` names the format.
pub fn format_is(format: Format, main_file: &Path, inspect: &InspectReport) -> Result<Outcome, HarnessError> {
    let mut head = [0u8; 9];
    let n =
        std::fs::File::open(main_file).and_then(|file| file.take(9).read(&mut head)).map_err(io("read", main_file))?;
    let found = match &head[..n] {
        [b'G', b'G', b'U', b'F', ..] => "gguf",
        [b'A', b'P', b'R', 0 | b'2', ..] => "apr",
        // Eight bytes of header length, then a JSON object.
        [_, _, _, _, _, _, _, _, b'{'] => "safetensors",
        _ => "none of the known ones",
    };
    let list = [
        Fact::new("format by its first bytes", format.name(), found),
        Fact::new("format by apr inspect", format.name(), &inspect.format),
    ];
    Ok(facts("format asked for", "file written", &list))
}

/// Judges `apr validate`: every value was looked at, all are finite, no check failed.
pub fn validated(inspect: &InspectReport, report: &ValidateReport) -> Outcome {
    let wrong = report.n_nan.saturating_add(report.n_inf);
    let value = |nan, inf| format!("{nan} NaN, {inf} infinite");
    let measurement = Measurement::new(
        Unit::TensorValues,
        Side::new("values of the model", inspect.n_parameters, value(0, 0)),
        Side::new("values decoded", report.n_values, value(report.n_nan, report.n_inf)),
        report.n_values,
        wrong.min(report.n_values),
    );
    let findings = report.findings.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let outcome = Outcome::judge(measurement).because(&findings);
    if !report.valid && !outcome.kind().is_failure() {
        return Outcome::falsified(format!("apr validate says the model is not valid: {findings}"));
    }
    outcome
}

/// Judges that stated hyper-parameters are those that the tensor shapes imply, and those that are expected.
pub fn integrity(
    inspect: &InspectReport,
    family: Option<&str>,
    expected: impl IntoIterator<Item = (&'static str, u64)>,
) -> Outcome {
    let shapes = match shapes(inspect) {
        Ok(shapes) => shapes,
        Err(outcome) => return outcome,
    };
    let stated = |key: &str| inspect.count(key).map_or_else(|| "not stated".to_owned(), |n| n.to_string());
    let product = |a: &str, b: &str| match (inspect.count(a), inspect.count(b)) {
        (Some(a), Some(b)) => a.saturating_mul(b).to_string(),
        _ => "not stated".to_owned(),
    };
    let dim = |name: &str, index: usize| {
        let dim = shapes.get(name).and_then(|shape| shape.get(index));
        dim.map_or_else(|| format!("no tensor {name}"), ToString::to_string)
    };
    let spec = match spec(inspect) {
        Ok(spec) => spec,
        Err(outcome) => return outcome,
    };
    let arch = spec.arch;
    let roles: Vec<TensorRole> = shapes.keys().filter_map(|name| TensorRole::from_hf_name(name, arch)).collect();
    let layers: BTreeSet<u32> = roles.iter().filter_map(|role| role.layer()).collect();
    let embedding = TensorRole::TokenEmbed.hf_name(arch);
    let embedding = embedding.as_str();
    let mut list = vec![
        Fact::new("num_hidden_layers", stated("num_hidden_layers"), layers.len()),
        Fact::new("hidden_size", stated("hidden_size"), dim(embedding, 1)),
        Fact::new("vocab_size", stated("vocab_size"), dim(embedding, 0)),
    ];
    // Architectures that store these projections in one matrix, or have experts, have their shapes judged by `layout`.
    let widths = [
        ("intermediate_size", stated("intermediate_size"), LayerRole::MlpGate),
        ("heads × head_dim", product("num_attention_heads", "head_dim"), LayerRole::AttnQ),
        ("kv heads × head_dim", product("num_key_value_heads", "head_dim"), LayerRole::AttnK),
    ];
    let has: BTreeSet<TensorRole> = TensorRole::all(&spec).into_iter().map(|(role, _)| role).collect();
    for layer in layers {
        for (what, expected, role) in &widths {
            let role = TensorRole::Layer(layer, *role, Part::Weight);
            // A layer beyond those stated is counted above.
            if has.contains(&role) || layer >= spec.n_layers {
                list.push(Fact::new(format!("{what} of layer {layer}"), expected, dim(&role.hf_name(arch), 0)));
            }
        }
    }
    if let Some(family) = family {
        list.push(Fact::new("architecture", family, &inspect.architecture));
    }
    list.extend(expected.into_iter().map(|(key, value)| Fact::new(format!("{key} (playbook)"), value, stated(key))));
    facts("hyper-parameters", "tensor shapes", &list)
}

/// Judges that every tensor that the architecture requires is there.
pub fn tensors_present(inspect: &InspectReport) -> Outcome {
    let (spec, shapes) = match (spec(inspect), shapes(inspect)) {
        (Ok(spec), Ok(shapes)) => (spec, shapes),
        (Err(outcome), _) | (_, Err(outcome)) => return outcome,
    };
    let required = TensorRole::all(&spec).into_iter().filter(|(_, presence)| *presence == Presence::Required);
    let list: Vec<Fact> = required
        .map(|(role, _)| {
            let name = role.hf_name(spec.arch);
            let found = if shapes.contains_key(name.as_str()) { "present" } else { "absent" };
            Fact::new(name, "present", found)
        })
        .collect();
    facts("tensors required", "tensors found", &list)
}

/// Judges that every tensor has the row-major shape that the hyper-parameters imply.
pub fn layout(inspect: &InspectReport) -> Outcome {
    let (spec, shapes) = match (spec(inspect), shapes(inspect)) {
        (Ok(spec), Ok(shapes)) => (spec, shapes),
        (Err(outcome), _) | (_, Err(outcome)) => return outcome,
    };
    let list: Vec<Fact> = TensorRole::all(&spec)
        .into_iter()
        .filter_map(|(role, _)| {
            let name = role.hf_name(spec.arch);
            let found = shapes.get(name.as_str())?;
            Some(Fact::new(name, format!("{:?}", role.expected_shape(&spec)), format!("{found:?}")))
        })
        .collect();
    facts("shapes implied", "shapes found", &list)
}

fn shapes(inspect: &InspectReport) -> Result<BTreeMap<&str, &[u64]>, Outcome> {
    match &inspect.tensors {
        Some(list) => Ok(list.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect()),
        None => Err(Outcome::not_measured("apr inspect listed no tensors")),
    }
}

/// The hyper-parameters as the architecture table understands them.
fn spec(inspect: &InspectReport) -> Result<ModelSpec, Outcome> {
    let arch = ARCHITECTURES.iter().find(|arch| arch.id == inspect.architecture).ok_or_else(|| {
        Outcome::falsified(format!("architecture {:?} is not in the architecture table", inspect.architecture))
    })?;
    let count = |key: &str| {
        inspect
            .count(key)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| Outcome::falsified(format!("apr inspect states no {key}")))
    };
    let float = |key: &str| inspect.spec.get(key).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN) as f32;
    let spec = ModelSpec {
        arch,
        name: None,
        n_layers: count("num_hidden_layers")?,
        hidden_size: count("hidden_size")?,
        n_heads: count("num_attention_heads")?,
        n_kv_heads: count("num_key_value_heads")?,
        head_dim: count("head_dim")?,
        ffn_size: count("intermediate_size")?,
        vocab_size: count("vocab_size")?,
        context_length: count("max_position_embeddings")?,
        rope_theta: float("rope_theta"),
        norm_eps: float("rms_norm_eps"),
        variation: match inspect.spec.get("variation") {
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|error| Outcome::falsified(format!("apr inspect states a variation: {error}")))?,
            None => Variation::default(),
        },
    };
    spec.validate().map_err(|error| Outcome::falsified(error.to_string()))?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::{DTypeShare, OutcomeKind, Report, TensorEntry};
    use serde_json::json;

    /// A model of one layer, as `apr inspect` describes it.
    fn inspect() -> InspectReport {
        let spec: BTreeMap<String, serde_json::Value> = [
            ("num_hidden_layers", json!(1)),
            ("hidden_size", json!(8)),
            ("num_attention_heads", json!(2)),
            ("num_key_value_heads", json!(1)),
            ("head_dim", json!(4)),
            ("intermediate_size", json!(12)),
            ("vocab_size", json!(20)),
            ("max_position_embeddings", json!(64)),
            ("rope_theta", json!(10000.0)),
            ("rms_norm_eps", json!(1e-6)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let tensors: Vec<TensorEntry> = [
            ("model.embed_tokens.weight", vec![20, 8]),
            ("model.layers.0.input_layernorm.weight", vec![8]),
            ("model.layers.0.self_attn.q_proj.weight", vec![8, 8]),
            ("model.layers.0.self_attn.q_proj.bias", vec![8]),
            ("model.layers.0.self_attn.k_proj.weight", vec![4, 8]),
            ("model.layers.0.self_attn.k_proj.bias", vec![4]),
            ("model.layers.0.self_attn.v_proj.weight", vec![4, 8]),
            ("model.layers.0.self_attn.v_proj.bias", vec![4]),
            ("model.layers.0.self_attn.o_proj.weight", vec![8, 8]),
            ("model.layers.0.post_attention_layernorm.weight", vec![8]),
            ("model.layers.0.mlp.gate_proj.weight", vec![12, 8]),
            ("model.layers.0.mlp.up_proj.weight", vec![12, 8]),
            ("model.layers.0.mlp.down_proj.weight", vec![8, 12]),
            ("model.norm.weight", vec![8]),
        ]
        .map(|(name, shape)| TensorEntry {
            name: name.to_owned(),
            stored_name: name.to_owned(),
            dtype: "F32".to_owned(),
            shape,
            offset: 0,
            bytes: 0,
            file: "model.apr".to_owned(),
        })
        .into();
        InspectReport {
            schema: InspectReport::SCHEMA.to_owned(),
            path: "model.apr".to_owned(),
            format: "apr".to_owned(),
            files: vec![],
            file_bytes: 0,
            architecture: "qwen2".to_owned(),
            spec,
            n_tensors: tensors.len() as u64,
            n_parameters: tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum(),
            dtypes: BTreeMap::from([("F32".to_owned(), DTypeShare::default())]),
            tokenizer: None,
            chat_template: false,
            chat_templates: vec![],
            capsule: vec![],
            metadata_keys: vec![],
            tensors: Some(tensors),
            notes: vec![],
        }
    }

    fn without(name: &str) -> InspectReport {
        let mut report = inspect();
        report.tensors.as_mut().unwrap().retain(|tensor| tensor.name != name);
        report
    }

    #[test]
    fn a_sound_model_passes_every_structural_judge() {
        let report = inspect();
        assert_eq!(
            integrity(&report, Some("qwen2"), [("vocab_size", 20)]).reason(),
            "8 facts agree: hyper-parameters and tensor shapes"
        );
        assert_eq!(tensors_present(&report).kind(), OutcomeKind::Corroborated, "{}", tensors_present(&report).reason());
        assert_eq!(layout(&report).kind(), OutcomeKind::Corroborated, "{}", layout(&report).reason());
    }

    #[test]
    fn wrong_structure_is_falsified() {
        let mut lying = inspect();
        lying.spec.insert("num_hidden_layers".to_owned(), json!(2));
        assert!(integrity(&lying, None, []).reason().contains("num_hidden_layers is 1, expected 2"));
        assert!(integrity(&inspect(), Some("llama"), []).reason().contains("architecture is qwen2, expected llama"));
        assert!(
            integrity(&inspect(), None, [("vocab_size", 21)])
                .reason()
                .contains("vocab_size (playbook) is 20, expected 21")
        );

        let dropped = without("model.layers.0.self_attn.q_proj.bias");
        assert!(tensors_present(&dropped).reason().contains("q_proj.bias is absent"));
        assert_eq!(layout(&dropped).kind(), OutcomeKind::Corroborated);

        let mut transposed = inspect();
        transposed.tensors.as_mut().unwrap()[12].shape.reverse();
        assert!(layout(&transposed).reason().contains("down_proj.weight is [12, 8], expected [8, 12]"));
    }

    #[test]
    fn a_list_without_tensors_measures_nothing() {
        let mut report = inspect();
        report.tensors = None;
        for outcome in [integrity(&report, None, []), tensors_present(&report), layout(&report)] {
            assert_eq!(outcome.kind(), OutcomeKind::NotMeasured);
        }
        report.architecture = "unheard".to_owned();
        assert!(layout(&report).kind() != OutcomeKind::Corroborated);
    }

    fn validate(n_values: u64, n_nan: u64, valid: bool) -> ValidateReport {
        ValidateReport {
            schema: ValidateReport::SCHEMA.to_owned(),
            path: "model.apr".to_owned(),
            valid,
            score_percent: None,
            min_score_percent: None,
            strict: false,
            n_tensors: 14,
            n_values,
            n_nan,
            n_inf: 0,
            checks: vec![],
            findings: vec![],
            tensors: None,
        }
    }

    #[test]
    fn validation_counts_every_value() {
        let report = inspect();
        let n = report.n_parameters;
        assert_eq!(validated(&report, &validate(n, 0, true)).kind(), OutcomeKind::Corroborated);
        assert_eq!(validated(&report, &validate(n, 3, true)).kind(), OutcomeKind::Falsified);
        assert_eq!(validated(&report, &validate(n, 0, false)).kind(), OutcomeKind::Falsified);
        assert_eq!(
            validated(&report, &validate(n - 1, 0, true)).kind(),
            OutcomeKind::Falsified,
            "values were left out"
        );
        assert_eq!(validated(&report, &validate(0, 0, true)).kind(), OutcomeKind::NotMeasured);
    }

    #[test]
    fn the_format_is_judged_by_bytes_and_by_report() {
        let dir = tempfile::tempdir().unwrap();
        let file = |bytes: &[u8]| {
            let path = dir.path().join("model");
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let judge = |bytes: &[u8]| format_is(Format::Apr, &file(bytes), &inspect()).unwrap().kind();
        assert_eq!(judge(b"APR\0 and so on"), OutcomeKind::Corroborated);
        assert_eq!(judge(b"GGUF and so on"), OutcomeKind::Falsified);
        assert_eq!(judge(b""), OutcomeKind::Falsified);
    }
}
