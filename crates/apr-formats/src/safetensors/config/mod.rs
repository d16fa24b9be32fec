//! config.json: hyper-parameters as Transformers writes them.

mod read;
mod write;

use apr_model::Activation;
pub(super) use read::parse;
pub(super) use write::write;

/// Transformers' names of activations.
const ACTIVATIONS: &[(&str, Activation)] =
    &[("silu", Activation::Silu), ("gelu_pytorch_tanh", Activation::GeluTanh), ("gelu_new", Activation::GeluTanh)];

/// Transformers' names of layer types.
const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";
