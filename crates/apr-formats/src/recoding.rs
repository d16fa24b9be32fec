//! What a caller may ask the values of a target to become: the one way to change them.

use crate::plan::lossless_dtype;
use crate::{Importance, WriteError};
use apr_model::{Checkpoint, Choice, FileType, Format, Mixing, Tensor};
use apr_tensor::DType;
use std::collections::HashMap;
use std::sync::Arc;

/// Another dtype, or a mixture of dtypes.
#[derive(Clone, Debug)]
pub enum Recoding {
    /// One dtype for all matrices.
    DType(DTypeRequest),
    /// A dtype per matrix.
    FileType(Arc<FileTypeRequest>),
}

/// A dtype asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DTypeRequest(DType);

/// A file type asked for: values that are not finite, before or after, are errors.
#[derive(Clone, Debug)]
pub struct FileTypeRequest {
    /// The mixture.
    pub file_type: &'static FileType,
    /// By canonical name: dtypes that replace the mixture's.
    pub overrides: HashMap<String, DType>,
    /// How much columns matter.
    pub importance: Option<Importance>,
    /// Whether blocks that are quantised already may be quantised to another dtype.
    pub requantize: bool,
}

/// The stored form of one tensor.
pub(crate) struct Asked {
    pub(crate) dtype: DType,
    /// What it would be if its rows filled the blocks.
    pub(crate) wanted: DType,
    /// Whether it must hold exactly the same values.
    pub(crate) exact: bool,
    pub(crate) finite: bool,
    pub(crate) importance: Option<Arc<[f32]>>,
}

impl Asked {
    pub(crate) fn exactly(dtype: DType) -> Self {
        Self { dtype, wanted: dtype, exact: true, finite: false, importance: None }
    }
}

impl DTypeRequest {
    /// Asks for `dtype`, if this version can encode it.
    pub fn new(dtype: DType) -> Result<Self, String> {
        if dtype.info().encodes {
            return Ok(Self(dtype));
        }
        let can: Vec<_> = apr_tensor::DTYPES.iter().filter(|row| row.encodes).map(|row| row.name).collect();
        let why = if dtype.holds_weights() { "decodes it and does not encode it" } else { "carries it where it is" };
        Err(format!("{dtype} can't be asked for: this version {why}; it encodes {}", can.join(" ")))
    }

    /// The dtype asked for.
    pub fn dtype(self) -> DType {
        self.0
    }

    /// Vectors are too small to matter and too sensitive to quantise: they become F32 beside quantised matrices.
    /// A matrix whose rows don't fill the blocks keeps its dtype.
    fn for_tensor(self, tensor: &Tensor, format: Format) -> Asked {
        if !tensor.dtype.holds_weights() {
            return Asked::exactly(tensor.dtype);
        }
        let is_vector = tensor.shape.dims().len() < 2;
        if is_vector && (self.0.is_quantized() || format == Format::Gguf) {
            return Asked::exactly(DType::F32);
        }
        if !tensor.shape.row_elements().is_multiple_of(self.0.info().block_elements) {
            return Asked::exactly(tensor.dtype);
        }
        Asked { exact: false, ..Asked::exactly(self.0) }
    }
}

impl FileTypeRequest {
    fn for_tensor(&self, tensor: &Tensor, format: Format, mixing: Mixing<'_>) -> Result<Asked, WriteError> {
        let refused = |detail: String| WriteError::Tensor { name: tensor.name.clone(), detail };
        let mixing = Mixing { has_importance: self.importance.is_some(), ..mixing };
        if !tensor.dtype.holds_weights() {
            return Ok(Asked::exactly(tensor.dtype));
        }
        let stays = Asked { finite: true, ..Asked::exactly(lossless_dtype(tensor, format)) };
        let Some(mixed) = self.file_type.choose(tensor, &mixing) else { return Ok(stays) };
        let choice = match self.overrides.get(&tensor.name) {
            Some(&dtype) => Choice::new(dtype, tensor.shape.row_elements()),
            None => mixed,
        };
        let (dtype, wanted) = (choice.stored, choice.wanted);
        if dtype.is_quantized() && format == Format::SafeTensors {
            return Err(refused(format!("{format} has no {dtype}; choose a target in GGUF or APR")));
        }
        if dtype == tensor.dtype {
            return Ok(Asked { wanted, finite: true, ..Asked::exactly(dtype) });
        }
        if tensor.dtype.is_quantized() && !self.requantize {
            let from = tensor.dtype;
            return Err(refused(format!(
                "it is {from} already, and {dtype} would add its error to that of {from}; start from a model in 16 or 32 \
                 bits, or pass --allow-requantize"
            )));
        }
        let importance = match &self.importance {
            Some(importance) if dtype.is_quantized() => importance.of(tensor, mixing.spec).map_err(refused)?,
            _ => None,
        };
        Ok(Asked { dtype, wanted, exact: false, finite: true, importance })
    }
}

impl Recoding {
    pub(crate) fn for_tensor(
        &self,
        tensor: &Tensor,
        format: Format,
        checkpoint: &Checkpoint,
    ) -> Result<Asked, WriteError> {
        let spec = checkpoint.spec.known().ok_or_else(|| WriteError::unknown(&checkpoint.spec))?;
        match self {
            Self::DType(request) => Ok(request.for_tensor(tensor, format)),
            Self::FileType(request) => {
                let mixing = Mixing { spec, is_tied: checkpoint.is_tied(), has_importance: false };
                request.for_tensor(tensor, format, mixing)
            }
        }
    }

    /// `general.file_type` of GGUF, where it was asked for by name.
    pub(crate) fn gguf_file_type(&self) -> Option<u32> {
        match self {
            Self::DType(_) => None,
            Self::FileType(request) => Some(request.file_type.gguf_id),
        }
    }
}
