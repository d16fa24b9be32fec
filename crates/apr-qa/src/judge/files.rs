//! Are two sets of files the same bytes?

use crate::harness::{HarnessError, digest_file, io};
use apr_report::{Measurement, Outcome, Side, Unit};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The files of one model by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    files: BTreeMap<String, PathBuf>,
}

impl FileSet {
    /// These files of a directory.
    pub fn named<'a>(dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Self {
        FileSet { files: names.into_iter().map(|name| (name.to_owned(), dir.join(name))).collect() }
    }

    /// A file, or every file of a directory.
    pub fn at(path: &Path) -> Result<Self, HarnessError> {
        if !path.is_dir() {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            return Ok(FileSet { files: BTreeMap::from([(name, path.to_owned())]) });
        }
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(path).map_err(io("list", path))? {
            let entry = entry.map_err(io("list", path))?;
            files.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
        }
        Ok(FileSet { files })
    }

    /// Their paths, by name.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.values().map(PathBuf::as_path)
    }

    /// Total length, and the SHA-256 of the only file, or of a list of names and digests.
    fn digest(&self, with_names: bool) -> Result<(u64, String), HarnessError> {
        let (mut bytes, mut list) = (0, String::new());
        for (name, path) in &self.files {
            let artefact = digest_file(path, Path::new(""))?;
            bytes += artefact.bytes;
            if !with_names {
                return Ok((bytes, format!("sha256 {}", artefact.sha256)));
            }
            list.push_str(&format!("{} {name}\n", artefact.sha256));
        }
        Ok((bytes, format!("sha256 of {} files {}", self.files.len(), crate::harness::hex(&Sha256::digest(&list)))))
    }
}

/// Judges that two sets hold the same files. Two single files may have different names; files of a directory are
/// matched by name, and a file that one side lacks differs in all its bytes.
pub fn same_files(what_a: &str, a: &FileSet, what_b: &str, b: &FileSet) -> Result<Outcome, HarnessError> {
    let with_names = a.files.len() != 1 || b.files.len() != 1;
    let (bytes_a, digest_a) = a.digest(with_names)?;
    let (bytes_b, digest_b) = b.digest(with_names)?;
    let mut different = 0;
    let mut first = String::new();
    let mut note = |text: String| {
        if first.is_empty() {
            first = text;
        }
    };
    if with_names {
        for (name, path) in &a.files {
            match b.files.get(name) {
                Some(other) => {
                    let (n, at) = differing_bytes(path, other)?;
                    different += n;
                    if let Some(at) = at {
                        note(format!("{name} differs from byte {at} on"));
                    }
                }
                None => {
                    different += length(path)?;
                    note(format!("{what_b} lacks {name}"));
                }
            }
        }
        for (name, path) in b.files.iter().filter(|(name, _)| !a.files.contains_key(*name)) {
            different += length(path)?;
            note(format!("{what_a} lacks {name}"));
        }
    } else if let (Some(path), Some(other)) = (a.paths().next(), b.paths().next()) {
        let (n, at) = differing_bytes(path, other)?;
        different = n;
        if let Some(at) = at {
            note(format!("they differ from byte {at} on"));
        }
    }
    let compared = bytes_a.max(bytes_b);
    let measurement = Measurement::new(
        Unit::Bytes,
        Side::new(what_a, bytes_a, digest_a),
        Side::new(what_b, bytes_b, digest_b),
        compared,
        different.min(compared),
    );
    Ok(Outcome::judge(measurement).because(&first))
}

fn length(path: &Path) -> Result<u64, HarnessError> {
    Ok(std::fs::metadata(path).map_err(io("read", path))?.len())
}

/// How many bytes differ, the surplus of the longer file included, and where the first one is.
fn differing_bytes(a: &Path, b: &Path) -> Result<(u64, Option<u64>), HarnessError> {
    let open = |path: &Path| std::fs::File::open(path).map(BufReader::new).map_err(io("open", path));
    let (mut file_a, mut file_b) = (open(a)?, open(b)?);
    let (mut different, mut first, mut at) = (0u64, None, 0u64);
    let (mut buffer_a, mut buffer_b) = (vec![0u8; 1 << 16], vec![0u8; 1 << 16]);
    loop {
        let n_a = fill(&mut file_a, &mut buffer_a).map_err(io("read", a))?;
        let n_b = fill(&mut file_b, &mut buffer_b).map_err(io("read", b))?;
        let common = n_a.min(n_b);
        for (i, (x, y)) in buffer_a[..common].iter().zip(&buffer_b[..common]).enumerate() {
            if x != y {
                different += 1;
                first.get_or_insert(at + i as u64);
            }
        }
        if n_a != n_b {
            first.get_or_insert(at + common as u64);
            return Ok((different + length(a)?.abs_diff(length(b)?), first));
        }
        if n_a == 0 {
            return Ok((different, first));
        }
        at += n_a as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..])? {
            0 => break,
            read => n += read,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::OutcomeKind;

    fn set(dir: &Path, files: &[(&str, &[u8])]) -> FileSet {
        std::fs::create_dir_all(dir).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        FileSet::at(dir).unwrap()
    }

    #[test]
    fn files_are_compared_byte_by_byte() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name);
        let big: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut flipped = big.clone();
        flipped[150_000] ^= 1;
        let base = set(&dir("a"), &[("config.json", b"{}"), ("model", &big)]);
        for (name, files, kind, reason) in [
            ("same", vec![("config.json", &b"{}"[..]), ("model", &big)], OutcomeKind::Corroborated, "agree"),
            (
                "bit",
                vec![("config.json", &b"{}"[..]), ("model", &flipped)],
                OutcomeKind::Falsified,
                "model differs from byte 150000 on",
            ),
            (
                "short",
                vec![("config.json", &b"{}"[..]), ("model", &big[..9])],
                OutcomeKind::Falsified,
                "from byte 9 on",
            ),
            ("missing", vec![("model", &big[..])], OutcomeKind::Falsified, "lacks config.json"),
            (
                "extra",
                vec![("config.json", &b"{}"[..]), ("model", &big), ("x", b"x")],
                OutcomeKind::Falsified,
                "lacks x",
            ),
            ("renamed", vec![("config.jso", &b"{}"[..]), ("model", &big)], OutcomeKind::Falsified, "lacks config.json"),
        ] {
            let outcome = same_files("a", &base, "b", &set(&dir(name), &files)).unwrap();
            assert_eq!(outcome.kind(), kind, "{name}");
            assert!(outcome.reason().contains(reason), "{name}: {}", outcome.reason());
        }
    }

    #[test]
    fn one_file_may_have_another_name_and_empty_files_measure_nothing() {
        let root = tempfile::tempdir().unwrap();
        let one = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            FileSet::at(&path).unwrap()
        };
        let judge = |a: &FileSet, b: &FileSet| same_files("a", a, "b", b).unwrap().kind();
        assert_eq!(judge(&one("x.gguf", b"abc"), &one("y.gguf", b"abc")), OutcomeKind::Corroborated);
        assert_eq!(judge(&one("x.gguf", b"abc"), &one("y.gguf", b"abd")), OutcomeKind::Falsified);
        assert_eq!(judge(&one("x.gguf", b""), &one("y.gguf", b"")), OutcomeKind::NotMeasured);
        assert_eq!(judge(&FileSet::default(), &FileSet::default()), OutcomeKind::NotMeasured);
    }
}
