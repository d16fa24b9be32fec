//! Mutants of the model: opened, changed, and written again by the ordinary reader and writer.

use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::{Checkpoint, LayerRole, ModelSpec, Part, Relayout, Tensor, TensorRole, Tensors, TokenKind};
use apr_tensor::{Bytes, DType, Shape};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const DOWN: TensorRole = TensorRole::Layer(0, LayerRole::MlpDown, Part::Weight);
const QUERY: TensorRole = TensorRole::Layer(0, LayerRole::AttnQ, Part::Weight);
const QUERY_BIAS: TensorRole = TensorRole::Layer(0, LayerRole::AttnQ, Part::Bias);

/// Opens the model at `path`, changes it, and puts the changed one in its place.
pub(super) fn rewrite(path: &Path, change: fn(Checkpoint) -> Result<Checkpoint, String>) -> Result<(), String> {
    let checkpoint = open(path, &Limits::default()).map_err(|error| error.to_string())?;
    let format = checkpoint.origin.format;
    let mut changed = change(checkpoint)?;
    // The file's own recipe holds checksums of the data as it was. Without it the layout is made anew, with checksums
    // that fit: the damage must be found in the values.
    changed.origin.identity = None;
    // Written beside the original: what is left of that must not become a part of the changed model.
    let dir = path.parent().ok_or("the model has no directory")?.join("damaged");
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let target = Target { path: dir.join(path.file_name().ok_or("the model has no name")?), format };
    // Recipes travel along: a reader that trusts one without looking at the tensors must be found out.
    let options = WriteOptions::default();
    write(&changed, &target, &options, &mut |_, _| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    let replaced = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    replaced
        .and_then(|()| std::fs::rename(&target.path, path))
        .and_then(|()| std::fs::remove_dir_all(&dir))
        .map_err(|error| error.to_string())
}

const UNKNOWN: &str = "the architecture is unknown";

fn known(checkpoint: &Checkpoint) -> Result<&ModelSpec, String> {
    checkpoint.spec.known().ok_or_else(|| UNKNOWN.to_owned())
}

/// Replaces a tensor, or removes it where `change` gives none.
fn with_tensor(
    mut checkpoint: Checkpoint,
    role: TensorRole,
    change: impl FnOnce(&Tensor) -> Result<Option<Tensor>, String>,
) -> Result<Checkpoint, String> {
    let name = role.hf_name(known(&checkpoint)?.arch);
    let found = checkpoint.tensors.get(&name).ok_or_else(|| format!("the model has no tensor {name}"))?;
    let mut replacement = Some(change(found)?);
    let mut tensors = Tensors::default();
    for tensor in &checkpoint.tensors {
        let next = if tensor.name == name { replacement.take().flatten() } else { Some(tensor.clone()) };
        if let Some(next) = next {
            tensors.push(next).map_err(|taken| format!("{} occurs twice", taken.name))?;
        }
    }
    checkpoint.tensors = tensors;
    Ok(checkpoint)
}

fn with_data(
    checkpoint: Checkpoint,
    role: TensorRole,
    change: impl FnOnce(&Tensor, &mut Vec<u8>) -> Result<(), String>,
) -> Result<Checkpoint, String> {
    with_tensor(checkpoint, role, |tensor| {
        let mut data = tensor.data.to_vec();
        change(tensor, &mut data)?;
        Ok(Some(Tensor { data: Bytes::from(data), ..tensor.clone() }))
    })
}

pub(super) fn zero_tensor(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_data(checkpoint, DOWN, |_, data| {
        data.fill(0);
        Ok(())
    })
}

pub(super) fn nan_value(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_data(checkpoint, DOWN, |tensor, data| {
        let nan: &[u8] = match tensor.dtype {
            DType::F32 => &[0, 0, 0xC0, 0x7F],
            DType::F16 => &[0, 0x7E],
            DType::BF16 => &[0xC0, 0x7F],
            other => return Err(format!("{other} has no NaN")),
        };
        let middle = data.len() / 2 / nan.len() * nan.len();
        data[middle..middle + nan.len()].copy_from_slice(nan);
        Ok(())
    })
}

pub(super) fn transposed(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_tensor(checkpoint, DOWN, |tensor| {
        let dims: Vec<u64> = tensor.shape.dims().iter().rev().map(|&dim| dim as u64).collect();
        let shape = Shape::new(&dims).map_err(|error| error.to_string())?;
        if shape == tensor.shape {
            return Err(format!("{} is square", tensor.name));
        }
        Ok(Some(Tensor { shape, ..tensor.clone() }))
    })
}

pub(super) fn dtype_byte(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_tensor(checkpoint, DOWN, |tensor| {
        let dtype = match tensor.dtype {
            DType::BF16 => DType::F16,
            DType::F16 => DType::BF16,
            other => return Err(format!("no dtype has the size of {other}")),
        };
        Ok(Some(Tensor { dtype, ..tensor.clone() }))
    })
}

pub(super) fn dropped_bias(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_tensor(checkpoint, QUERY_BIAS, |_| Ok(None))
}

pub(super) fn dropped_layer(mut checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    let last = known(&checkpoint)?.n_layers - 1;
    let mut tensors = Tensors::default();
    for tensor in checkpoint.tensors.iter().filter(|t| t.role.and_then(TensorRole::layer) != Some(last)) {
        tensors.push(tensor.clone()).map_err(|taken| format!("{} occurs twice", taken.name))?;
    }
    checkpoint.tensors = tensors;
    Ok(checkpoint)
}

pub(super) fn dropped_tokenizer(mut checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    checkpoint.tokenizer.take().ok_or("the model has no tokenizer")?;
    Ok(checkpoint)
}

pub(super) fn split_special(mut checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    let tokenizer = checkpoint.tokenizer.as_mut().ok_or("the model has no tokenizer")?;
    let kinds = &mut Arc::make_mut(tokenizer).vocab.kinds;
    let kind = kinds.iter_mut().rev().find(|kind| **kind == TokenKind::Control);
    *kind.ok_or("the tokenizer has no special token")? = TokenKind::Normal;
    Ok(checkpoint)
}

pub(super) fn rope_theta(mut checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    checkpoint.spec.known_mut().ok_or(UNKNOWN)?.rope_theta /= 100.0;
    Ok(checkpoint)
}

pub(super) fn permuted_q(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    let order = Relayout::RotaryInterleaved { head_dim: known(&checkpoint)?.head_dim as usize };
    with_data(checkpoint, QUERY, |tensor, data| {
        let n = data.len() / tensor.canonical_rows();
        for row in 0..tensor.canonical_rows() {
            data[row * n..(row + 1) * n].copy_from_slice(tensor.canonical_row(order.canonical_row(row)));
        }
        Ok(())
    })
}

pub(super) fn bit_flip(checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    with_data(checkpoint, DOWN, |tensor, data| {
        if tensor.dtype.is_quantized() {
            return Err(format!("the lowest bit of a weight is not at a known place in {}", tensor.dtype));
        }
        // Little-endian: the lowest bit of the fraction is in the first byte of an element.
        let element = tensor.dtype.info().block_bytes;
        data[tensor.shape.n_elements() / 2 * element] ^= 1;
        Ok(())
    })
}
