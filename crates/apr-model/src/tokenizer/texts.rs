//! A hundred thousand short texts in one allocation, and their index by content.

use hashbrown::HashTable;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// A list of texts, kept end to end: a vocabulary of [`String`]s would take four times the memory, and most of the time
/// of loading a model.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    joined: String,
    /// Where each text ends in `joined`.
    ends: Vec<usize>,
}

impl Texts {
    /// The texts of `joined`, each ending where `ends` says and beginning where the one before ends; None where the ends
    /// are not ascending, cut a character or leave some of `joined` out.
    pub fn from_parts(joined: String, ends: Vec<usize>) -> Option<Self> {
        let whole = ends.last().copied().unwrap_or(0) == joined.len();
        (whole && ends.is_sorted() && ends.iter().all(|&end| joined.is_char_boundary(end)))
            .then_some(Self { joined, ends })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at a place.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        Some(&self.joined[self.start(index)..end])
    }

    /// The texts in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { texts: self, places: 0..self.len() }
    }

    /// Adds a text at the end.
    pub fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(self.joined.len());
    }

    /// Keeps the first `len` texts.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.joined.truncate(self.start(len));
            self.ends.truncate(len);
        }
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl std::ops::Index<usize> for Texts {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        &self.joined[self.start(index)..self.ends[index]]
    }
}

/// Texts in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    texts: &'a Texts,
    places: std::ops::Range<usize>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.places.next().map(|index| &self.texts[index])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.places.next_back().map(|index| &self.texts[index])
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Texts {
    type Item = &'a str;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<T: AsRef<str>> Extend<T> for Texts {
    fn extend<I: IntoIterator<Item = T>>(&mut self, texts: I) {
        let texts = texts.into_iter();
        self.ends.reserve(texts.size_hint().0);
        texts.for_each(|text| self.push(text.as_ref()));
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = Texts::default();
        all.extend(texts);
        all
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Texts::default();
                while list.next_element_seed(Push(&mut texts))?.is_some() {}
                Ok(texts)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Reads one text straight to the end of a list.
struct Push<'t>(&'t mut Texts);

impl<'de> DeserializeSeed<'de> for Push<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Push<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text);
        Ok(())
    }
}

/// Finds texts of a [`Texts`] by content. It holds places only, so each question brings the list with it.
pub struct TextIndex {
    places: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
}

/// Two places that hold the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SameText {
    /// The earlier place.
    pub first: u32,
    /// The later place.
    pub second: u32,
}

impl TextIndex {
    /// Indexes texts that are all different, of which there are at most 2^32.
    pub fn new(texts: &Texts) -> Result<Self, SameText> {
        let mut index = TextIndex {
            places: HashTable::with_capacity(texts.len()),
            hasher: hashbrown::DefaultHashBuilder::default(),
        };
        for (place, text) in (0u32..).zip(texts) {
            let (hash, hasher) = (index.hash(text), &index.hasher);
            let entry = index.places.entry(
                hash,
                |&other| texts[other as usize] == *text,
                |&other| hash_of(hasher, &texts[other as usize]),
            );
            match entry {
                hashbrown::hash_table::Entry::Occupied(first) => {
                    return Err(SameText { first: *first.get(), second: place });
                }
                hashbrown::hash_table::Entry::Vacant(entry) => entry.insert(place),
            };
        }
        Ok(index)
    }

    /// The place of `text` in the list that was indexed.
    pub fn get(&self, texts: &Texts, text: &str) -> Option<u32> {
        self.places.find(self.hash(text), |&place| texts.get(place as usize) == Some(text)).copied()
    }

    fn hash(&self, text: &str) -> u64 {
        hash_of(&self.hasher, text)
    }
}

fn hash_of(hasher: &hashbrown::DefaultHashBuilder, text: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_were_put_in() {
        let given = ["", "a", "→", "", "bc"];
        let mut texts = Texts::from_iter(given);
        assert_eq!(texts.iter().collect::<Vec<_>>(), given);
        assert_eq!(texts.iter().next_back(), Some("bc"));
        assert_eq!((texts.len(), texts.get(2), texts.get(5), &texts[4]), (5, Some("→"), None, "bc"));
        assert_eq!(serde_json::to_string(&texts).unwrap(), r#"["","a","→","","bc"]"#);
        assert_eq!(serde_json::from_str::<Texts>(r#"["","\u0061","→","","bc"]"#).unwrap(), texts);
        assert!(serde_json::from_str::<Texts>("[1]").is_err());
        texts.truncate(2);
        assert_eq!(texts, Texts::from_iter(["", "a"]));
        texts.truncate(0);
        assert!(texts.is_empty() && texts == Texts::default());
    }

    #[test]
    fn an_index_finds_each_text_and_no_other() {
        let texts: Texts = (0..5000).map(|n| format!("{n}→")).collect();
        let index = TextIndex::new(&texts).unwrap_or_else(|same| panic!("{same:?}"));
        for (place, text) in (0u32..).zip(&texts) {
            assert_eq!(index.get(&texts, text), Some(place));
        }
        assert_eq!(index.get(&texts, "5000→"), None);
        assert_eq!(index.get(&texts, ""), None);
        assert_eq!(Texts::from_parts("a→".to_owned(), vec![1, 1, 4]), Some(Texts::from_iter(["a", "", "→"])));
        for wrong in [vec![1], vec![2, 4], vec![4, 1], vec![1, 5], vec![]] {
            assert_eq!(Texts::from_parts("a→".to_owned(), wrong), None);
        }
        let twice = Texts::from_iter(["a", "b", "a"]);
        assert_eq!(TextIndex::new(&twice).err(), Some(SameText { first: 0, second: 2 }));
    }
}
