//! The variables by which `huggingface_hub` is told where things are; this project has none of its own.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where variables come from: the process, or a test.
pub trait Environment {
    /// The value of a variable; an empty one counts as absent.
    fn get(&self, name: &str) -> Option<OsString>;

    /// A variable that holds a path; `~/` is the home directory.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = PathBuf::from(self.get(name)?);
        let below_home = value.strip_prefix("~").ok().map(PathBuf::from);
        Some(match (below_home, self.get("HOME")) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => value,
        })
    }

    /// Whether a variable says yes, as `huggingface_hub` reads it.
    fn is_true(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
    }

    /// `HF_HOME`, else `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`.
    fn hf_home(&self) -> Option<PathBuf> {
        let below = |name, rest: &str| self.path(name).map(|dir| dir.join(rest));
        self.path("HF_HOME")
            .or_else(|| below("XDG_CACHE_HOME", "huggingface"))
            .or_else(|| below("HOME", ".cache/huggingface"))
    }

    /// Whether the network is not to be used: `HF_HUB_OFFLINE`, or `TRANSFORMERS_OFFLINE`.
    fn is_offline(&self) -> bool {
        let deciding = if self.get("HF_HUB_OFFLINE").is_some() { "HF_HUB_OFFLINE" } else { "TRANSFORMERS_OFFLINE" };
        self.is_true(deciding)
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Environment for Process {
    fn get(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Environment for &[(&str, &str)] {
        fn get(&self, name: &str) -> Option<OsString> {
            let (_, value) = self.iter().find(|(key, _)| *key == name)?;
            Some(value).filter(|value| !value.is_empty()).map(OsString::from)
        }
    }

    #[test]
    fn offline_is_what_the_first_variable_says() {
        for (variables, expected) in [
            (&[] as &[(&str, &str)], false),
            (&[("HF_HUB_OFFLINE", "1")], true),
            (&[("HF_HUB_OFFLINE", "yes")], true),
            (&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], false),
            (&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "true")], true),
        ] {
            assert_eq!(variables.is_offline(), expected, "{variables:?}");
        }
    }
}
