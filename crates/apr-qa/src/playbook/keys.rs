//! The keys of a playbook: each is used, or refused with a reason.

use super::{PlaybookError, line_text};
use serde_json::{Map, Value};

/// What is done with a key.
pub(super) enum Use {
    /// It holds a value.
    Value,
    /// It holds `true`, which is how things are anyway.
    MustBeTrue(&'static str),
    /// It holds a mapping with these keys.
    Section(&'static [(&'static str, Use)]),
    /// It holds a list of mappings with these keys, or of plain values.
    List(&'static [(&'static str, Use)]),
    /// This version does not act on it.
    Refused(&'static str),
}

const GATEWAY: &str = "a gateway can't be switched off; remove the key or set it to true";
const NOT_EVALUATED: &str =
    "this version does not evaluate it, and what is not evaluated must not look tested; remove it";
const FROM_FILE: &str = "it is read from the model file; remove it";

pub(super) const KEYS: &[(&str, Use)] = &[
    ("name", Use::Value),
    ("version", Use::Value),
    ("description", Use::Value),
    ("tier", Use::Value),
    (
        "model",
        Use::Section(&[
            ("hf_repo", Use::Value),
            ("local_path", Use::Value),
            ("formats", Use::Value),
            ("family", Use::Value),
            ("expected_hidden_dim", Use::Value),
            ("expected_num_layers", Use::Value),
            ("expected_num_heads", Use::Value),
            ("expected_num_kv_heads", Use::Value),
            ("expected_vocab_size", Use::Value),
            ("expected_intermediate_dim", Use::Value),
            ("quantizations", Use::Refused("conversions keep the dtypes that the model has; remove it")),
            ("size_category", Use::Refused(FROM_FILE)),
            ("size_variant", Use::Refused(FROM_FILE)),
        ]),
    ),
    (
        "test_matrix",
        Use::Section(&[
            ("modalities", Use::Value),
            ("backends", Use::Value),
            ("scenario_count", Use::Value),
            ("prompts", Use::Value),
            ("max_tokens", Use::Value),
            ("seed", Use::Value),
            ("timeout_ms", Use::Value),
        ]),
    ),
    (
        "gates",
        Use::Section(&[
            ("g1_model_loads", Use::MustBeTrue(GATEWAY)),
            ("g2_basic_inference", Use::MustBeTrue(GATEWAY)),
            ("g3_no_crashes", Use::MustBeTrue(GATEWAY)),
            ("g4_output_quality", Use::MustBeTrue(GATEWAY)),
        ]),
    ),
    (
        "oracles",
        Use::List(&[
            ("type", Use::Value),
            ("config", Use::Refused("oracles take no settings: an answer is right or wrong; remove it")),
        ]),
    ),
    ("failure_policy", Use::Value),
    (
        "metadata",
        Use::Section(&[
            ("author", Use::Value),
            ("tier", Use::Value),
            ("architecture", Use::Refused("it is model.family here")),
            ("tags", Use::Value),
        ]),
    ),
    ("property_tests", Use::Refused(NOT_EVALUATED)),
    ("state_machine", Use::Refused(NOT_EVALUATED)),
    ("falsification_gates", Use::Refused("gates and their conditions are the table of `apr-qa gates`; remove it")),
    (
        "differential_tests",
        Use::Refused("conversions are always compared tensor by tensor and logit by logit; remove it"),
    ),
    ("trace_payload", Use::Refused(NOT_EVALUATED)),
    ("profile_ci", Use::Refused(NOT_EVALUATED)),
    (
        "contract_tests",
        Use::Refused("I-1, I-2 and I-5 are F-GOLDEN-RULE-001, F-CONV-NAME-001 and F-CONV-TOK-001; remove it"),
    ),
    ("ollama_parity", Use::Refused(NOT_EVALUATED)),
    ("kernel_profile", Use::Refused(NOT_EVALUATED)),
    ("steps", Use::Refused(NOT_EVALUATED)),
];

/// Walks a mapping beside the table of keys. Quoted booleans become booleans, with a warning.
pub(super) fn check_keys(
    map: &mut Map<String, Value>,
    table: &[(&str, Use)],
    parent: &str,
    text: &str,
    warnings: &mut Vec<String>,
) -> Result<(), PlaybookError> {
    for (key, value) in map.iter_mut() {
        let full = if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") };
        let line = line_of(text, key);
        let Some((_, what)) = table.iter().find(|(name, _)| name == key) else {
            let nearest = table.iter().map(|(name, _)| (strsim::damerau_levenshtein(name, key), *name)).min();
            let suggestion = nearest.filter(|&(distance, name)| distance * 3 <= name.len().max(3));
            return Err(PlaybookError::UnknownKey {
                key: full,
                line,
                suggestion: suggestion.map(|(_, name)| name.to_owned()),
            });
        };
        if let Value::String(word) = value
            && let Ok(truth) = word.parse::<bool>()
        {
            warnings.push(format!("{full}{}: {word:?} is a text, taken as {truth}", line_text(line)));
            *value = Value::Bool(truth);
        }
        match what {
            Use::Value => {}
            Use::Refused(reason) => return Err(PlaybookError::RefusedKey { key: full, line, reason }),
            Use::MustBeTrue(_) if *value == Value::Bool(true) => {}
            Use::MustBeTrue(reason) => return Err(PlaybookError::RefusedKey { key: full, line, reason }),
            Use::Section(inner) => match value {
                Value::Object(section) => check_keys(section, inner, &full, text, warnings)?,
                _ => return Err(PlaybookError::Value(format!("{full} must be a mapping"))),
            },
            Use::List(inner) => match value {
                Value::Array(entries) => {
                    for entry in entries {
                        if let Value::Object(section) = entry {
                            check_keys(section, inner, &full, text, warnings)?;
                        }
                    }
                }
                _ => return Err(PlaybookError::Value(format!("{full} must be a list"))),
            },
        }
    }
    Ok(())
}

/// First line on which this key begins a mapping entry.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().position(begins).map(|index| index + 1)
}
