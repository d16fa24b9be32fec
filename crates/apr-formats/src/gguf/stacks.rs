//! The tensors of a GGUF file from those of a plan: each under its name, the experts of a layer in one stack.

use crate::plan::{Plan, Recode};
use apr_model::{Checkpoint, ModelSpec, TensorRole};
use std::collections::HashMap;

/// A tensor of the file.
pub(super) struct Stored<'p> {
    pub(super) name: String,
    /// Row-major.
    pub(super) dims: Vec<usize>,
    /// What follows one another in its data; never empty, and all of one dtype.
    pub(super) parts: Vec<&'p Recode>,
}

/// The tensors of the file in the order of the plan; a stack stands where its first expert does.
pub(super) fn of<'p>(checkpoint: &Checkpoint, plan: &'p Plan) -> Result<Vec<Stored<'p>>, String> {
    let Some(spec) = checkpoint.spec.known() else { return Ok(verbatim(checkpoint, plan)) };
    let arch = spec.arch;
    let by_name: HashMap<_, _> = plan.tensors.iter().map(|recode| (recode.name.as_str(), recode)).collect();
    let mut stored = Vec::new();
    for recode in &plan.tensors {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        let name = tensor.role.map_or_else(|| tensor.name.clone(), |role| role.gguf_name(arch));
        if TensorRole::from_gguf_name(&name, arch) != tensor.role.map(|role| role.of_expert(0)) {
            return Err(format!("tensor {name:?} has a name that means another tensor in GGUF"));
        }
        let mut dims = recode.relayout.stored_shape(&tensor.shape).dims().to_vec();
        let parts = match tensor.role.and_then(|role| Some((role, role.expert()?))) {
            None => vec![recode],
            Some((role, 0)) => {
                let parts = stack(checkpoint, spec, &by_name, role)?;
                dims.insert(0, parts.len());
                parts
            }
            // It is in the stack of the first, which has to be there.
            Some((role, _)) if checkpoint.tensors.role(role.of_expert(0)).is_some() => continue,
            Some((role, _)) => return Err(format!("tensor {} is missing", role.of_expert(0).hf_name(arch))),
        };
        stored.push(Stored { name, dims, parts });
    }
    let n_parts: usize = stored.iter().map(|tensor| tensor.parts.len()).sum();
    if n_parts != plan.tensors.len() {
        let n_experts = spec.variation.experts.as_ref().map_or(0, |experts| experts.n_experts);
        return Err(format!("there are tensors of experts beyond the {n_experts} of a layer"));
    }
    Ok(stored)
}

/// The tensors of an unknown architecture as they are called.
fn verbatim<'p>(checkpoint: &Checkpoint, plan: &'p Plan) -> Vec<Stored<'p>> {
    let stored = |recode: &'p Recode| {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        Stored { name: tensor.name.clone(), dims: tensor.shape.dims().to_vec(), parts: vec![recode] }
    };
    plan.tensors.iter().map(stored).collect()
}

/// The same tensor of every expert, by ascending expert.
fn stack<'p>(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    by_name: &HashMap<&str, &'p Recode>,
    first: TensorRole,
) -> Result<Vec<&'p Recode>, String> {
    let n_experts = spec.variation.experts.as_ref().map_or(0, |experts| experts.n_experts);
    let mut parts = Vec::new();
    let mut like = None;
    for role in (0..n_experts).map(|expert| first.of_expert(expert)) {
        let name = role.hf_name(spec.arch);
        let tensor = checkpoint.tensors.role(role).ok_or_else(|| format!("tensor {name} is missing"))?;
        let recode = by_name[tensor.name.as_str()];
        let found = (recode.dtype, &tensor.shape);
        let (dtype, shape) = *like.get_or_insert(found);
        if found != (dtype, shape) {
            let (other, of) = found;
            return Err(format!("tensor {name} is {other} {of}, the expert before it {dtype} {shape}: no stack"));
        }
        parts.push(recode);
    }
    if parts.is_empty() { Err(format!("tensor {first} of a model without experts")) } else { Ok(parts) }
}
