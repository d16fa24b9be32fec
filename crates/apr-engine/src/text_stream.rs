//! Tokens to text, one by one, without ever splitting a character.

use crate::Tokenizer;

/// Collects the bytes of tokens and gives text as soon as its characters are complete.
///
/// The pieces that [`push`](Self::push) and [`finish`](Self::finish) give, put together, are [`Tokenizer::decode`] of
/// the same ids.
#[derive(Clone, Debug)]
pub struct TextStream {
    /// The begin of a character: at most three bytes between calls.
    pending: Vec<u8>,
    skip_special: bool,
    /// The next byte, where it is a space, is the one that encoding puts before a text.
    strips_space: bool,
}

impl TextStream {
    /// A stream for ids that start a text. `skip_special` leaves out control tokens.
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        TextStream { pending: Vec::new(), skip_special, strips_space: tokenizer.strips_space() }
    }

    /// A stream for ids that go on after a text that is shown already: a leading space is kept.
    pub fn continuing(skip_special: bool) -> Self {
        TextStream { pending: Vec::new(), skip_special, strips_space: false }
    }

    /// The text that is complete with this token; may be empty. An id without a token adds nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if self.skip_special && tokenizer.is_special(id) {
            return String::new();
        }
        let Some(bytes) = tokenizer.token_bytes(id) else { return String::new() };
        let bytes = match bytes.strip_prefix(b" ") {
            Some(rest) if self.strips_space => rest,
            _ => &bytes,
        };
        self.strips_space = false;
        self.pending.extend_from_slice(bytes);
        self.take_complete()
    }

    /// What is left at the end: U+FFFD where a character stayed incomplete.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    /// Text up to the begin of a character that may still be completed; what can't be one becomes U+FFFD.
    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            let (valid, error_len) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), None),
                Err(e) => (e.valid_up_to(), e.error_len()),
            };
            text.push_str(std::str::from_utf8(&rest[..valid]).expect("checked up to here"));
            match error_len {
                Some(len) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[valid + len..];
                }
                None => {
                    let n_taken = self.pending.len() - (rest.len() - valid);
                    self.pending.drain(..n_taken);
                    return text;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<String> {
        let mut stream = TextStream::continuing(false);
        let mut pieces: Vec<String> = chunks
            .iter()
            .map(|chunk| {
                stream.pending.extend_from_slice(chunk);
                stream.take_complete()
            })
            .collect();
        pieces.push(stream.finish());
        pieces
    }

    #[test]
    fn a_character_comes_out_when_its_last_byte_is_there() {
        let party = "🎉".as_bytes();
        assert_eq!(pieces(&[&party[..1], &party[1..3], &party[3..], b"a"]), ["", "", "🎉", "a", ""]);
        assert_eq!(pieces(&["né".as_bytes(), &[0xc3], &[0xa9, b'!', 0xe2], &[0x82, 0xac]]), ["né", "", "é!", "€", ""]);
    }

    #[test]
    fn what_can_not_become_a_character_is_replaced() {
        assert_eq!(pieces(&[&[0xff]]), ["\u{fffd}", ""], "never begins a character");
        assert_eq!(pieces(&[&[0xf0, 0x9f], b"a"]), ["", "\u{fffd}a", ""], "the character is not continued");
        assert_eq!(pieces(&[&[0xf0, 0x9f]]), ["", "\u{fffd}"], "the text ends inside a character");
    }

    #[test]
    fn any_cutting_gives_the_text_of_the_whole() {
        let bytes = b"a\xf0\x9f\x8e\x89\xff\xe2\x82\xc3\xa9\xf0\x9f\x8eb\xed\xa0\x80\xe2\x82";
        let expect = String::from_utf8_lossy(bytes);
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let cut = pieces(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert_eq!(cut.concat(), expect, "cut at {first} and {second}");
                assert!(cut.iter().all(|piece| piece.len() <= bytes.len() * 3));
            }
        }
    }
}
