//! What llama.cpp makes of a GGUF file otherwise than this project. Its files may state what it does not read; a model
//! whose answers depend on that is written, and this is said. Source: the hyper-parameters that its loader asks for.

use super::{rope, variation};
use apr_model::{ModelSpec, RopeScaling, WindowRule};

/// Families whose sliding window llama.cpp knows.
const WINDOWS: &[WindowRule] = &[WindowRule::AllButEvery(2), WindowRule::AllButEvery(6)];

/// What llama.cpp does not take from the file of such a model, each as a sentence for people.
pub(crate) fn differences(spec: &ModelSpec) -> Vec<String> {
    let (arch, v) = (spec.arch, &spec.variation);
    let mut found = Vec::new();
    if let Some(window) = v.window.as_ref().filter(|_| !WINDOWS.contains(&arch.window)) {
        found.push(format!(
            "llama.cpp ignores the sliding window of {} models: past {} positions it computes something else",
            arch.title, window.size
        ));
    }
    if !rope::is_heard(spec) {
        found.push(match v.rope_scaling {
            RopeScaling::Dynamic { .. } => format!(
                "llama.cpp has no dynamic rotary scaling: past {} positions it computes something else",
                spec.context_length
            ),
            RopeScaling::Llama3 { .. } => {
                format!("llama.cpp has no llama3 rotary scaling of {} models, and computes something else", arch.title)
            }
            _ => "llama.cpp has no keys for all of the rotary scaling, and takes the nearest that they say".to_owned(),
        });
    }
    if variation::has_own_scale(spec) {
        found.push(format!("llama.cpp has no key for the scale of scores of {} models, and takes another", arch.title));
    }
    if variation::lacks_what_is_implied(spec) {
        found
            .push(format!("llama.cpp gives every {} model caps and a window; this one lacks some of them", arch.title));
    }
    if let Some(experts) = &v.experts {
        if experts.normalise != variation::normalises(arch) {
            let does = if experts.normalise { "does not divide" } else { "divides" };
            found.push(format!(
                "llama.cpp {does} the weights of the experts of {} models by their sum; this one is made otherwise",
                arch.title
            ));
        }
        if !experts.dense_layers.is_empty() {
            found.push(format!("llama.cpp reads no {} model with layers that have no experts", arch.title));
        }
    }
    found
}
