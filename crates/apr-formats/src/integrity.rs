//! Checksums that a file carries about itself, compared with its bytes.

use crate::{Limits, OpenError, OpenErrorKind, Source, apr};
use apr_model::Format;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// Tensors whose own checksum was compared.
    pub tensors: usize,
    /// Whether a checksum of the whole file was compared.
    pub file: bool,
}

/// Reads the whole file and compares every checksum it carries. GGUF and SafeTensors carry none.
///
/// A wrong checksum is an error that names the tensor it belongs to.
pub fn check_integrity(source: &Source, limits: &Limits) -> Result<Integrity, OpenError> {
    if source.format != Format::Apr {
        return Ok(Integrity { tensors: 0, file: false });
    }
    let file = &source.files[0];
    let path = source.path.with_file_name(&file.name);
    let header = apr::Header::parse(&file.bytes, limits).map_err(|e| e.in_file(&path, Format::Apr))?;
    let wrong = |offset: usize, detail: String| OpenError {
        path: path.clone(),
        kind: OpenErrorKind::Malformed { format: Format::Apr, offset_bytes: Some(offset as u64), detail },
    };
    let mut checked = Integrity { tensors: 0, file: false };
    if let Some(checksums) = &header.tensor_checksums {
        let mut in_data_order: Vec<_> = header.tensors.iter().collect();
        in_data_order.sort_by_key(|t| t.range.start);
        for (tensor, &stated) in in_data_order.into_iter().zip(checksums) {
            let data = file.bytes.slice(tensor.range.clone()).expect("header checked: the range lies in the file");
            let found = crc32fast::hash(&data);
            data.release();
            if found != stated {
                let detail = format!("tensor {}: checksum {stated:08x}, its bytes give {found:08x}", tensor.name);
                return Err(wrong(tensor.range.start, detail));
            }
            checked.tensors += 1;
        }
    }
    if let Some(stated) = header.footer_checksum {
        let end = file.bytes.len() - 4;
        let mut crc = crc32fast::Hasher::new();
        const CHUNK_BYTES: usize = 8 << 20;
        for start in (0..end).step_by(CHUNK_BYTES) {
            let chunk = file.bytes.slice(start..end.min(start + CHUNK_BYTES)).expect("inside the file");
            crc.update(&chunk);
            chunk.release();
        }
        let found = crc.finalize();
        if found != stated {
            return Err(wrong(end, format!("file checksum {stated:08x}, its bytes give {found:08x}")));
        }
        checked.file = true;
    }
    Ok(checked)
}
