//! Chains: conversions that must come back to the bytes they began with, and ways that must not matter.

use super::{Run, discard, text};
use crate::harness::{Halt, HarnessError, Judged, Stage};
use crate::judge::{self, FileSet};
use apr_model::Format;
use apr_report::{ExitCode, Outcome, VerifyReport};
use std::path::{Path, PathBuf};

const ST: Format = Format::SafeTensors;
const GGUF: Format = Format::Gguf;
const APR: Format = Format::Apr;

impl Run<'_> {
    pub(crate) fn chains(&mut self) -> Result<(), HarnessError> {
        for a in self.formats() {
            for b in self.formats().into_iter().filter(|&b| b != a) {
                self.comes_back("F-CONV-RT-001", &[a, b, a])?;
            }
        }
        self.comes_back("F-CONV-RT-002", &[ST, APR, GGUF, ST])?;
        self.comes_back("F-CONV-RT-003", &[ST, APR, GGUF, APR, ST])?;
        self.scenario("F-CONV-IDEM-001", "gguf to apr, twice", Self::idempotence)?;
        discard(&self.harness, "idempotence")?;
        self.scenario("F-CONV-COM-001", "gguf to apr, and by way of safetensors", Self::commutativity)?;
        discard(&self.harness, "ways")
    }

    /// The last file of the chain is the first one, by SHA-256.
    fn comes_back(&mut self, gate: &str, chain: &[Format]) -> Result<(), HarnessError> {
        let name = chain.iter().map(|format| format.name()).collect::<Vec<_>>().join(" → ");
        self.scenario(gate, name, |run| -> Judged {
            run.all_present(chain)?;
            let (first, begin) = run.beginning(chain[0])?;
            let mut path = begin;
            for (leg, &to) in chain[1..].iter().enumerate() {
                // Damage is done once, on the way; the last leg is the subject's alone.
                let stage = if leg == 0 { Stage::Conversion } else { Stage::Plain };
                path = run.convert(stage, &path, to, &format!("chain/{}", leg + 1))?;
            }
            let last = run.kept(&path)?;
            Ok(judge::same_files("first", &first, "last", &last)?)
        })?;
        discard(&self.harness, "chain")
    }

    /// Where a chain begins: with the source as it is, or with a form of it that carries no recipe of the source.
    ///
    /// A form with a recipe is no independent model: on the way back to the source it gives the source, which does not
    /// know the form.
    fn beginning(&mut self, format: Format) -> Result<(FileSet, PathBuf), Halt> {
        if self.source_format == Some(format) {
            let form = self.form(format)?;
            return Ok((form.files, form.path));
        }
        let source = self.source_format.ok_or_else(|| Outcome::not_measured("the source could not be opened"))?;
        let source = self.form(source)?;
        let path = self.convert_with(Stage::Plain, &source.path, format, "chain/0", &["--no-capsule"])?;
        Ok((FileSet::at(&path)?, path))
    }

    /// Two equal conversions give equal bytes.
    fn idempotence(&mut self) -> Judged {
        self.all_present(&[GGUF, APR])?;
        let source = self.form(GGUF)?;
        let once = self.convert(Stage::Plain, &source.path, APR, "idempotence/once")?;
        let twice = self.convert(Stage::SecondConversion, &source.path, APR, "idempotence/twice")?;
        let (once, twice) = (self.kept(&once)?, self.kept(&twice)?);
        Ok(judge::same_files("first conversion", &once, "second conversion", &twice)?)
    }

    /// The direct way and the way round hold the same values.
    fn commutativity(&mut self) -> Judged {
        self.all_present(&[GGUF, ST, APR])?;
        let source = self.form(GGUF)?;
        let direct = self.convert(Stage::Plain, &source.path, APR, "ways/direct")?;
        let middle = self.convert(Stage::OtherWay, &source.path, ST, "ways/round")?;
        let round = self.convert(Stage::Plain, &middle, APR, "ways/round")?;
        let (a, b) = (self.inspect(&direct)?, self.inspect(&round)?);
        let call = self.harness.apr(&["rosetta", "verify", &text(&direct), &text(&round), "--json"])?;
        let report: VerifyReport = call.report(&[ExitCode::Mismatch])?;
        // The files may differ in the recipes that they carry, so the bytes are recorded and not judged.
        self.kept(&direct)?;
        self.kept(&round)?;
        Ok(judge::values(&a.inspect, &b.inspect, &report))
    }

    /// A chain through a format that the playbook does not ask for is skipped.
    fn all_present(&self, chain: &[Format]) -> Result<(), Halt> {
        let formats = self.formats();
        match chain.iter().find(|format| !formats.contains(format)) {
            Some(format) => Err(Outcome::Skipped { reason: format!("the playbook does not ask for {format}") }.into()),
            None => Ok(()),
        }
    }

    /// The files at a path, recorded as artefacts.
    fn kept(&mut self, path: &Path) -> Result<FileSet, Halt> {
        let files = FileSet::at(path)?;
        for file in files.paths() {
            self.harness.artefact(file)?;
        }
        Ok(files)
    }
}
