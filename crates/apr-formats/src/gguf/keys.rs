//! Typed access to metadata: every key that is read is named once, with the type it must have.

use super::{Array, Header, Value};
use crate::ParseError;

/// The metadata of one file, asked by key.
pub(super) struct Keys<'h, 'a>(pub(super) &'h Header<'a>);

impl<'h, 'a> Keys<'h, 'a> {
    fn wrong(key: &str, found: &Value<'_>, expected: &str) -> ParseError {
        ParseError::new(format!("metadata key {key:?} is {}, expected {expected}", super::reader::shown(found)))
    }

    fn missing(key: &str) -> ParseError {
        ParseError::new(format!("metadata key {key:?} is missing"))
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, ParseError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(other) => Err(Self::wrong(key, other, "a string")),
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, ParseError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(Self::wrong(key, other, "a bool")),
        }
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<u32>, ParseError> {
        let number = match self.0.get(key) {
            None => return Ok(None),
            Some(Value::U8(n)) => Some(u32::from(*n)),
            Some(Value::U16(n)) => Some(u32::from(*n)),
            Some(Value::U32(n)) => Some(*n),
            Some(Value::U64(n)) => u32::try_from(*n).ok(),
            Some(Value::I32(n)) => u32::try_from(*n).ok(),
            Some(Value::I64(n)) => u32::try_from(*n).ok(),
            Some(_) => None,
        };
        match (number, self.0.get(key)) {
            (None, Some(other)) => Err(Self::wrong(key, other, "an unsigned 32-bit number")),
            _ => Ok(number),
        }
    }

    /// A count where the key may hold a list instead.
    pub(super) fn number(&self, key: &str) -> Result<Option<u32>, ParseError> {
        if matches!(self.0.get(key), Some(Value::Array(_))) { Ok(None) } else { self.count(key) }
    }

    /// A list of integers or bools where the key may hold a number instead.
    pub(super) fn flags(&self, key: &str) -> Result<Option<&'h [i64]>, ParseError> {
        if matches!(self.0.get(key), Some(Value::Array(_))) { self.ints(key) } else { Ok(None) }
    }

    pub(super) fn required_count(&self, key: &str) -> Result<u32, ParseError> {
        self.count(key)?.ok_or_else(|| Self::missing(key))
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, ParseError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(other) => Err(Self::wrong(key, other, "a float")),
        }
    }

    pub(super) fn required_float(&self, key: &str) -> Result<f32, ParseError> {
        self.float(key)?.ok_or_else(|| Self::missing(key))
    }

    /// Whether the key is there; it must hold strings then.
    pub(super) fn has_strings(&self, key: &str) -> Result<bool, ParseError> {
        match self.0.get(key) {
            None => Ok(false),
            Some(Value::Array(Array::Str(_))) => Ok(true),
            Some(other) => Err(Self::wrong(key, other, "an array of strings")),
        }
    }

    pub(super) fn ints(&self, key: &str) -> Result<Option<&'h [i64]>, ParseError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Int(list))) => Ok(Some(list)),
            Some(other) => Err(Self::wrong(key, other, "an array of integers")),
        }
    }

    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, ParseError> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Float(list))) => Ok(Some(list.iter().map(|&x| x as f32).collect())),
            Some(other) => Err(Self::wrong(key, other, "an array of floats")),
        }
    }
}
