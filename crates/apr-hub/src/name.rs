//! Names that come from outside and become paths: checked once, here.

use crate::HubError;

/// Longest name of a file in a repository, in bytes, and of one part of it; what file systems take.
const MAX_BYTES: usize = 1024;
const MAX_PART_BYTES: usize = 255;

/// Why `name` can't be a path below a directory; `None` where it can.
fn fault(name: &str) -> Option<String> {
    let part_fault = |part: &str| match part {
        "" => Some("has an empty part".to_owned()),
        "." | ".." => Some(format!("has the part {part:?}")),
        _ if part.len() > MAX_PART_BYTES => Some(format!("has a part of {} bytes", part.len())),
        _ => None,
    };
    if name.len() > MAX_BYTES {
        return Some(format!("is {} bytes long", name.len()));
    }
    if let Some(c) = name.chars().find(|c| c.is_control() || *c == '\\') {
        return Some(format!("has the character {c:?}"));
    }
    if name.starts_with('/') {
        return Some("is an absolute path".to_owned());
    }
    name.split('/').find_map(part_fault)
}

/// Checks a file name that a server listed.
#[cfg(feature = "net")]
pub(crate) fn check_listed(name: &str) -> Result<(), HubError> {
    match fault(name) {
        None => Ok(()),
        Some(fault) => {
            Err(HubError::Refused(format!("the hub lists a file {}, which {fault}: refused", shortened(name))))
        }
    }
}

/// Checks a name that the user gave: a revision or a file.
pub(crate) fn check_given(what: &str, name: &str) -> Result<(), HubError> {
    match fault(name) {
        None => Ok(()),
        Some(fault) => Err(HubError::Usage(format!("the {what} {} {fault}", shortened(name)))),
    }
}

/// Whether this is the id of a commit: 40 hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

/// Lower-case hexadecimal digits and nothing else.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A text for an error, with what a terminal would act on escaped, and not longer than a line.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_name_is_a_short_line() {
        assert_eq!(shortened("a\n\u{1b}[2Jb"), r#""a\n\u{1b}[2Jb""#);
        assert_eq!(shortened(&"ä".repeat(100)), format!("\"{}\"…", "ä".repeat(80)));
    }

    #[cfg(feature = "net")]
    #[test]
    fn names_that_would_leave_their_directory_are_refused_by_name() {
        for name in ["config.json", "onnx/model.onnx", "a b/ü.json", ".gitattributes", "x..y", "..."] {
            assert!(check_listed(name).is_ok(), "{name}");
        }
        let long = "a".repeat(256);
        let longer = "ab/".repeat(400);
        for (name, says) in [
            ("", "empty part"),
            ("/etc/passwd", "absolute"),
            ("../x", "\"..\""),
            ("a/../../x", "\"..\""),
            ("a/..", "\"..\""),
            ("./a", "\".\""),
            ("a//b", "empty part"),
            ("a/", "empty part"),
            ("a\0b", "'\\0'"),
            ("a\nb", "'\\n'"),
            ("a\u{1b}[2J", "'\\u{1b}'"),
            ("..\\x", "'\\\\'"),
            (long.as_str(), "256 bytes"),
            (longer.as_str(), "1200 bytes"),
        ] {
            let error = check_listed(name).unwrap_err().to_string();
            assert!(error.contains(says) && error.ends_with("refused"), "{name:?}: {error}");
            assert!(error.len() < 250 && !error.contains(char::is_control), "{error:?}");
        }
    }
}
