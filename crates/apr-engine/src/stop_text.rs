//! Texts that end an answer, found in text that arrives piece by piece.

/// Holds text back while it may be the begin of a stop text.
///
/// What is shown depends on the text alone and not on how it is cut into pieces: the stop text that is complete first
/// ends it, and of several that are complete at the same character the longest.
#[derive(Clone, Debug, Default)]
pub struct StopTexts {
    /// None is empty.
    texts: Vec<String>,
    /// The longest end of the text so far that begins a stop text.
    held: String,
}

impl StopTexts {
    /// A filter for these texts; empty ones, which would end every answer before it begins, are left out.
    pub fn new(texts: &[String]) -> Self {
        StopTexts { texts: texts.iter().filter(|text| !text.is_empty()).cloned().collect(), held: String::new() }
    }

    /// The text that can be shown now that `piece` has come, and the stop text, where one is complete. Afterwards the
    /// rest of `piece` is forgotten.
    pub fn push(&mut self, piece: &str) -> (String, Option<&str>) {
        if self.texts.is_empty() {
            return (piece.to_owned(), None);
        }
        for character in piece.chars() {
            self.held.push(character);
            let complete = self.texts.iter().filter(|text| self.held.ends_with(text.as_str()));
            if let Some(stop) = complete.max_by_key(|text| text.len()) {
                self.held.truncate(self.held.len() - stop.len());
                return (std::mem::take(&mut self.held), Some(stop));
            }
        }
        let begins = |end: &str| self.texts.iter().any(|text| text.starts_with(end));
        let starts = self.held.char_indices().map(|(start, _)| start);
        let n_shown = starts.into_iter().find(|&start| begins(&self.held[start..])).unwrap_or(self.held.len());
        let rest = self.held.split_off(n_shown);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What is left at the end: the begin of a stop text that did not come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows `text` cut after each of `cuts` bytes: what came out, and the stop text.
    fn shown(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut filter = StopTexts::new(&stops.iter().map(|&stop| stop.to_owned()).collect::<Vec<_>>());
        let mut out = String::new();
        for piece in pieces {
            let (text, stop) = filter.push(piece);
            out.push_str(&text);
            if let Some(stop) = stop {
                return (out, Some(stop.to_owned()));
            }
        }
        out.push_str(&filter.finish());
        (out, None)
    }

    #[test]
    fn text_is_held_only_while_it_may_be_the_begin_of_a_stop_text() {
        let mut filter = StopTexts::new(&["END.".to_owned()]);
        assert_eq!(filter.push("The E"), ("The ".to_owned(), None));
        assert_eq!(filter.push("N"), (String::new(), None));
        assert_eq!(filter.push("E"), ("EN".to_owned(), None));
        assert_eq!(filter.push("ND."), (String::new(), Some("END.")));
        assert_eq!(filter.push("gone"), ("gone".to_owned(), None));
    }

    #[test]
    fn the_first_to_be_complete_ends_the_text_however_it_is_cut() {
        let cases: [(&[&str], &str, &str, Option<&str>); 9] = [
            (&[], "abc", "abc", None),
            (&[""], "abc", "abc", None),
            (&["c"], "abc", "ab", Some("c")),
            (&["abcd", "b"], "abcd", "a", Some("b")),
            (&["c", "bc"], "abc", "a", Some("bc")),
            (&["\n\n"], "a\nb\n\n\nc", "a\nb", Some("\n\n")),
            (&["aab"], "aaaab", "aa", Some("aab")),
            (&["é🎉"], "né🎉!", "n", Some("é🎉")),
            (&["xyz"], "wxy", "wxy", None),
        ];
        for (stops, text, expected, stop) in cases {
            let expected = (expected.to_owned(), stop.map(str::to_owned));
            assert_eq!(shown(stops, &[text]), expected, "{stops:?} {text:?}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(shown(stops, &letters), expected, "{stops:?} {text:?} letter by letter");
            for (cut, _) in text.char_indices() {
                assert_eq!(shown(stops, &[&text[..cut], &text[cut..]]), expected, "{stops:?} {text:?} cut at {cut}");
            }
        }
    }
}
