//! Checksums that a file carries about itself, compared with its bytes.

use crate::{Limits, OpenError, OpenErrorKind, Source, SourceFile, apr};
use apr_model::Format;
use apr_tensor::Bytes;
use std::ops::Range;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// Tensors whose own checksum was compared.
    pub tensors: usize,
    /// Whether a checksum of the whole file was compared, of each where there are several.
    pub file: bool,
}

/// Reads the whole file and compares every checksum it carries. GGUF and SafeTensors carry none.
///
/// A wrong checksum is an error that names the tensor it belongs to.
pub fn check_integrity(source: &Source, limits: &Limits) -> Result<Integrity, OpenError> {
    if source.format != Format::Apr {
        return Ok(Integrity { tensors: 0, file: false });
    }
    let mut checked = Integrity { tensors: 0, file: true };
    for file in apr::weights(source) {
        let of_file = check_file(source, file, limits)?;
        checked = Integrity { tensors: checked.tensors + of_file.tensors, file: checked.file && of_file.file };
    }
    Ok(checked)
}

fn check_file(source: &Source, file: &SourceFile, limits: &Limits) -> Result<Integrity, OpenError> {
    let path = source.path.with_file_name(&file.name);
    let header = apr::Header::parse(&file.bytes, limits).map_err(|e| e.in_file(&path, Format::Apr))?;
    let wrong = |offset: usize, detail: String| OpenError {
        path: path.clone(),
        kind: OpenErrorKind::Malformed { format: Format::Apr, offset_bytes: Some(offset as u64), detail },
    };
    // One walk through the file serves both kinds of checksum.
    let mut checked = Integrity { tensors: 0, file: false };
    let mut whole = crc32fast::Hasher::new();
    let mut pos = 0;
    if let Some(checksums) = &header.tensor_checksums {
        let mut in_data_order: Vec<_> = header.tensors.iter().collect();
        in_data_order.sort_by_key(|t| t.range.start);
        for (tensor, &stated) in in_data_order.into_iter().zip(checksums) {
            let crc = crc_of(&file.bytes, tensor.range.clone());
            let found = crc.clone().finalize();
            if found != stated {
                let detail = format!("tensor {}: checksum {stated:08x}, its bytes give {found:08x}", tensor.name);
                return Err(wrong(tensor.range.start, detail));
            }
            // An empty tensor may lie anywhere.
            if !tensor.range.is_empty() {
                whole.combine(&crc_of(&file.bytes, pos..tensor.range.start));
                whole.combine(&crc);
                pos = tensor.range.end;
            }
            checked.tensors += 1;
        }
    }
    if let Some(stated) = header.footer_checksum {
        let end = file.bytes.len() - 4;
        whole.combine(&crc_of(&file.bytes, pos..end));
        let found = whole.finalize();
        if found != stated {
            return Err(wrong(end, format!("file checksum {stated:08x}, its bytes give {found:08x}")));
        }
        checked.file = true;
    }
    Ok(checked)
}

/// CRC32 of a range that lies in the file; its pages are given back.
fn crc_of(file: &Bytes, range: Range<usize>) -> crc32fast::Hasher {
    const CHUNK_BYTES: usize = 4 << 20;
    let mut crc = crc32fast::Hasher::new();
    for start in range.clone().step_by(CHUNK_BYTES) {
        let chunk = file.slice(start..range.end.min(start + CHUNK_BYTES)).expect("the header's ranges lie in the file");
        crc.update(&chunk);
        chunk.release();
    }
    crc
}
