//! What every conversion of every dtype does with a model of every family, tried out and printed as `docs/conversions.md`.

mod subject;

use apr_formats::{Limits, Target, WriteError, WriteOptions, open, write};
use apr_model::{Checkpoint, Fingerprint, Format};
use apr_tensor::{DTYPES, DType};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use subject::Subject;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The formats in the order of the table's pairs.
const FORMATS: [Format; 3] = [Format::SafeTensors, Format::Gguf, Format::Apr];

/// What becomes of a model from one format in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Every value is the same, and the way back gives the same files.
    Lossless,
    /// Refused, and why.
    Refused(String),
    /// No model with this dtype can be in the first format, and why.
    NoSource(String),
}

/// A pair of formats, and what becomes of a model.
type Cell = Vec<((Format, Format), Outcome)>;

/// Tries every family of `directory` in every dtype, and describes the outcome as a document.
pub(crate) fn document(directory: &Path, dtypes: &[DType]) -> Result<String> {
    let mut families: Vec<PathBuf> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    families.retain(|path| path.is_dir());
    families.sort();
    let jobs: Vec<(usize, &PathBuf)> = families.iter().enumerate().collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| -> Result<()> {
        let work = || -> Result<()> {
            while let Some((index, family)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let subject = Subject::new(family)?;
                for &dtype in dtypes {
                    let cell = cell(&subject, dtype).map_err(|e| format!("{} in {dtype}: {e}", family.display()))?;
                    done.lock().map_err(|e| e.to_string())?.insert((*index, dtype.info().id), cell);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..std::thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a conversion panicked")?)
    })?;
    let cells = done.into_inner().map_err(|e| e.to_string())?;
    let names: Vec<_> = families.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    Ok(text(&names, dtypes, &cells))
}

/// Every dtype, in the order of the table of dtypes.
pub(crate) fn dtypes() -> Vec<DType> {
    DTYPES.iter().map(|row| row.dtype).collect()
}

fn cell(subject: &Subject, dtype: DType) -> Result<Cell> {
    let work = tempfile::tempdir()?;
    let mut cell = Vec::new();
    for from in FORMATS {
        let source = work.path().join(format!("source-{}", from.letter()));
        let others = FORMATS.into_iter().filter(|to| *to != from);
        match subject.write(dtype, from, &source)? {
            Err(why) => cell.extend(others.map(|to| ((from, to), Outcome::NoSource(why.clone())))),
            Ok(()) => {
                for to in others {
                    cell.push(((from, to), there_and_back((&source, from), to, work.path())?));
                }
            }
        }
    }
    Ok(cell)
}

/// Converts a model and converts the result back. What is neither lossless nor refused is an error.
fn there_and_back((source, from): (&Path, Format), to: Format, work: &Path) -> Result<Outcome> {
    let pair = format!("{}-{}", from.letter(), to.letter());
    let [there, back] = ["there", "back"].map(|name| work.join(format!("{name}-{pair}")));
    let original = open(source, &Limits::default())?;
    let target = Target { path: there.clone(), format: to };
    let written = match write(&original, &target, &WriteOptions::default(), &mut |_, _| ControlFlow::Continue(())) {
        Err(error) => return refusal(error).map(Outcome::Refused),
        Ok(written) => written,
    };
    if !written.lossy.is_empty() {
        return Err(format!("{pair}: {} tensors changed", written.lossy.len()).into());
    }
    is_lossless((source, from), &there, &back).map_err(|why| format!("{pair}: {why}"))?;
    Ok(Outcome::Lossless)
}

/// Whether the model at `there` has the values of `source`, and gives its files when it is written to `back`.
fn is_lossless((source, from): (&Path, Format), there: &Path, back: &Path) -> Result<()> {
    let [original, converted] = [source, there].map(|path| open(path, &Limits::default()));
    let converted = converted?;
    if fingerprint(&converted) != fingerprint(&original?) {
        return Err("values changed".into());
    }
    let target = Target { path: back.to_owned(), format: from };
    let written = write(&converted, &target, &WriteOptions::default(), &mut |_, _| ControlFlow::Continue(()))?;
    written.restored.map_err(|why| format!("the way back gives other files: {why}"))?;
    if content(back)? != content(source)? {
        return Err("the way back gives other bytes".into());
    }
    Ok(())
}

fn fingerprint(checkpoint: &Checkpoint) -> Option<[u8; 32]> {
    Fingerprint::of(checkpoint, NonZeroUsize::MIN, |_| ControlFlow::Continue(())).map(|found| found.digest)
}

/// Why a model can't be written, without what is particular to the tensor that was met first.
fn refusal(error: WriteError) -> Result<String> {
    match error {
        WriteError::Tensor { detail, .. } | WriteError::Cannot { detail, .. } => {
            let mut why = detail;
            while let Some((start, end)) =
                why.find(" [").and_then(|start| Some((start, start + why[start..].find(']')?)))
            {
                why.replace_range(start..=end, "");
            }
            Ok(why)
        }
        other => Err(other.to_string().into()),
    }
}

/// Names and bytes of a file or of the files in a directory.
fn content(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    if path.is_file() {
        return Ok(vec![(String::new(), fs::read(path)?)]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

/// The document.
fn text(names: &[std::borrow::Cow<'_, str>], dtypes: &[DType], cells: &BTreeMap<(usize, u32), Cell>) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut rows = String::new();
    let mut n_lossless = 0;
    for dtype in dtypes {
        let mut row = format!("| {dtype} |");
        for index in 0..names.len() {
            let cell = &cells[&(index, dtype.info().id)];
            n_lossless += cell.iter().filter(|(_, outcome)| *outcome == Outcome::Lossless).count();
            let shown = note(cell, *dtype).map(|note| {
                let known = notes.iter().position(|other| *other == note);
                known.unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                }) + 1
            });
            let _ = write!(row, " {} |", shown.map_or("=".to_owned(), |n| n.to_string()));
        }
        rows.push_str(&row);
        rows.push('\n');
    }
    let mut out = HEAD.replace("{lossless}", &n_lossless.to_string());
    let _ = writeln!(out, "| |{}", names.iter().map(|name| format!(" {name} |")).collect::<String>());
    let _ = writeln!(out, "|---|{}", "---|".repeat(names.len()));
    out.push_str(&rows);
    out.push('\n');
    for (index, note) in notes.iter().enumerate() {
        let _ = writeln!(out, "{}. {note}", index + 1);
    }
    out
}

/// What is to be said of a cell; nothing where all pairs are lossless.
fn note(cell: &Cell, dtype: DType) -> Option<String> {
    let mut by_outcome: BTreeMap<&Outcome, Vec<String>> = BTreeMap::new();
    for ((from, to), outcome) in cell {
        by_outcome.entry(outcome).or_default().push(format!("{}→{}", from.letter(), to.letter()));
    }
    if by_outcome.len() == 1 && by_outcome.contains_key(&Outcome::Lossless) {
        return None;
    }
    let of = |(outcome, pairs): (&Outcome, Vec<String>)| {
        let why = |why: &str| why.replace(dtype.name(), "DTYPE");
        let pairs = pairs.join(", ");
        match outcome {
            Outcome::Lossless => format!("{pairs} lossless"),
            Outcome::Refused(reason) => format!("{pairs} refused: {}", why(reason)),
            Outcome::NoSource(reason) => format!("{pairs} can't be asked for: {}", why(reason)),
        }
    };
    Some(by_outcome.into_iter().map(of).collect::<Vec<_>>().join(". ") + ".")
}

const HEAD: &str = "\
# Conversions: every pair of formats, dtype and family

Written by `cargo xtask conversions`, which converts models and looks at what comes out; nothing here is typed. Each family of
`fixtures/families` is made as wide as the blocks need, and its matrices are stored in one dtype, with random values; norms,
biases and routers are BF16, as is a matrix whose rows do not fill the blocks. Such a model is written in each format, that file
is converted to each other format, and the result back again.

`=`: in all six directions (S: SafeTensors, G: GGUF, A: APR) every value is the same, nothing is reported as lossy, and the way
back gives the same files, byte for byte. A number: see below. {lossless} conversions are lossless; no cell loses a value.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    /// What the document says of a cell: nothing where all is lossless.
    fn documented(document: &str, family: &str, dtype: DType) -> Option<String> {
        let line = |start: &str| document.lines().find(|line| line.starts_with(start)).unwrap();
        let column = line("| | ").split('|').position(|name| name.trim() == family).unwrap();
        let shown = line(&format!("| {dtype} |")).split('|').nth(column).unwrap().trim();
        let number = format!("{shown}. ");
        (shown != "=").then(|| line(&number).strip_prefix(&number).unwrap().to_owned())
    }

    #[test]
    fn the_document_says_what_the_command_finds() {
        let document = fs::read_to_string(repository("docs/conversions.md")).unwrap();
        for row in DTYPES {
            assert!(document.contains(&format!("\n| {} |", row.name)), "{} is not in the document", row.name);
        }
        for family in ["gemma", "gpt2", "llama", "qwen2-window", "qwen3-moe"] {
            let subject = Subject::new(&repository("fixtures/families").join(family)).unwrap();
            for dtype in [DType::BF16, DType::Q4_0, DType::Q6K, DType::F8E4M3] {
                let found = note(&cell(&subject, dtype).unwrap(), dtype);
                assert_eq!(found, documented(&document, family, dtype), "{family} in {dtype}");
            }
        }
    }

    #[test]
    fn what_is_not_lossless_is_no_outcome() {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let source = repository("models/nano-qwen2/gguf/nano-qwen2-Q4_0.gguf");
        let original = open(&source, &Limits::default()).unwrap();
        let convert = |name: &str, options: &WriteOptions| {
            let target = Target { path: at(name), format: Format::Apr };
            write(&original, &target, options, &mut |_, _| ControlFlow::Continue(())).unwrap();
        };
        let judge = |name: &str| {
            let judged = is_lossless((&source, Format::Gguf), &at(name), &at(&format!("{name}-back")));
            judged.map_err(|why| why.to_string())
        };
        convert("sound", &WriteOptions::default());
        assert_eq!(judge("sound"), Ok(()));
        // A bit of a weight.
        let mut bytes = fs::read(at("sound")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(at("flipped"), bytes).unwrap();
        assert_eq!(judge("flipped"), Err("values changed".to_owned()));
        // Without its recipe the same values come back as another file.
        convert("bare", &WriteOptions { capsule: false, ..WriteOptions::default() });
        assert!(judge("bare").unwrap_err().starts_with("the way back gives other files"));
    }
}
