//! Where the model comes from: built into this program, or a path.

use std::path::{Path, PathBuf};

/// A model that is part of this program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name (`builtin:tiny`).
    pub name: &'static str,
    /// Its files. One file is a model on its own, several are a Transformers directory.
    pub files: &'static [apr::BuiltinFile],
}

/// The model of the self-test: a Qwen2 model of 0.1 M values that adds and subtracts digits.
const NANO: Builtin = Builtin {
    name: "builtin:nano",
    files: &[("nano-qwen2-BF16.gguf", include_bytes!("../../../models/nano-qwen2/gguf/nano-qwen2-BF16.gguf"))],
};

/// Every built-in model: those of `apr`, and the one of the self-test.
pub fn builtins() -> impl Iterator<Item = Builtin> {
    let of_apr = apr::BUILTIN_MODELS.iter().map(|&(name, files)| Builtin { name, files });
    of_apr.chain(std::iter::once(NANO))
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// Built in.
    Builtin(Builtin),
    /// A file or a directory.
    Path(PathBuf),
}

impl ModelSource {
    /// Reads `builtin:NAME` or a path; the path must exist.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("builtin:") {
            return builtins().find(|model| model.name == text).map(ModelSource::Builtin).ok_or_else(|| {
                let names: Vec<&str> = builtins().map(|model| model.name).collect();
                format!("no built-in model is called {text:?}; there are {}", names.join(", "))
            });
        }
        match Path::new(text).canonicalize() {
            Ok(path) => Ok(ModelSource::Path(path)),
            Err(error) => Err(format!("model {text}: {error}")),
        }
    }

    /// The text that names it.
    pub fn name(&self) -> String {
        match self {
            ModelSource::Builtin(model) => model.name.to_owned(),
            ModelSource::Path(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_or_refused() {
        assert_eq!(ModelSource::parse("builtin:tiny").unwrap().name(), "builtin:tiny");
        assert!(ModelSource::parse("builtin:huge").unwrap_err().ends_with("there are builtin:tiny, builtin:nano"));
        assert!(ModelSource::parse("/nonexistent/model").is_err());
        assert!(matches!(ModelSource::parse("."), Ok(ModelSource::Path(_))));
        for model in builtins() {
            assert!(model.files.iter().all(|(name, bytes)| !name.is_empty() && !bytes.is_empty()), "{}", model.name);
        }
    }
}
