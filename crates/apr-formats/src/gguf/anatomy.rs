//! What each byte of a GGUF file is.

use super::reader::shown;
use super::typed_text::Type;
use super::{Header, container::kind};
use crate::anatomy::{Parts, Section};
use crate::cursor::Cursor;
use crate::{Limits, ParseError};
use apr_tensor::ByteOrder;

/// Names the regions of a file.
pub(crate) fn describe(parts: &mut Parts<'_>, limits: &Limits) -> Result<(), ParseError> {
    let file = parts.file;
    let header = Header::parse(file, limits)?;
    parts.byte_order = header.byte_order;
    let order = if header.byte_order == ByteOrder::Big { ", big-endian" } else { "" };
    parts.add(0..4, Section::Header, "magic", "GGUF".to_owned());
    parts.add(4..8, Section::Header, "version", format!("{}{order}", header.version));
    parts.add(8..16, Section::Header, "number of tensors", header.tensors.len().to_string());
    parts.add(16..24, Section::Header, "number of metadata pairs", header.pairs.len().to_string());

    let mut at = 24;
    for ((key, value), range) in header.pairs.iter().zip(&header.value_ranges) {
        let mut numbers = Cursor::at(file, range.start - 4);
        numbers.set_order(header.byte_order);
        let id = numbers.u32("value type")?;
        let element = if id == kind::ARRAY { numbers.u32("element type")? } else { 0 };
        parts.add(at..range.start - 4, Section::Metadata, "key, behind its length", format!("{key:?}"));
        let value_type = Type::stored(id, element).to_string();
        parts.add(range.start - 4..range.start, Section::Metadata, "value type", value_type);
        parts.add(range.clone(), Section::Metadata, format!("value of {key}"), shown(value));
        at = range.end;
    }
    for tensor in &header.tensors {
        let name = tensor.name;
        let (dims, dtype, offset) = {
            let dims = at + 8 + name.len();
            let dtype = dims + 4 + 8 * tensor.shape.dims().len();
            (dims, dtype, dtype + 4)
        };
        let mut add = |range, what, value| parts.of_tensor(name, range, Section::Index, what, value);
        add(at..dims, "name, behind its length", format!("{name:?}"));
        let fastest_first: Vec<_> = tensor.shape.dims().iter().rev().collect();
        add(dims..dtype, "number of dimensions, dimensions with the fastest first", format!("{fastest_first:?}"));
        add(dtype..offset, "dtype", format!("{} ({})", tensor.dtype, tensor.dtype.info().id));
        let in_data = tensor.range.start as u64 - header.data_offset;
        add(offset..offset + 8, "offset in the data section", in_data.to_string());
        at = offset + 8;
    }
    for tensor in &header.tensors {
        let value = format!("{} {}", tensor.dtype, tensor.shape);
        parts.of_tensor(tensor.name, tensor.range.clone(), Section::Data, &format!("values of {}", tensor.name), value);
    }
    Ok(())
}
