//! A profile as a flame graph: an SVG image of nested bars, as wide as their time, that needs no script to be read.

use apr_report::{OperationTime, PhaseProfile, ProfileReport};
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
const MARGIN: f64 = 10.0;
/// Space for the title.
const TITLE: f64 = 40.0;
/// A letter of the font is about this wide; a bar with no room for two of them has no label.
const LETTER: f64 = 7.0;

/// A bar and the bars that stand on it.
struct Frame {
    name: String,
    ms: f64,
    children: Vec<Frame>,
}

impl Frame {
    fn new(name: impl Into<String>, ms: f64) -> Self {
        Self { name: name.into(), ms, children: Vec::new() }
    }

    fn of(name: impl Into<String>, children: Vec<Frame>) -> Self {
        Self { name: name.into(), ms: children.iter().map(|child| child.ms).sum(), children }
    }

    fn depth(&self) -> usize {
        1 + self.children.iter().map(Frame::depth).max().unwrap_or(0)
    }
}

/// Prefill and decode, in them the layers and what lies outside, in each layer its operations; ms of one pass.
pub(super) fn svg(report: &ProfileReport) -> String {
    let root = Frame::of(
        format!("{} ({})", report.model.path, report.model.main_dtype),
        vec![phase("prefill", &report.prefill), phase("decode", &report.decode)],
    );
    let height = TITLE + root.depth() as f64 * ROW + MARGIN;
    let mut out = String::new();
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf5\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\">{} prompt tokens, then {} decoded ones: mean ms of a pass, {} threads, {}</text>",
        report.prefill.n_tokens,
        report.decode.n_tokens,
        report.rooflines.threads,
        escaped(&report.provenance.isa)
    )
    .expect("writing to a string");
    let scale = if root.ms > 0.0 { (WIDTH - 2.0 * MARGIN) / root.ms } else { 0.0 };
    draw(&mut out, &root, MARGIN, height - MARGIN - ROW, scale, root.ms);
    out.push_str("</svg>\n");
    out
}

fn phase(name: &str, phase: &PhaseProfile) -> Frame {
    let mut children: Vec<Frame> = Vec::new();
    let mut layer_of_last = None;
    for OperationTime { operation, layer, mean_ms, .. } in &phase.stages {
        let frame = Frame::new(operation, *mean_ms);
        match (layer, children.last_mut()) {
            (Some(layer), Some(last)) if layer_of_last == Some(*layer) => {
                last.ms += frame.ms;
                last.children.push(frame);
            }
            (Some(layer), _) => children.push(Frame::of(format!("layer {layer}"), vec![frame])),
            (None, _) => children.push(frame),
        }
        layer_of_last = *layer;
    }
    children.push(Frame::new("no stage", phase.unattributed_ms));
    Frame::of(name, children)
}

/// Draws a bar with its bottom row at `y`, then its children above it.
fn draw(out: &mut String, frame: &Frame, x: f64, y: f64, scale: f64, whole_ms: f64) {
    let width = frame.ms * scale;
    let percent = if whole_ms > 0.0 { 100.0 * frame.ms / whole_ms } else { 0.0 };
    let name = escaped(&frame.name);
    writeln!(
        out,
        "<g><title>{name}: {:.3} ms, {percent:.1} %</title>\
         <rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{:.2}\" fill=\"{}\" stroke=\"#fffdf5\" \
         stroke-width=\"0.5\"/>{}</g>",
        frame.ms,
        ROW - 1.0,
        colour(&frame.name),
        label(&frame.name, x, y, width)
    )
    .expect("writing to a string");
    let mut x = x;
    for child in &frame.children {
        draw(out, child, x, y - ROW, scale, whole_ms);
        x += child.ms * scale;
    }
}

fn label(name: &str, x: f64, y: f64, width: f64) -> String {
    let room = (width / LETTER) as usize;
    if room < 3 {
        return String::new();
    }
    let text: String = name.chars().take(room - 1).collect();
    format!("<text x=\"{:.2}\" y=\"{:.2}\">{}</text>", x + 2.0, y + ROW - 5.0, escaped(&text))
}

/// A warm colour, the same for the same operation.
fn colour(name: &str) -> String {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("hsl({},75%,{}%)", 10 + sum % 40, 62 + sum / 64 % 12)
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}
