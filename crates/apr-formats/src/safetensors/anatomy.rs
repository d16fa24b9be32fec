//! What each byte of a SafeTensors file is.

use super::header::PREFIX_BYTES;
use super::{Header, METADATA_KEY};
use crate::anatomy::{Parts, Section};
use crate::{Limits, ParseError};
use std::ops::Range;

/// Names the regions of a file.
pub(crate) fn describe(parts: &mut Parts<'_>, limits: &Limits) -> Result<(), ParseError> {
    let header = Header::parse(parts.file, limits)?;
    let n = u64::from_le_bytes(parts.file[..PREFIX_BYTES].try_into().expect("a prefix is 8 bytes"));
    parts.add(0..PREFIX_BYTES, Section::Header, "length of the JSON header", n.to_string());
    let text = PREFIX_BYTES..PREFIX_BYTES + n as usize;
    for range in members(&parts.file[text.clone()]) {
        let range = text.start + range.start..text.start + range.end;
        let member = &parts.file[range.clone()];
        // The header was parsed: what is here is a key, a colon and a value.
        let mut keys = serde_json::Deserializer::from_slice(member).into_iter::<String>();
        match keys.next() {
            Some(Ok(key)) if key == METADATA_KEY => {
                parts.add(range, Section::Metadata, "texts beside the tensors", key);
            }
            Some(Ok(key)) => {
                let value = header.tensors.iter().find(|t| t.name == key);
                let value = value.map(|t| format!("{} {}, data ends at {}", t.dtype, t.shape, t.range.end));
                parts.of_tensor(
                    &key,
                    range,
                    Section::Index,
                    &format!("description of {key}"),
                    value.unwrap_or_default(),
                );
            }
            _ => parts.add(range, Section::Header, "JSON", String::new()),
        }
    }
    for tensor in &header.tensors {
        let value = format!("{} {}", tensor.dtype, tensor.shape);
        let what = format!("values of {}", tensor.name);
        parts.of_tensor(&tensor.name, tensor.range.clone(), Section::Data, &what, value);
    }
    Ok(())
}

/// The members of a valid JSON object, each with the comma behind it, and its braces.
fn members(text: &[u8]) -> Vec<Range<usize>> {
    let (mut members, mut start) = (Vec::new(), 0);
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth == 1 {
                    members.push(start..at + 1);
                    start = at + 1;
                }
            }
            b',' if depth == 1 => {
                members.push(start..at + 1);
                start = at + 1;
            }
            b'}' | b']' => {
                if depth == 1 {
                    members.push(start..at);
                    start = at;
                }
                depth -= 1;
            }
            _ => {}
        }
    }
    members.push(start..text.len());
    members
}
