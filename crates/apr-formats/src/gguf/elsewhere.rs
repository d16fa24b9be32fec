//! What llama.cpp makes of a GGUF file otherwise than this project. Its files may state what it does not read; a model
//! whose answers depend on that is written, and this is said. Source: the hyper-parameters that its loader asks for.

use apr_model::{ModelSpec, WindowRule};

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
    found
}
