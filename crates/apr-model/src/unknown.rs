//! What a file says that its model is: a row of the architecture table, or a name that no row has.
//!
//! A model of an unknown architecture is carried from container to container as it is. Nothing about it is guessed: its
//! tensors have no roles, keep their own names and rows, and what else its file says of it travels in the recipe.

use crate::{Architecture, Finding, Format, ModelSpec, TensorRole};
use std::fmt;

/// What a file says that its model is.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a checkpoint has one")]
pub enum Spec {
    /// A row of the architecture table and its hyper-parameters.
    Known(ModelSpec),
    /// A name that no row has.
    Unknown(UnknownArchitecture),
}

/// An architecture that no table knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownArchitecture {
    /// What the first file called it.
    pub name: String,
    /// The format of that file: the architecture, its tensors and their rows are called and stored as there.
    pub format: Format,
}

impl Spec {
    /// Hyper-parameters, where the architecture is known.
    pub fn known(&self) -> Option<&ModelSpec> {
        match self {
            Spec::Known(spec) => Some(spec),
            Spec::Unknown(_) => None,
        }
    }

    /// [`known`](Self::known), to change them.
    pub fn known_mut(&mut self) -> Option<&mut ModelSpec> {
        match self {
            Spec::Known(spec) => Some(spec),
            Spec::Unknown(_) => None,
        }
    }

    /// The architecture, where it is unknown.
    pub fn unknown(&self) -> Option<&UnknownArchitecture> {
        match self {
            Spec::Known(_) => None,
            Spec::Unknown(architecture) => Some(architecture),
        }
    }

    /// The row of the architecture table.
    pub fn arch(&self) -> Option<&'static Architecture> {
        self.known().map(|spec| spec.arch)
    }

    /// Name of the architecture.
    pub fn architecture(&self) -> &str {
        match self {
            Spec::Known(spec) => spec.arch.id,
            Spec::Unknown(architecture) => &architecture.name,
        }
    }

    /// The role of a tensor with this Transformers name.
    pub fn role_of_hf_name(&self, name: &str) -> Option<TensorRole> {
        TensorRole::from_hf_name(name, self.arch()?)
    }

    /// What makes two models compute differently, as comparable text.
    pub fn facts(&self) -> Vec<(String, String)> {
        match self {
            Spec::Known(spec) => spec.facts(),
            Spec::Unknown(architecture) => vec![("architecture".to_owned(), architecture.to_string())],
        }
    }
}

impl UnknownArchitecture {
    /// What a fresh file of another format states as its architecture: not the name, which may mean something there.
    pub const STATED: &'static str = "unknown";
    /// The key beside it that says which one it is.
    pub const KEY: &'static str = "apr.architecture";

    /// The architecture that the value of [`KEY`](Self::KEY) names.
    pub fn parse(text: &str) -> Option<Self> {
        let (format, name) = text.split_once(':')?;
        let format = Format::ALL.into_iter().find(|known| known.name() == format)?;
        Some(Self { name: name.to_owned(), format })
    }

    /// What a user may want to know of it.
    pub fn finding(&self) -> Finding {
        let detail = "not in the table: tensors are carried under their own names, and nothing is renamed, permuted \
                      or checked for roles";
        Finding::note("unknown-architecture", format!("architecture {}", self.name), detail)
    }
}

/// The value of [`UnknownArchitecture::KEY`].
impl fmt::Display for UnknownArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_gives_the_architecture_back() {
        for format in Format::ALL {
            for name in ["foo", "", "a:b", "FooForCausalLM"] {
                let architecture = UnknownArchitecture { name: name.to_owned(), format };
                assert_eq!(UnknownArchitecture::parse(&architecture.to_string()), Some(architecture));
            }
        }
        for text in ["", "foo", "GGUF:foo", "onnx:foo"] {
            assert_eq!(UnknownArchitecture::parse(text), None, "{text}");
        }
    }
}
