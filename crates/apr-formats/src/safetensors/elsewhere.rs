//! What Transformers makes of a directory otherwise than this project.

use apr_model::{Checkpoint, TensorRole};

/// What Transformers does not take from the files of such a model, each as a sentence for people.
pub(crate) fn differences(checkpoint: &Checkpoint) -> Vec<String> {
    let factors = checkpoint.tensors.role(TensorRole::RopeFactors);
    let ignored = |name: &str| format!("Transformers has no place for {name}, and turns queries and keys otherwise");
    factors.map(|tensor| ignored(&tensor.name)).into_iter().collect()
}
