//! What the tensors of a Transformers directory are in a checkpoint: some files leave out the name of the part of the model
//! that everything but the head is in, and some hold tables that follow from the hyper-parameters.

use super::TensorInfo;
use apr_model::{Spec, TensorRole};
use apr_tensor::DType;

/// How the tensors of a model are called in its files.
pub(super) struct Names<'s> {
    spec: &'s Spec,
    /// What is put before the names of its roles.
    left_out: &'static str,
}

impl<'s> Names<'s> {
    /// Transformers loads a model whose class states a prefix from names with it and, where none has it, without it: the files
    /// of `openai-community/gpt2` are such.
    pub(super) fn new<'t>(spec: &'s Spec, mut stored: impl Iterator<Item = &'t str> + Clone) -> Self {
        let prefix = spec.arch().map_or("", |arch| arch.hf_prefix);
        let lacks_it = !stored.clone().any(|name| name.starts_with(prefix));
        let is_embedding =
            |name: &str| spec.role_of_hf_name(&format!("{prefix}{name}")) == Some(TensorRole::TokenEmbed);
        let left_out = if lacks_it && stored.any(is_embedding) { prefix } else { "" };
        Self { spec, left_out }
    }

    /// The canonical name of a stored tensor, and its role.
    pub(super) fn canonical(&self, stored: &str) -> (String, Option<TensorRole>) {
        let whole = format!("{}{stored}", self.left_out);
        match self.spec.role_of_hf_name(&whole) {
            Some(role) => (whole, Some(role)),
            None => (stored.to_owned(), self.spec.role_of_hf_name(stored)),
        }
    }

    /// Whether a stored tensor is a table that every reader makes for itself: the causal mask of GPT-2, ones up to the
    /// diagonal.
    pub(super) fn is_table(&self, info: &TensorInfo, data: &[u8]) -> bool {
        let is_mask = self.spec.arch().is_some_and(|arch| arch.id == "gpt2") && info.name.ends_with(".attn.bias");
        let one: &[u8] = match info.dtype {
            DType::F32 => &[0, 0, 0x80, 0x3f],
            DType::F16 => &[0, 0x3c],
            DType::BF16 => &[0x80, 0x3f],
            DType::U8 | DType::Bool => &[1],
            _ => return false,
        };
        let &[1, 1, n, columns] = info.shape.dims() else { return false };
        let is_row = |(row, values): (usize, &[u8])| {
            let (seen, hidden) = values.split_at((row + 1) * one.len());
            seen.chunks_exact(one.len()).all(|value| value == one) && hidden.iter().all(|&byte| byte == 0)
        };
        is_mask && n > 0 && n == columns && data.chunks_exact(n * one.len()).enumerate().all(is_row)
    }
}
