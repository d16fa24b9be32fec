//! Metadata values as people write them: a type's name, and a value's text.

use super::container::{Bytes, kind};

/// Names of the scalar types, with their ids.
const SCALARS: [(&str, u32); 12] = [
    ("u8", kind::U8),
    ("i8", kind::I8),
    ("u16", kind::U16),
    ("i16", kind::I16),
    ("u32", kind::U32),
    ("i32", kind::I32),
    ("f32", kind::F32),
    ("bool", kind::BOOL),
    ("str", kind::STR),
    ("u64", kind::U64),
    ("i64", kind::I64),
    ("f64", kind::F64),
];

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Scalar(u32),
    /// An array of scalars.
    Array(u32),
    /// An array of arrays, which can't be written as text.
    Nested,
}

impl Type {
    /// The type called `u32`, or `[u32]` for an array.
    pub(super) fn named(name: &str) -> Option<Self> {
        let scalar = |name: &str| SCALARS.iter().find(|(n, _)| *n == name).map(|(_, id)| *id);
        match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(element) => scalar(element).map(Type::Array),
            None => scalar(name).map(Type::Scalar),
        }
    }

    /// The type of a stored value, of which `kind` is the type and `element` that of an array's elements.
    pub(super) fn stored(id: u32, element: u32) -> Self {
        match (id, element) {
            (kind::ARRAY, kind::ARRAY) => Type::Nested,
            (kind::ARRAY, element) => Type::Array(element),
            (id, _) => Type::Scalar(id),
        }
    }

    /// What a new key's value looks like: a truth value, a number as narrow as is usual, or else a text.
    pub(super) fn inferred(text: &str) -> Self {
        let float = text.parse::<f32>().is_ok_and(f32::is_finite) && text.contains(|c: char| c.is_ascii_digit());
        Type::Scalar(match text {
            "true" | "false" => kind::BOOL,
            _ if text.parse::<u32>().is_ok() => kind::U32,
            _ if text.parse::<i32>().is_ok() => kind::I32,
            _ if text.parse::<u64>().is_ok() => kind::U64,
            _ if text.parse::<i64>().is_ok() => kind::I64,
            _ if float => kind::F32,
            _ => kind::STR,
        })
    }

    /// Id of the type in the container.
    pub(super) fn id(self) -> u32 {
        match self {
            Type::Scalar(id) => id,
            Type::Array(_) | Type::Nested => kind::ARRAY,
        }
    }

    /// Writes the value that `text` stands for: an array is JSON.
    pub(super) fn write(self, text: &str, out: &mut Bytes<'_>) -> Result<(), String> {
        let Type::Array(element) = self else {
            let Type::Scalar(id) = self else { return Err("an array of arrays can't be written as text".to_owned()) };
            return scalar(id, text, out).ok_or_else(|| format!("{text:?} is no {self}"));
        };
        let list: Vec<serde_json::Value> =
            serde_json::from_str(text).map_err(|e| format!("{text:?} is no JSON array for {self}: {e}"))?;
        out.u32(element);
        out.u64(list.len() as u64);
        for item in list {
            let text = match &item {
                serde_json::Value::String(text) if element == kind::STR => text.clone(),
                serde_json::Value::Number(_) | serde_json::Value::Bool(_) if element != kind::STR => item.to_string(),
                _ => return Err(format!("{item} is no element of {self}")),
            };
            scalar(element, &text, out).ok_or_else(|| format!("{item} is no element of {self}"))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |id: u32| SCALARS.iter().find(|(_, n)| *n == id).map_or("unknown", |(name, _)| *name);
        match self {
            Type::Scalar(id) => f.write_str(name(*id)),
            Type::Array(id) => write!(f, "[{}]", name(*id)),
            Type::Nested => f.write_str("[[…]]"),
        }
    }
}

fn scalar(id: u32, text: &str, out: &mut Bytes<'_>) -> Option<()> {
    match id {
        kind::U8 => out.u8(text.parse().ok()?),
        kind::I8 => out.i8(text.parse().ok()?),
        kind::U16 => out.u16(text.parse().ok()?),
        kind::I16 => out.i16(text.parse().ok()?),
        kind::U32 => out.u32(text.parse().ok()?),
        kind::I32 => out.i32(text.parse().ok()?),
        kind::U64 => out.u64(text.parse().ok()?),
        kind::I64 => out.i64(text.parse().ok()?),
        kind::F32 => out.f32(text.parse().ok().filter(|x: &f32| x.is_finite())?),
        kind::F64 => out.f64(text.parse().ok().filter(|x: &f64| x.is_finite())?),
        kind::BOOL => out.u8(u8::from(text.parse::<bool>().ok()?)),
        kind::STR => out.text(text),
        _ => return None,
    }
    Some(())
}
