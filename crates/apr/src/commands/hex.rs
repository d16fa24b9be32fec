//! `apr hex`: what each byte of a file is.

use crate::args::Hex;
use crate::error::CommandError;
use crate::{model, output};
use apr_formats::{Limits, Region, Source, anatomy, summarize};
use apr_report::{ExitCode, HexBlock, HexField, HexGroup, HexRegion, HexReport, HexTensor, Report, TensorEntry};
use apr_tensor::codec::{self, Number};
use apr_tensor::{ByteOrder, DType, swap_blocks};
use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Bytes in a line.
const LINE_BYTES: usize = 16;

pub(super) fn run(args: &Hex, json: bool) -> Result<ExitCode, CommandError> {
    let report = match (args.raw, &args.tensor) {
        (true, _) => raw(args)?,
        (false, Some(name)) => tensor(args, name)?,
        (false, None) => file(args)?,
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

/// Bytes as they are, read without asking what they mean.
fn raw(args: &Hex) -> Result<HexReport, CommandError> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            CommandError::new(ExitCode::NotFound, format!("{}: no such file", args.model.display()))
        }
        _ => CommandError::new(ExitCode::Io, format!("{}: {e}", args.model.display())),
    };
    let mut file = File::open(&args.model).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    check_offset(args, file_bytes)?;
    let n_lines = (file_bytes - args.offset).div_ceil(LINE_BYTES as u64);
    let n_shown = if args.limit == 0 { n_lines } else { n_lines.min(args.limit as u64) };
    file.seek(SeekFrom::Start(args.offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(n_shown * LINE_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    let line = |(i, bytes): (usize, &[u8])| HexRegion {
        offset: args.offset + (i * LINE_BYTES) as u64,
        bytes: bytes.len() as u64,
        section: "raw".to_owned(),
        what: bytes.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '.' }).collect(),
        value: String::new(),
        hex: hex(bytes),
    };
    Ok(HexReport {
        schema: HexReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        format: None,
        file: args.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        file_bytes,
        n_regions: n_lines,
        regions: bytes.chunks(LINE_BYTES).enumerate().map(line).collect(),
        tensor: None,
    })
}

fn check_offset(args: &Hex, file_bytes: u64) -> Result<(), CommandError> {
    if args.offset < file_bytes.max(1) {
        return Ok(());
    }
    let message = format!("offset {} is behind the end: the file has {file_bytes} bytes", args.offset);
    Err(CommandError::new(ExitCode::Usage, message).about(&args.model))
}

/// The regions of a file.
fn file(args: &Hex) -> Result<HexReport, CommandError> {
    let source = model::locate(&args.model)?;
    let names = || source.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
    let index = match &args.file {
        // The index of a model in shards comes first, and is no file with tensors.
        None => source.files.iter().position(|file| !file.name.ends_with(".json")).unwrap_or_default(),
        Some(name) => source.files.iter().position(|file| file.name == *name).ok_or_else(|| {
            CommandError::new(ExitCode::Usage, format!("the model has no file {name:?}")).hint(names())
        })?,
    };
    check_offset(args, source.files[index].bytes.len() as u64)?;
    let taken_apart = anatomy(&source, &source.files[index], &Limits::default())?;
    let regions = taken_apart.regions.iter().filter(|region| region.range.end as u64 > args.offset);
    Ok(report(args, &source, index, regions.collect()))
}

fn report(args: &Hex, source: &Source, index: usize, regions: Vec<&Region>) -> HexReport {
    let file = &source.files[index];
    let limit = if args.limit == 0 { regions.len() } else { args.limit };
    let shown = |region: &&Region| HexRegion {
        offset: region.range.start as u64,
        bytes: region.range.len() as u64,
        section: region.section.name().to_owned(),
        what: region.what.clone(),
        value: region.value.clone(),
        hex: hex(&file.bytes[region.range.start..region.range.end.min(region.range.start + LINE_BYTES)]),
    };
    HexReport {
        schema: HexReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        format: Some(source.format.name().to_owned()),
        file: file.name.clone(),
        file_bytes: file.bytes.len() as u64,
        n_regions: regions.len() as u64,
        regions: regions.iter().take(limit).map(shown).collect(),
        tensor: None,
    }
}

/// What describes a tensor, and its first blocks.
fn tensor(args: &Hex, name: &str) -> Result<HexReport, CommandError> {
    let source = model::locate(&args.model)?;
    let summary = summarize(&source, &Limits::default())?;
    let found = model::tensor_entries(&summary, None).into_iter().find(|e| e.name == name || e.stored_name == name);
    let entry = found.ok_or_else(|| {
        CommandError::new(ExitCode::Usage, format!("the model has no tensor {name:?}")).hint("`apr tensors` lists them")
    })?;
    let index =
        source.files.iter().position(|file| file.name == entry.file).expect("tensors lie in files of the model");
    let taken_apart = anatomy(&source, &source.files[index], &Limits::default())?;
    let of_tensor = |region: &&Region| region.tensor.as_deref() == Some(&entry.stored_name);
    let mut report = report(args, &source, index, taken_apart.regions.iter().filter(of_tensor).collect());

    let dtype = DType::from_name(&entry.dtype).expect("a summary names dtypes of the table");
    let n_block_bytes = dtype.info().block_bytes as u64;
    let n_blocks = entry.bytes / n_block_bytes;
    let swapped = taken_apart.byte_order == ByteOrder::Big;
    if swapped && !dtype.has_big_endian_blocks() {
        let message = format!("tensor {name}: big-endian {dtype} blocks are not well defined");
        return Err(CommandError::new(ExitCode::LoadFailed, message).about(&args.model));
    }
    let file = &source.files[index].bytes;
    let blocks = (0..args.blocks.min(n_blocks)).map(|i| {
        let start = (entry.offset + i * n_block_bytes) as usize;
        let stored = &file[start..start + n_block_bytes as usize];
        let mut numbers = stored.to_vec();
        if swapped {
            swap_blocks(dtype, &mut numbers);
        }
        let mut block = block(i, start as u64, stored, &codec::parts(dtype, &numbers));
        if dtype.decodes() && !dtype.decodes_exactly() {
            // As exact as JSON's numbers are.
            let number = match codec::number(dtype, &numbers) {
                Number::Integer(n) => Some(n as f64),
                Number::Float(x) => x.is_finite().then_some(x),
                Number::Bits(..) => None,
            };
            (block.fields[0].number, block.values[0]) = (number, number);
        }
        block
    });
    report.tensor = Some(HexTensor { n_blocks, blocks: blocks.collect(), entry });
    Ok(report)
}

/// The number, where it is one.
fn finite(number: f32) -> Option<f64> {
    number.is_finite().then_some(f64::from(number))
}

fn block(index: u64, offset: u64, stored: &[u8], parts: &codec::BlockParts) -> HexBlock {
    let field = |field: &codec::BlockField| HexField {
        name: field.name.to_owned(),
        offset: offset + field.range.start as u64,
        hex: hex(&stored[field.range.clone()]),
        number: field.number.and_then(finite),
    };
    let group = |group: &codec::BlockGroup| HexGroup {
        scale: finite(group.scale),
        offset: finite(group.offset),
        quants: group.codes.clone(),
    };
    HexBlock {
        index,
        offset,
        fields: parts.fields.iter().map(field).collect(),
        groups: parts.groups.iter().map(group).collect(),
        values: parts.values.iter().copied().map(finite).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn text(report: &HexReport) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{}", text.trim_end()).expect("writing to a string");
    line(format!("{}, {} bytes", report.file, report.file_bytes));
    for region in &report.regions {
        let more = if region.bytes > LINE_BYTES as u64 { "…" } else { "" };
        let hex = format!("{}{more}", region.hex);
        let meaning = match (region.section.as_str(), region.value.as_str()) {
            ("raw", _) => region.what.clone(),
            (_, "") => region.what.clone(),
            (_, value) => format!("{}: {value}", region.what),
        };
        let (offset, bytes, section) = (region.offset, region.bytes, &region.section);
        line(format!("{offset:08x} {bytes:>10} {section:<9} {hex:<49} {meaning}"));
    }
    let n_more = report.n_regions - report.regions.len() as u64;
    if n_more > 0 {
        line(format!("{n_more} more; --limit 0 shows all, --offset starts further on"));
    }
    if let Some(tensor) = &report.tensor {
        tensor_text(tensor, &mut line);
    }
    out
}

fn tensor_text(tensor: &HexTensor, line: &mut impl FnMut(String)) {
    let TensorEntry { name, dtype, shape, .. } = &tensor.entry;
    line(format!("{name}: {dtype} {shape:?}, {} blocks", tensor.n_blocks));
    let number = |x: Option<f64>| x.map_or("not finite".to_owned(), |x| format!("{x}"));
    for block in &tensor.blocks {
        line(format!("block {} at {:08x}", block.index, block.offset));
        for field in &block.fields {
            let value = field.number.map(|x| format!("  = {x}")).unwrap_or_default();
            line(format!("  {:08x} {:<16} {}{value}", field.offset, field.name, field.hex));
        }
        let mut start = 0;
        for (g, group) in block.groups.iter().enumerate() {
            let values = &block.values[start..start + group.quants.len()];
            start += group.quants.len();
            line(format!("  group {g}: scale {}, offset {}", number(group.scale), number(group.offset)));
            line(format!("    quants {}", group.quants.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")));
            line(format!("    values {}", values.iter().map(|&v| number(v)).collect::<Vec<_>>().join(" ")));
        }
    }
}
