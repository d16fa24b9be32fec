//! Pre-flight: the model is obtained, brought into every format, and looked at (the G0 gates).

use super::{Form, Run, text};
use crate::harness::{Halt, HarnessError, Judged, Stage, digest_file, io};
use crate::judge;
use crate::source::ModelSource;
use apr_model::Format;
use apr_report::{Artefact, ExitCode, Measurement, Outcome, Side, Unit, ValidateReport};
use std::path::{Path, PathBuf};

impl Run<'_> {
    pub(crate) fn preflight(&mut self) -> Result<(), HarnessError> {
        self.pull()?;
        for format in self.formats() {
            self.bring_into(format)?;
        }
        if self.request.parts.preflight {
            for format in self.formats() {
                self.look_at(format)?;
            }
        }
        Ok(())
    }

    /// G0-PULL-001: the source is what was obtained, and `apr inspect` opens exactly these bytes.
    fn pull(&mut self) -> Result<(), HarnessError> {
        let mut opened = None;
        let name = self.request.source.name();
        self.scenario("G0-PULL-001", name, |run| {
            let (path, expected) = run.obtain()?;
            let form = run.inspect(&path)?;
            let found = form.files.paths().map(Path::to_path_buf).collect::<Vec<PathBuf>>();
            let found = found.iter().map(|path| run.harness.artefact(path)).collect::<Result<Vec<_>, _>>()?;
            let stated: u64 = form.inspect.files.iter().map(|file| file.bytes).sum();
            opened = Some((form, found.clone()));
            // A path has no second source: its files are held against the lengths that `apr inspect` states.
            Ok(pulled(expected.as_deref(), &found, stated))
        })?;
        let why = match opened {
            Some((form, files)) => {
                self.set_source_files(files);
                self.source_format = Some(form.format);
                self.forms.insert(form.format, Ok(form));
                return Ok(());
            }
            None => self.harness.evidence.last().map_or_else(String::new, |evidence| evidence.outcome.reason()),
        };
        for format in self.formats() {
            self.forms.insert(format, Err(format!("the source could not be opened: {why}")));
        }
        Ok(())
    }

    /// The path of the source, and what its files must contain where that is known.
    fn obtain(&mut self) -> Result<(PathBuf, Option<Vec<Artefact>>), HarnessError> {
        match self.request.source {
            ModelSource::Path(path) => Ok((path.clone(), None)),
            ModelSource::Builtin(model) => {
                let dir = self.harness.directory("source")?;
                let mut expected = Vec::new();
                for (name, bytes) in model.files {
                    let path = dir.join(name);
                    std::fs::write(&path, bytes).map_err(io("write", &path))?;
                    expected.push(digest_file(&path, &self.harness.work)?);
                }
                let path = match model.files {
                    [(name, _)] => dir.join(name),
                    _ => dir,
                };
                self.harness.written(Stage::Source, &path)?;
                Ok((path, Some(expected)))
            }
        }
    }

    /// G0-FORMAT-001: the model exists in this format.
    fn bring_into(&mut self, format: Format) -> Result<(), HarnessError> {
        let mut form = None;
        self.scenario("G0-FORMAT-001", format.name(), |run| {
            let opened = match run.forms.get(&format) {
                Some(Ok(source)) => source.clone(),
                Some(Err(why)) => return Ok(Outcome::not_measured(why.clone())),
                None => run.write_form(format)?,
            };
            run.harness.rests_on(opened.command);
            let main_file = opened.main_file.clone();
            run.harness.artefact(&main_file)?;
            let outcome = judge::format_is(format, &main_file, &opened.inspect)?;
            form = Some(opened);
            Ok(outcome)
        })?;
        let why = || self.harness.evidence.last().map_or_else(String::new, |evidence| evidence.outcome.reason());
        let entry = form.ok_or_else(why);
        self.forms.insert(format, entry);
        Ok(())
    }

    fn write_form(&mut self, format: Format) -> Result<Form, Halt> {
        let Some(source_format) = self.source_format else {
            return Err(Outcome::not_measured("the source could not be opened").into());
        };
        let source = self.form(source_format)?;
        let path = self.convert(Stage::Workspace, &source.path, format, &format!("forms/{}", format.name()))?;
        self.inspect(&path)
    }

    /// The other G0 gates.
    fn look_at(&mut self, format: Format) -> Result<(), HarnessError> {
        let name = format.name();
        self.scenario("G0-VALIDATE-001", name, |run| {
            let form = run.form(format)?;
            run.harness.rests_on(form.command);
            let call = run.harness.apr(&["validate", &text(&form.path), "--json"])?;
            let report: ValidateReport = call.report(&[ExitCode::Mismatch])?;
            Ok(judge::validated(&form.inspect, &report))
        })?;
        let model = &self.request.playbook.model;
        self.structural("G0-INTEGRITY-001", format, |form| {
            judge::integrity(&form.inspect, model.family.as_deref(), model.expected())
        })?;
        self.structural("G0-TENSOR-001", format, |form| judge::tensors_present(&form.inspect))?;
        self.structural("G0-LAYOUT-001", format, |form| judge::layout(&form.inspect))
    }

    fn structural(
        &mut self,
        gate: &str,
        format: Format,
        judge: impl FnOnce(&Form) -> Outcome,
    ) -> Result<(), HarnessError> {
        self.scenario(gate, format.name(), |run| -> Judged {
            let form = run.form(format)?;
            run.harness.rests_on(form.command);
            Ok(judge(&form))
        })?;
        Ok(())
    }
}

/// Judges the files of the source: against what was obtained, or against the lengths that were stated.
fn pulled(expected: Option<&[Artefact]>, found: &[Artefact], stated_bytes: u64) -> Outcome {
    let length = |files: &[Artefact]| files.iter().map(|file| file.bytes).sum::<u64>();
    let list = |files: &[Artefact]| {
        let mut digests: Vec<&str> = files.iter().map(|file| file.blake3.as_str()).collect();
        digests.sort_unstable();
        digests.join(" ")
    };
    let (bytes, digests) = (length(found), list(found));
    let (expected_bytes, expected_digests) = match expected {
        Some(files) => (length(files), list(files)),
        None => (stated_bytes, digests.clone()),
    };
    let all = expected_bytes.max(bytes);
    let same = expected_digests == digests && expected_bytes == bytes && stated_bytes == bytes;
    Outcome::judge(Measurement::new(
        Unit::Bytes,
        Side::new("model as obtained", expected_bytes, format!("blake3 {expected_digests}")),
        Side::new("model as opened", bytes, format!("blake3 {digests}")),
        all,
        if same { 0 } else { all },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::OutcomeKind;

    #[test]
    fn a_source_that_changed_is_falsified() {
        let file = |bytes, blake3: &str| Artefact {
            path: "model.gguf".to_owned(),
            bytes,
            blake3: blake3.to_owned(),
            sha256: String::new(),
        };
        let kind = |expected: Option<&Artefact>, found: &[Artefact], stated| {
            pulled(expected.map(std::slice::from_ref), found, stated).kind()
        };
        let good = file(10, "d");
        assert_eq!(kind(Some(&good), std::slice::from_ref(&good), 10), OutcomeKind::Corroborated);
        assert_eq!(kind(None, std::slice::from_ref(&good), 10), OutcomeKind::Corroborated);
        assert_eq!(kind(Some(&good), &[file(10, "e")], 10), OutcomeKind::Falsified);
        assert_eq!(kind(Some(&good), &[file(9, "d")], 9), OutcomeKind::Falsified);
        assert_eq!(kind(None, std::slice::from_ref(&good), 11), OutcomeKind::Falsified);
        assert_eq!(kind(None, &[], 0), OutcomeKind::NotMeasured);
    }
}
