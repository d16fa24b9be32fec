//! Playbooks: what to test, as YAML. Every key is used, or refused with a reason.

mod keys;

use apr_model::Format;
use apr_report::{PlaybookId, Tier};
use keys::{KEYS, check_keys};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The default playbook.
pub const QUICK: &str = include_str!("../../../playbooks/quick.yaml");

/// A playbook that was understood completely.
#[derive(Clone, Debug)]
pub struct Playbook {
    /// Name, version, tier and digest.
    pub id: PlaybookId,
    /// What it is for.
    pub description: Option<String>,
    /// What to test.
    pub model: Model,
    /// Which combinations.
    pub matrix: Matrix,
    /// Which oracles judge answers.
    pub oracles: Vec<Oracle>,
    /// When to stop.
    pub failure_policy: FailurePolicy,
    /// What was understood but is written in an unusual way.
    pub warnings: Vec<String>,
}

/// The model of a playbook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A path, or `builtin:NAME`; the command line can override it.
    #[serde(default)]
    pub local_path: Option<String>,
    /// Name of the model on the hub; a label here, because this version does not download.
    #[serde(default)]
    pub hf_repo: Option<String>,
    /// Formats to bring it into.
    #[serde(default = "all_formats")]
    pub formats: Vec<Format>,
    /// `model_type` that the model must state.
    #[serde(default)]
    pub family: Option<String>,
    /// `hidden_size` that the model must state.
    #[serde(default)]
    pub expected_hidden_dim: Option<u64>,
    /// `num_hidden_layers` that the model must state.
    #[serde(default)]
    pub expected_num_layers: Option<u64>,
    /// `num_attention_heads` that the model must state.
    #[serde(default)]
    pub expected_num_heads: Option<u64>,
    /// `num_key_value_heads` that the model must state.
    #[serde(default)]
    pub expected_num_kv_heads: Option<u64>,
    /// `vocab_size` that the model must state.
    #[serde(default)]
    pub expected_vocab_size: Option<u64>,
    /// `intermediate_size` that the model must state.
    #[serde(default)]
    pub expected_intermediate_dim: Option<u64>,
}

impl Model {
    /// Expected hyper-parameters by their Transformers names.
    pub fn expected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("hidden_size", self.expected_hidden_dim),
            ("num_hidden_layers", self.expected_num_layers),
            ("num_attention_heads", self.expected_num_heads),
            ("num_key_value_heads", self.expected_num_kv_heads),
            ("vocab_size", self.expected_vocab_size),
            ("intermediate_size", self.expected_intermediate_dim),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key, value)))
    }
}

/// The combinations of a playbook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Ways to use the model.
    #[serde(default = "run_only")]
    pub modalities: Vec<Modality>,
    /// Devices.
    #[serde(default = "cpu_only")]
    pub backends: Vec<Backend>,
    /// Prompts for each cell; prompt `i` is `prompts[i mod n]`. Default: each prompt once.
    #[serde(default)]
    pub scenario_count: Option<usize>,
    /// What is asked.
    pub prompts: Vec<String>,
    /// Most tokens of an answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// Seed of the sampler, recorded with the evidence.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Limit of every process in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// A way to use a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// `apr run`.
    Run,
}

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The processor.
    Cpu,
    /// A graphics processor.
    Gpu,
}

impl Backend {
    /// Lower-case name, as in `apr capabilities`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Gpu => "gpu",
        }
    }
}

/// A judge of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oracle {
    /// The number that the question asks for.
    Arithmetic,
    /// Signs of a broken model.
    Garbage,
}

/// When a run stops; scenarios that are left over are recorded as skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// After the first failure.
    #[serde(alias = "fail_fast")]
    StopOnFirst,
    /// After the first failure of a P0 gate.
    StopOnP0,
    /// At the end.
    CollectAll,
}

/// Why a playbook can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    /// The file can't be read.
    #[error("playbook {path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("playbook is not valid YAML: {0}")]
    Yaml(String),
    /// A key that no version knows.
    #[error("playbook key {key}{}: unknown{}", line_text(*line), suggestion.as_ref().map_or(String::new(), |s| format!("; did you mean {s}?")))]
    UnknownKey {
        /// The key with its parents.
        key: String,
        /// Line in the file.
        line: Option<usize>,
        /// The known key that is nearest.
        suggestion: Option<String>,
    },
    /// A key that the playbook format has and this version does not act on.
    #[error("playbook key {key}{}: {reason}", line_text(*line))]
    RefusedKey {
        /// The key with its parents.
        key: String,
        /// Line in the file.
        line: Option<usize>,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A value that can't be used.
    #[error("playbook: {0}")]
    Value(String),
}

fn line_text(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

#[derive(Deserialize)]
struct Wire {
    name: String,
    version: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tier: Option<TierName>,
    #[serde(default = "any_model")]
    model: Model,
    test_matrix: Matrix,
    #[serde(default)]
    oracles: Option<Vec<OracleEntry>>,
    #[serde(default)]
    failure_policy: Option<FailurePolicy>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    tier: Option<TierName>,
}

/// Tiers of playbooks, and the two rules they are scored by.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TierName {
    Mvp,
    /// A few scenarios can't carry a certificate: scored by the rule of `mvp`.
    #[serde(alias = "quick", alias = "ci")]
    Smoke,
    #[serde(alias = "nightly", alias = "release", alias = "standard", alias = "deep")]
    Full,
}

#[derive(Deserialize)]
struct OracleEntry {
    #[serde(rename = "type")]
    kind: Oracle,
}

/// What an absent `model` section says: every format, whatever model the command line names.
fn any_model() -> Model {
    serde_json::from_value(serde_json::json!({})).expect("every field has a default")
}

fn all_formats() -> Vec<Format> {
    Format::ALL.to_vec()
}

fn run_only() -> Vec<Modality> {
    vec![Modality::Run]
}

fn cpu_only() -> Vec<Backend> {
    vec![Backend::Cpu]
}

fn default_max_tokens() -> u32 {
    32
}

fn default_seed() -> u64 {
    42
}

fn default_timeout_ms() -> u64 {
    60_000
}

impl Playbook {
    /// Reads a playbook from a file.
    pub fn read(path: &Path) -> Result<Self, PlaybookError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PlaybookError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// Understands a playbook.
    pub fn parse(text: &str) -> Result<Self, PlaybookError> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| PlaybookError::Yaml(error.to_string()))?;
        let Value::Object(mut root) = value else {
            return Err(PlaybookError::Value("a mapping is needed at the top".to_owned()));
        };
        let mut warnings = Vec::new();
        check_keys(&mut root, KEYS, "", text, &mut warnings)?;
        let wire: Wire =
            serde_json::from_value(Value::Object(root)).map_err(|error| PlaybookError::Value(error.to_string()))?;
        Self::from_wire(wire, text, warnings)
    }

    fn from_wire(wire: Wire, text: &str, warnings: Vec<String>) -> Result<Self, PlaybookError> {
        let bad = |what: String| Err(PlaybookError::Value(what));
        let name_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if wire.name.is_empty() || !wire.name.chars().all(name_ok) {
            return bad(format!("name is {:?}, expected lower-case letters, digits, `-` and `.`", wire.name));
        }
        let matrix = wire.test_matrix;
        if matrix.prompts.is_empty() || matrix.prompts.iter().any(|prompt| prompt.trim().is_empty()) {
            return bad("test_matrix.prompts needs at least one prompt, none of them blank".to_owned());
        }
        for (key, value, range) in [
            ("scenario_count", matrix.scenario_count.unwrap_or(1) as u64, 1..=1000),
            ("timeout_ms", matrix.timeout_ms, 1..=600_000),
            ("max_tokens", matrix.max_tokens.into(), 1..=100_000),
        ] {
            if !range.contains(&value) {
                return bad(format!("test_matrix.{key} is {value}, expected {} to {}", range.start(), range.end()));
            }
        }
        let mut formats = wire.model.formats.clone();
        formats.sort_unstable();
        formats.dedup();
        let n_backends = matrix.backends.len();
        if formats.len() != wire.model.formats.len() || formats.is_empty() {
            return bad("model.formats needs at least one format, each once".to_owned());
        }
        if n_backends == 0 || n_backends > 2 || (n_backends == 2 && matrix.backends[0] == matrix.backends[1]) {
            return bad("test_matrix.backends needs at least one backend, each once".to_owned());
        }
        if matrix.modalities != [Modality::Run] {
            return bad("test_matrix.modalities needs `run`, once".to_owned());
        }
        let tier = match (wire.tier, wire.metadata.tier) {
            (Some(a), Some(b)) if a != b => return bad("tier and metadata.tier differ".to_owned()),
            (Some(TierName::Full), _) | (None, Some(TierName::Full)) => Tier::Full,
            _ => Tier::Mvp,
        };
        let oracles = match wire.oracles {
            Some(list) if list.is_empty() => return bad("oracles needs at least one entry".to_owned()),
            Some(list) => list.into_iter().map(|entry| entry.kind).collect(),
            None => vec![Oracle::Arithmetic, Oracle::Garbage],
        };
        Ok(Playbook {
            id: PlaybookId {
                name: wire.name,
                version: wire.version,
                tier,
                blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
            },
            description: wire.description,
            model: wire.model,
            matrix,
            oracles,
            failure_policy: wire.failure_policy.unwrap_or(FailurePolicy::CollectAll),
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::keys::Use;
    use super::*;

    const MINIMAL: &str = "name: p\nversion: 1.0.0\ntest_matrix:\n  prompts: [\"What is 2+2?\"]\n";

    fn error(extra: &str) -> String {
        Playbook::parse(&format!("{MINIMAL}{extra}")).unwrap_err().to_string()
    }

    #[test]
    fn the_quick_playbook_is_valid_and_asks_for_three_formats_on_the_cpu() {
        let quick = Playbook::parse(QUICK).unwrap();
        assert_eq!(quick.model.formats.len(), 3);
        assert_eq!(quick.matrix.backends, [Backend::Cpu]);
        assert!(quick.warnings.is_empty(), "{:?}", quick.warnings);
        for prompt in &quick.matrix.prompts {
            assert!(crate::oracles::question(prompt).is_ok(), "{prompt}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let playbook = Playbook::parse(MINIMAL).unwrap();
        assert_eq!((playbook.matrix.max_tokens, playbook.matrix.seed, playbook.matrix.timeout_ms), (32, 42, 60_000));
        assert_eq!(playbook.model.formats, Format::ALL);
        assert_eq!(playbook.id.tier, Tier::Mvp);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        assert_eq!(
            error("falure_policy: collect_all\n"),
            "playbook key falure_policy (line 5): unknown; did you mean failure_policy?"
        );
        assert_eq!(
            error("model:\n  fromats: [gguf]\n"),
            "playbook key model.fromats (line 6): unknown; did you mean formats?"
        );
        assert_eq!(error("zzz: 1\n"), "playbook key zzz (line 5): unknown");
    }

    #[test]
    fn a_key_without_effect_is_refused_with_a_reason() {
        assert!(error("profile_ci:\n  enabled: true\n").contains("must not look tested"));
        assert!(
            error("oracles:\n  - type: arithmetic\n    config: {tolerance: 0.01}\n")
                .contains("oracles.config (line 7)")
        );
        assert!(error("gates:\n  g3_no_crashes: false\n").contains("can't be switched off"));
        for (key, what) in KEYS {
            if let Use::Refused(reason) = what {
                assert!(!reason.is_empty(), "{key}");
                assert!(error(&format!("{key}: 1\n")).contains(key));
            }
        }
    }

    #[test]
    fn quoted_booleans_are_taken_with_a_warning() {
        let playbook = Playbook::parse(&format!("{MINIMAL}gates:\n  g1_model_loads: \"true\"\n")).unwrap();
        assert_eq!(playbook.warnings, ["gates.g1_model_loads (line 6): \"true\" is a text, taken as true"]);
        assert!(error("gates:\n  g1_model_loads: \"false\"\n").contains("can't be switched off"));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let matrix = |extra: &str| {
            let text = format!("name: p\nversion: 1.0.0\ntest_matrix:\n  prompts: [x]\n  {extra}\n");
            Playbook::parse(&text).unwrap_err().to_string()
        };
        assert!(matrix("timeout_ms: 0").contains("expected 1 to 600000"));
        assert!(matrix("scenario_count: 0").contains("expected 1 to 1000"));
        assert!(matrix("backends: [cpu, cpu]").contains("each once"));
        assert!(matrix("backends: [tpu]").contains("tpu"));
        assert!(matrix("modalities: [serve]").contains("serve"));
        assert!(error("model:\n  formats: [gguf, gguf]\n").contains("each once"));
        assert!(error("model:\n  formats: [onnx]\n").contains("onnx"));
        assert!(error("tier: full\nmetadata:\n  tier: mvp\n").contains("differ"));
        assert!(Playbook::parse("- 1\n").is_err());
        assert!(Playbook::parse("a: [\n").is_err());
    }
}
