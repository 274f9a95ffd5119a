//! SVG as text: the few elements that a plot is made of.
//!
//! Written here and not through a drawing crate, because those place things on whole pixels and measure text with the
//! fonts of the machine; these bytes depend on the figure alone. Numbers have two decimals, which is finer than any screen.

use std::fmt::Write;

/// An SVG document under construction, in pixels from the upper left corner.
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text stands with respect to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A coordinate: two decimals, without zeros at the end.
pub(super) fn px(value: f64) -> String {
    let mut text = format!("{:.2}", if value.is_finite() { value } else { 0.0 });
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    if text == "-0" { "0".into() } else { text }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Width of a text in the widest of the usual sans-serif fonts.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' => 0.40,
        'm' | 'w' | 'M' | 'W' | '×' | '⊕' | '%' => 0.96,
        '⁰'..='⁹' | '⁻' | '¹' | '²' | '³' => 0.42,
        c if c.is_uppercase() => 0.72,
        _ => 0.635,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// The largest font size up to `size` at which the text is at most `available` wide.
pub(super) fn fitting(text: &str, size: f64, available: f64) -> f64 {
    (size * available / text_width(text, size).max(1.0)).min(size)
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.body.push_str(text);
        self.body.push('\n');
    }

    /// A straight line with further attributes.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        let _ = writeln!(self.body, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {style}/>"#);
    }

    /// A path with further attributes.
    pub(super) fn path(&mut self, data: &str, style: &str) {
        let _ = writeln!(self.body, r#"<path d="{data}" {style}/>"#);
    }

    /// A rectangle with further attributes.
    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), style: &str) {
        let (x, y, w, h) = (px(at.0), px(at.1), px(size.0), px(size.1));
        let _ = writeln!(self.body, r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" {style}/>"#);
    }

    /// A text whose middle line is at `at`.
    pub(super) fn text(&mut self, at: (f64, f64), text: &str, size: f64, anchor: Anchor, style: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, size, text) = (px(at.0), px(at.1 + 0.35 * size), px(size), escape(text));
        let _ = writeln!(self.body, r#"<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" {style}>{text}</text>"#);
    }

    /// A text turned to be read from the left, its middle at `at`.
    pub(super) fn upright(&mut self, at: (f64, f64), text: &str, size: f64) {
        let (x, y, size, text) = (px(at.0), px(at.1), px(size), escape(text));
        let turn = format!(r#"transform="rotate(-90 {x} {y})""#);
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" dy="0.35em" font-size="{size}" text-anchor="middle" {turn}>{text}</text>"#
        );
    }

    /// The document; `label` is what a screen reader says.
    pub(super) fn finish(self, label: &str) -> String {
        let (w, h, label) = (px(self.width), px(self.height), escape(label));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{label}\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" fill=\"#222\">\n\
             <rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }
}
