//! `apr tree`: the tensors of a model by the parts of their names.

use crate::args::Tree;
use crate::error::CommandError;
use crate::{model, output};
use apr_formats::{Limits, summarize};
use apr_report::{ExitCode, Report, TensorEntry, TreeNode, TreeReport};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn run(args: &Tree, json: bool) -> Result<ExitCode, CommandError> {
    let source = model::locate(&args.model)?;
    let summary = summarize(&source, &Limits::default())?;
    let mut root = node("");
    for entry in model::filtered_tensors(&summary, args.filter.as_deref())? {
        add(&mut root, entry);
    }
    if let Some(depth) = args.depth {
        cut(&mut root, depth.get());
    }
    let report = TreeReport {
        schema: TreeReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        format: source.format.name().to_owned(),
        filter: args.filter.clone(),
        root,
    };
    output::print(json, &report, text);
    Ok(ExitCode::Ok)
}

fn node(name: &str) -> TreeNode {
    TreeNode {
        name: name.to_owned(),
        n_tensors: 0,
        n_values: 0,
        bytes: 0,
        dtypes: BTreeMap::new(),
        tensor: None,
        children: Vec::new(),
    }
}

/// Counts a tensor in at each part of its name.
fn add(root: &mut TreeNode, entry: TensorEntry) {
    let mut at = root;
    count(at, &entry);
    for part in entry.name.split('.') {
        let known = at.children.iter().position(|child| child.name == part);
        let index = known.unwrap_or_else(|| {
            at.children.push(node(part));
            at.children.len() - 1
        });
        at = &mut at.children[index];
        count(at, &entry);
    }
    at.tensor = Some(entry);
}

fn count(node: &mut TreeNode, entry: &TensorEntry) {
    node.n_tensors += 1;
    node.n_values += entry.n_values();
    node.bytes += entry.bytes;
    let share = node.dtypes.entry(entry.dtype.clone()).or_default();
    share.tensors += 1;
    share.bytes += entry.bytes;
}

fn cut(node: &mut TreeNode, depth: usize) {
    match depth {
        0 => node.children.clear(),
        _ => node.children.iter_mut().for_each(|child| cut(child, depth - 1)),
    }
}

fn text(report: &TreeReport) -> String {
    let mut out = String::new();
    writeln!(out, "{}  {}", report.path, size(&report.root)).expect("writing to a string");
    draw(&report.root, "", &mut out);
    out
}

fn draw(parent: &TreeNode, indent: &str, out: &mut String) {
    for (i, child) in parent.children.iter().enumerate() {
        let last = i + 1 == parent.children.len();
        let (branch, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        writeln!(out, "{indent}{branch}{}  {}", child.name, size(child)).expect("writing to a string");
        draw(child, &format!("{indent}{below}"), out);
    }
}

/// A tensor's dtype and shape, or what the tensors below sum up to.
fn size(node: &TreeNode) -> String {
    let dtypes: Vec<_> = node.dtypes.keys().map(String::as_str).collect();
    let (dtypes, bytes) = (dtypes.join(" "), output::bytes(node.bytes));
    match &node.tensor {
        Some(tensor) if node.n_tensors == 1 => format!("{dtypes} {:?}, {bytes}", tensor.shape),
        _ => {
            let s = if node.n_tensors == 1 { "" } else { "s" };
            format!("{} tensor{s}, {} values, {bytes}, {dtypes}", node.n_tensors, node.n_values)
        }
    }
}
