//! `apr capabilities`: what this build can do on this machine, read off the tables.

use super::generation::{cpu_name, detect_error};
use crate::error::CommandError;
use crate::{args, output};
use apr_kernels::{Backend, KernelSet};
use apr_model::{ARCHITECTURES, Format};
use apr_report::{ArchitectureRow, Capabilities, DTypeRow, Device, ExitCode, Report};
use apr_tensor::DTYPES;

pub(super) fn run(json: bool) -> Result<ExitCode, CommandError> {
    let used = KernelSet::detect().map_err(detect_error)?;
    let first = used.isa().to_string();
    let mut isa = vec![first.clone()];
    isa.extend(KernelSet::available().into_iter().map(|set| set.isa().to_string()).filter(|name| *name != first));
    let report = Capabilities {
        schema: Capabilities::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commands: commands(&args::command(), ""),
        formats: Format::ALL.iter().map(|format| format.name().to_owned()).collect(),
        dtypes: DTYPES
            .iter()
            .map(|row| DTypeRow {
                name: row.name.to_owned(),
                id: row.id,
                decode: row.dtype.decodes(),
                encode: row.encodes,
                computes: row.dtype.holds_weights(),
            })
            .collect(),
        architectures: ARCHITECTURES
            .iter()
            .map(|row| ArchitectureRow { id: row.id.to_owned(), transformers_classes: vec![row.hf_class.to_owned()] })
            .collect(),
        numerics: vec!["exact".to_owned()],
        isa,
        threads: Backend::detect().map_err(detect_error)?.n_threads(),
        devices: vec![Device { backend: "cpu".to_owned(), name: cpu_name(), memory_bytes: None }],
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

fn commands(command: &clap::Command, prefix: &str) -> Vec<String> {
    command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .flat_map(|sub| {
            let name = format!("{prefix}{}", sub.get_name());
            if sub.has_subcommands() { commands(sub, &format!("{name} ")) } else { vec![name] }
        })
        .collect()
}

fn text(report: &Capabilities) -> String {
    let list = |names: Vec<String>| names.join(", ");
    let dtypes = |wanted: fn(&&DTypeRow) -> bool| {
        list(report.dtypes.iter().filter(wanted).map(|dtype| dtype.name.clone()).collect())
    };
    format!(
        "apr {}\ncommands       {}\nformats        {}\nruns dtypes    {}\ncarries dtypes {}\nwrites dtypes  {}\narchitectures  {}\n\
         numerics       {}\ninstructions   {} (used: {})\nthreads        {}\ndevices        {}\n",
        report.version,
        list(report.commands.clone()),
        list(report.formats.clone()),
        dtypes(|dtype| dtype.computes),
        dtypes(|dtype| !dtype.computes),
        dtypes(|dtype| dtype.encode),
        list(report.architectures.iter().map(|a| a.id.clone()).collect()),
        list(report.numerics.clone()),
        list(report.isa.clone()),
        report.isa[0],
        report.threads,
        list(report.devices.iter().map(|d| format!("{} ({})", d.backend, d.name)).collect()),
    )
}
