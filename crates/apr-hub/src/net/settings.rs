//! Where the hub is, who asks, and how patiently.

use crate::HubError;
use crate::environment::Environment;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// How the hub is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// Sent to the endpoint and to nobody else.
    pub(crate) token: Option<Token>,
    /// The longest that a connection may take, or say nothing.
    pub patience: Duration,
    /// The wait before the second attempt; each further one is twice as long.
    pub first_wait: Duration,
}

/// A secret. Nothing prints it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The value of the header that carries it.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl Settings {
    /// As `huggingface_hub` would be set: `HF_ENDPOINT`; `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, then the file at
    /// `HF_TOKEN_PATH` or `HF_HOME/token`, and none with `HF_HUB_DISABLE_IMPLICIT_TOKEN`; `HF_HUB_DOWNLOAD_TIMEOUT` in
    /// seconds.
    pub fn new(environment: &impl Environment) -> Result<Self, HubError> {
        let text = |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let seconds = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => 10,
            Some(text) => {
                text.trim().parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or_else(|| {
                    HubError::Usage(format!("HF_HUB_DOWNLOAD_TIMEOUT={text:?}: expected a number of seconds"))
                })?
            }
        };
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token(environment)?,
            patience: Duration::from_secs(seconds),
            first_wait: Duration::from_secs(1),
        })
    }
}

fn token(environment: &impl Environment) -> Result<Option<Token>, HubError> {
    if environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let named =
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| Some((name, environment.get(name)?)));
    let (origin, text) = if let Some((name, value)) = named {
        (name.to_owned(), value.to_string_lossy().into_owned())
    } else {
        let path = environment.path("HF_TOKEN_PATH").or_else(|| environment.hf_home().map(|home| home.join("token")));
        let Some(path) = path else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => (path.display().to_string(), text),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(HubError::io(&path, error)),
        }
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // It goes into a header. What is wrong with it is said without showing it.
    if text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(HubError::Usage(format!("the token of {origin} is none: expected one word of ASCII characters")));
    }
    Ok(Some(Token(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_where_huggingface_hub_reads_them() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "from_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        let header = |variables: &[(&str, &str)]| {
            Settings::new(&variables).map(|settings| settings.token.map(|token| token.header()))
        };
        let some = |token: &str| Some(format!("Bearer {token}"));
        assert_eq!(header(&[("HF_HOME", home)]).unwrap(), some("from_file"));
        assert_eq!(header(&[("HF_HOME", home), ("HF_TOKEN", " first ")]).unwrap(), some("first"));
        assert_eq!(header(&[("HF_HOME", home), ("HUGGING_FACE_HUB_TOKEN", "old")]).unwrap(), some("old"));
        assert_eq!(header(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap(), None);
        assert_eq!(header(&[("HF_HOME", "/nowhere")]).unwrap(), None);
        let error = header(&[("HF_TOKEN", "se cret\nX-Evil: 1")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("cret") && !error.contains("Evil"), "{error}");

        let settings =
            Settings::new(&(&[("HF_ENDPOINT", "http://127.0.0.1:1/"), ("HF_TOKEN", "secret")] as &[_])).unwrap();
        assert_eq!(settings.endpoint, "http://127.0.0.1:1");
        assert!(!format!("{settings:?}").contains("secret"));
        assert!(Settings::new(&(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")] as &[_])).is_err());
    }
}
