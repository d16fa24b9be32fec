//! The metadata JSON: hyper-parameters, tokenizer and template under the existing tool's keys.

use super::CAPSULE_KEY;
use super::manifest::Place;
use crate::{ParseError, unknown};
use apr_model::{
    ChatTemplates, Checkpoint, Format, GgufTokenizer, ModelSpec, Spec, Texts, TokenizerSpec, UnknownArchitecture,
    Variation, architecture_by_id,
};
use apr_tensor::DType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows of q and k for interleaved pairs (`rope_type` 0), or in half-split order (2).
pub(super) const ROPE_INTERLEAVED: u32 = 0;
const ROPE_HALF_SPLIT: u32 = 2;

/// What is read and written. Keys of other tools stay in the file's recipe.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Metadata {
    model_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    param_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<Quantization>,
    architecture: Option<String>,
    /// Which one it is where that is unknown.
    #[serde(rename = "apr.architecture", skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_layers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_heads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_kv_heads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_dim: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intermediate_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_position_embeddings: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_theta: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rope_type: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rms_norm_eps: Option<f32>,
    /// What makes it more than a plain decoder.
    #[serde(rename = "apr.variation", default, skip_serializing_if = "Variation::is_plain")]
    variation: Variation,
    chat_template: Option<String>,
    /// Those that are not the default one.
    #[serde(rename = "apr.chat_templates", default, skip_serializing_if = "BTreeMap::is_empty")]
    chat_templates: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sharding: Option<Place>,
    #[serde(flatten)]
    tokenizer: Tokenizer,
    #[serde(rename = "apr.capsule", skip_serializing_if = "Option::is_none")]
    pub(super) capsule: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Quantization {
    quant_type: String,
}

/// The tokenizer's keys; the values are those of GGUF's `tokenizer.ggml.*`.
#[derive(Serialize, Deserialize, Default)]
struct Tokenizer {
    #[serde(rename = "tokenizer.model", skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(rename = "tokenizer.pre", skip_serializing_if = "Option::is_none")]
    pre: Option<String>,
    #[serde(rename = "tokenizer.vocabulary", skip_serializing_if = "Option::is_none")]
    vocabulary: Option<Texts>,
    #[serde(rename = "tokenizer.token_types", skip_serializing_if = "Option::is_none")]
    token_types: Option<Vec<i32>>,
    #[serde(rename = "tokenizer.scores", skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<f32>>,
    #[serde(rename = "tokenizer.merges", skip_serializing_if = "Option::is_none")]
    merges: Option<Texts>,
    #[serde(rename = "tokenizer.bos_token_id", skip_serializing_if = "Option::is_none")]
    bos: Option<u32>,
    #[serde(rename = "tokenizer.eos_token_id", skip_serializing_if = "Option::is_none")]
    eos: Option<u32>,
    #[serde(rename = "tokenizer.unk_token_id", skip_serializing_if = "Option::is_none")]
    unk: Option<u32>,
    #[serde(rename = "tokenizer.pad_token_id", skip_serializing_if = "Option::is_none")]
    pad: Option<u32>,
    #[serde(rename = "tokenizer.stop_token_ids", skip_serializing_if = "Option::is_none")]
    stop_ids: Option<Vec<u32>>,
    #[serde(rename = "tokenizer.add_bos_token", skip_serializing_if = "Option::is_none")]
    add_bos: Option<bool>,
    #[serde(rename = "tokenizer.add_eos_token", skip_serializing_if = "Option::is_none")]
    add_eos: Option<bool>,
    #[serde(rename = "tokenizer.add_space_prefix", skip_serializing_if = "Option::is_none")]
    add_space_prefix: Option<bool>,
    #[serde(rename = "tokenizer.space_prefix", skip_serializing_if = "Option::is_none")]
    space_prefix: Option<String>,
}

impl Metadata {
    /// Reads the metadata section.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ParseError> {
        serde_json::from_slice(text).map_err(|e| ParseError::at(super::HEADER_BYTES as u64, format!("metadata: {e}")))
    }

    /// The metadata of a fresh file.
    pub(super) fn of(checkpoint: &Checkpoint, main_dtype: Option<DType>, capsule: Option<&str>) -> Self {
        let vocab_rows = checkpoint.spec.known().map_or(0, |spec| spec.vocab_size);
        let of_file = Self {
            param_count: Some(checkpoint.n_parameters()),
            quantization: main_dtype
                .filter(|dtype| dtype.is_quantized())
                .map(|dtype| Quantization { quant_type: dtype.name().to_owned() }),
            chat_template: checkpoint.chat_templates.default.clone(),
            chat_templates: checkpoint.chat_templates.named.clone(),
            tokenizer: checkpoint.tokenizer.as_ref().map(|t| Tokenizer::of(t, vocab_rows)).unwrap_or_default(),
            capsule: capsule.map(str::to_owned),
            ..Self::default()
        };
        match &checkpoint.spec {
            Spec::Known(spec) => of_file.with(spec),
            Spec::Unknown(architecture) => Self {
                model_type: Some(UnknownArchitecture::STATED.to_owned()),
                architecture: Some(UnknownArchitecture::STATED.to_owned()),
                unknown: Some(architecture.to_string()),
                ..of_file
            },
        }
    }

    /// What a file behind the first one says.
    pub(super) fn of_later_file(self) -> Self {
        let Self { model_type, architecture, unknown, .. } = self;
        Self { model_type, architecture, unknown, ..Self::default() }
    }

    fn with(self, spec: &ModelSpec) -> Self {
        Self {
            model_type: Some(spec.arch.id.to_owned()),
            name: spec.name.clone(),
            architecture: Some(spec.arch.id.to_owned()),
            hidden_size: Some(spec.hidden_size),
            num_layers: Some(spec.n_layers),
            num_heads: Some(spec.n_heads),
            num_kv_heads: Some(spec.n_kv_heads),
            head_dim: Some(spec.head_dim),
            vocab_size: Some(spec.vocab_size),
            intermediate_size: Some(spec.ffn_size),
            max_position_embeddings: Some(spec.context_length),
            rope_theta: Some(spec.rope_theta),
            rope_type: Some(ROPE_HALF_SPLIT),
            rms_norm_eps: Some(spec.norm_eps),
            variation: spec.variation.clone(),
            ..self
        }
    }

    /// The section's text. The capsule stands in it unescaped, so that the reader can find it.
    pub(super) fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("metadata of strings and finite numbers prints")
    }

    /// Architecture and hyper-parameters.
    pub(super) fn spec(&self) -> Result<Spec, ParseError> {
        fn need<T>(value: Option<T>, key: &str) -> Result<T, ParseError> {
            value.ok_or_else(|| ParseError::new(format!("metadata key {key:?} is missing")))
        }
        let id = need(self.architecture.as_deref().or(self.model_type.as_deref()), "architecture")?;
        if let Some(text) = &self.unknown {
            return unknown::architecture(text).map(Spec::Unknown);
        }
        let Some(arch) = architecture_by_id(id) else {
            return Ok(Spec::Unknown(UnknownArchitecture { name: id.to_owned(), format: Format::Apr }));
        };
        let hidden_size = need(self.hidden_size, "hidden_size")?;
        let n_heads = need(self.num_heads, "num_heads")?;
        let head_dim = match self.head_dim {
            Some(n) => n,
            None if n_heads > 0 && hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
            None => {
                return Err(ParseError::new(format!("{hidden_size} hidden units don't divide into {n_heads} heads")));
            }
        };
        let spec = ModelSpec {
            arch,
            name: self.name.clone(),
            n_layers: need(self.num_layers, "num_layers")?,
            hidden_size,
            n_heads,
            n_kv_heads: self.num_kv_heads.unwrap_or(n_heads),
            head_dim,
            ffn_size: need(self.intermediate_size, "intermediate_size")?,
            vocab_size: need(self.vocab_size, "vocab_size")?,
            context_length: need(self.max_position_embeddings, "max_position_embeddings")?,
            rope_theta: need(self.rope_theta, "rope_theta")?,
            norm_eps: need(self.rms_norm_eps, "rms_norm_eps")?,
            variation: self.variation.clone(),
        };
        spec.validate().map_err(|e| ParseError::new(format!("metadata: {e}")))?;
        Ok(Spec::Known(spec))
    }

    /// The tokenizer, where the file has one.
    pub(super) fn tokenizer(&mut self) -> Result<Option<TokenizerSpec>, ParseError> {
        let t = std::mem::take(&mut self.tokenizer);
        let Some(tokens) = t.vocabulary else { return Ok(None) };
        let Some(model) = t.model else {
            return Err(ParseError::unsupported(
                "metadata has tokenizer.vocabulary but no tokenizer.model (\"gpt2\" or \"llama\"), so the algorithm is unknown",
            ));
        };
        let fields = GgufTokenizer {
            model,
            pre: t.pre,
            tokens,
            scores: t.scores,
            token_types: t.token_types,
            merges: t.merges,
            bos: t.bos,
            eos: t.eos,
            unk: t.unk,
            pad: t.pad,
            eot: None,
            add_bos: t.add_bos,
            add_eos: t.add_eos,
            add_space_prefix: t.add_space_prefix,
            stop_ids: t.stop_ids,
            space_prefix: t.space_prefix,
        };
        TokenizerSpec::from_gguf(fields).map(Some).map_err(|e| ParseError::new(format!("tokenizer: {e}")))
    }

    /// The chat templates.
    pub(super) fn chat_templates(&mut self) -> Result<ChatTemplates, ParseError> {
        let mut templates = ChatTemplates { default: self.chat_template.take(), ..ChatTemplates::default() };
        for (name, text) in std::mem::take(&mut self.chat_templates) {
            templates.insert(&name, text).map_err(|e| ParseError::new(format!("metadata: {e}")))?;
        }
        Ok(templates)
    }

    /// Where the capsule's text stands in the section.
    pub(super) fn locate_capsule(text: &[u8], capsule: &str) -> Option<std::ops::Range<usize>> {
        let key = format!("\"{CAPSULE_KEY}\":\"").into_bytes();
        // It is written last, so look from the end.
        let start = text.windows(key.len()).rposition(|window| window == key)? + key.len();
        let range = start..start + capsule.len();
        (text.get(range.clone())? == capsule.as_bytes()).then_some(range)
    }
}

impl Tokenizer {
    fn of(spec: &TokenizerSpec, vocab_rows: u32) -> Self {
        let fields = spec.to_gguf(vocab_rows);
        Self {
            model: Some(fields.model),
            pre: fields.pre,
            vocabulary: Some(fields.tokens),
            token_types: fields.token_types,
            scores: fields.scores,
            merges: fields.merges,
            bos: fields.bos,
            eos: fields.eos,
            unk: fields.unk,
            pad: fields.pad,
            stop_ids: fields.stop_ids,
            add_bos: fields.add_bos,
            add_eos: fields.add_eos,
            add_space_prefix: fields.add_space_prefix,
            space_prefix: fields.space_prefix,
        }
    }
}
