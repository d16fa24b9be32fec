//! What each byte of an APR file is.

use super::{CHECKSUM_MAGIC, HEADER_BYTES, Header};
use crate::anatomy::{Parts, Section};
use crate::cursor::Cursor;
use crate::{Limits, ParseError};

/// Names the regions of a file.
pub(crate) fn describe(parts: &mut Parts<'_>, limits: &Limits) -> Result<(), ParseError> {
    let file = parts.file;
    let header = Header::parse(file, limits)?;
    let mut add = |range, what: &str, value| parts.add(range, Section::Header, what, value);
    let mut field = Cursor::at(file, 12);
    add(0..4, "magic", header.magic.escape_ascii().to_string());
    add(4..6, "version", format!("{}.{}", header.version.0, header.version.1));
    add(6..8, "flags", format!("{:#06x}", header.flags));
    add(8..12, "number of tensors", header.tensors.len().to_string());
    add(12..20, "metadata offset", field.u64("metadata offset")?.to_string());
    add(20..24, "metadata size", field.u32("metadata size")?.to_string());
    let index_offset = field.u64("index offset")?;
    add(24..32, "index offset", index_offset.to_string());
    let data_offset = field.u64("data offset")?;
    add(32..40, "data offset", data_offset.to_string());
    add(40..44, "CRC32 of the header", format!("{:08x}", field.u32("header checksum")?));
    add(44..HEADER_BYTES, "reserved", String::new());

    let n = header.metadata.len();
    parts.add(header.metadata, Section::Metadata, "JSON", format!("{n} bytes"));
    let mut at = index_offset as usize;
    for tensor in &header.tensors {
        let name = tensor.name.as_str();
        let dtype = at + 2 + name.len();
        let offset = dtype + 2 + 8 * tensor.shape.dims().len();
        let mut add = |range, what, value| parts.of_tensor(name, range, Section::Index, what, value);
        add(at..dtype, "name, behind its length", format!("{name:?}"));
        add(dtype..dtype + 1, "dtype", format!("{} ({})", tensor.dtype, tensor.dtype.info().id));
        add(dtype + 1..offset, "number of dimensions, dimensions", tensor.shape.to_string());
        let in_data = tensor.range.start as u64 - data_offset;
        add(offset..offset + 8, "offset in the data section", in_data.to_string());
        add(offset + 8..offset + 16, "bytes of data", tensor.range.len().to_string());
        at = offset + 16;
    }
    for tensor in &header.tensors {
        let value = format!("{} {}", tensor.dtype, tensor.shape);
        let what = format!("values of {}", tensor.name);
        parts.of_tensor(&tensor.name, tensor.range.clone(), Section::Data, &what, value);
    }
    let data_end = header.tensors.iter().map(|t| t.range.end).max().unwrap_or(data_offset as usize);
    if let Some(checksums) = &header.tensor_checksums {
        let start = data_end.next_multiple_of(super::ALIGNMENT as usize);
        let list = start + CHECKSUM_MAGIC.len();
        parts.add(start..list, Section::Checksum, "magic", CHECKSUM_MAGIC.escape_ascii().to_string());
        let value = format!("{} of 4 bytes", checksums.len());
        parts.add(list..list + 4 * checksums.len(), Section::Checksum, "CRC32 of each tensor, in data order", value);
    }
    if let Some(checksum) = header.footer_checksum {
        let what = "CRC32 of everything before it";
        parts.add(file.len() - 4..file.len(), Section::Checksum, what, format!("{checksum:08x}"));
    }
    Ok(())
}
