//! The garbage oracle: signs that a text was not written by a working model.

/// Texts that only a broken tokenizer or template lets through.
const LEAKS: &[&str] =
    &["<s>", "</s>", "<unk>", "<pad>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<bos>", "<eos>"];

/// Characters of the byte-level and SentencePiece alphabets that decoding must have removed.
const PIECE_MARKS: &[char] = &['Ġ', 'Ċ', '▁'];

/// Shortest text of which most may repeat: shorter ones ("ha ha ha", "0.333333") are no evidence.
const REPETITION_CHARS: usize = 24;

/// Why a text is garbage, or `None`.
///
/// A short text is not garbage for being short, and no word is forbidden.
///
/// ```
/// assert_eq!(apr_qa::oracles::garbage("4"), None);
/// assert!(apr_qa::oracles::garbage("\u{FFFD}\u{FFFD}").is_some());
/// ```
pub fn garbage(text: &str) -> Option<String> {
    if let Some(at) = text.chars().position(|c| c == '\u{FFFD}') {
        return Some(format!("replacement character at character {at}"));
    }
    if let Some(c) = text.chars().find(|&c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Some(format!("control character U+{:04X}", u32::from(c)));
    }
    if let Some(leak) = special_token(text) {
        return Some(format!("special token {leak:?}"));
    }
    if let Some(mark) = text.chars().find(|c| PIECE_MARKS.contains(c)) {
        return Some(format!("vocabulary mark {mark:?}"));
    }
    repetition(text)
}

fn special_token(text: &str) -> Option<String> {
    if let Some(leak) = LEAKS.iter().find(|leak| text.contains(*leak)) {
        return Some((*leak).to_owned());
    }
    // <|im_end|>, <|endoftext|>, <|reserved_special_token_5|>
    let start = text.find("<|")?;
    let inner = &text[start + 2..];
    let end = inner.find("|>")?;
    let name = &inner[..end];
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| format!("<|{name}|>"))
}

/// A unit of up to 32 characters, or of up to 4 words, that fills most of the text, four times or more.
fn repetition(text: &str) -> Option<String> {
    let chars: Vec<char> = text.trim().chars().collect();
    if chars.len() >= REPETITION_CHARS {
        for period in 1..=32.min(chars.len() / 4) {
            let (at, run) = longest_run(&chars, period);
            if run >= 4 * period && run * 10 >= chars.len() * 7 {
                let unit: String = chars[at..at + period].iter().collect();
                return Some(format!("{unit:?} repeats over {run} of {} characters", chars.len()));
            }
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    for period in 1..=4.min(words.len() / 4) {
        let (at, run) = longest_run(&words, period);
        if words.len() >= 8 && run >= 4 * period && run * 10 >= words.len() * 7 {
            return Some(format!("{:?} repeats over {run} of {} words", words[at..at + period].join(" "), words.len()));
        }
    }
    None
}

/// Where the longest stretch with this period begins, and its length in items.
fn longest_run<T: PartialEq>(items: &[T], period: usize) -> (usize, usize) {
    let mut best = (0, 0);
    let mut start = 0;
    for index in period..=items.len() {
        if index == items.len() || items[index] != items[index - period] {
            if index - start > best.1 {
                best = (start, index - start);
            }
            start = index + 1 - period;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_texts_are_not_garbage() {
        for text in [
            "4",
            "info",
            "2 + 2 equals 4.",
            "inf is not a number, NaN neither",
            "ha ha ha",
            "1000000000",
            "def add(a, b):\n    return a + b\n",
            "fn main() {\n\tprintln!(\"<b>|x|</b>\");\n}",
            "Bonjour, ça va ? 你好 🙂",
            "The cat sat on the mat. The dog sat on the mat. The bird flew away over the sea.",
            "a <| b |> c",
        ] {
            assert_eq!(garbage(text), None, "{text:?}");
        }
    }

    #[test]
    fn broken_texts_are_named_garbage() {
        for (text, reason) in [
            ("a\u{FFFD}b", "replacement character at character 1"),
            ("a\u{1}b", "control character U+0001"),
            ("4<|im_end|>", "special token \"<|im_end|>\""),
            ("[PAD][PAD]", "special token \"[PAD]\""),
            ("2Ġ+Ġ2", "vocabulary mark 'Ġ'"),
            ("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", "\"!\" repeats over 32 of 32 characters"),
            ("the the the the the the the the", "repeats over"),
            ("1. What is a 1. What is a 1. What is a 1. What is a 1. What is a", "repeats over"),
        ] {
            let found = garbage(text).unwrap_or_else(|| panic!("{text:?} passed"));
            assert!(found.contains(reason), "{text:?}: {found}");
        }
    }
}
