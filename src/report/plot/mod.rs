//! Figures as SVG: the same bytes for the same figure, on any machine.
//!
//! The legend stands above the plot and the colour bar beside it, so that neither hides a point; what a bad point or a fit
//! far outside would do to the range is bounded (see [`curves`]).

mod axis;
mod curves;
mod heat;
mod matrix;
mod steps;
mod svg;

use axis::{Axis, extent, power_of_ten};
use calostream_operators::figure::{Content, Figure};
use svg::{Anchor, Svg, fitting, px, text_width};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 470.0;
const TITLE: f64 = 16.0;
/// How much wider than others bold letters are.
const BOLD: f64 = 1.15;
const LABEL: f64 = 14.0;
const TICK: f64 = 12.5;

/// Petroff's ten colours (arXiv 2107.02270), told apart by the colour-blind and in the order that CMS and others use.
const COLOURS: [&str; 10] =
    ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];

/// The colour of a curve, by its number.
fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A figure as an SVG document. `id` keeps apart what is named in it, where several stand in one page.
#[must_use]
pub fn svg(figure: &Figure, id: &str) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    match &figure.content {
        Content::Curves { curves, log_y } => curves::draw(&mut svg, figure, id, curves, *log_y),
        Content::Steps { edges, series, log_y } => steps::draw(&mut svg, figure, id, edges, series, *log_y),
        Content::Heat { x_edges, y_edges, values, log } => heat::draw(&mut svg, figure, x_edges, y_edges, values, *log),
        Content::Matrix { columns, rows, shares, texts } => matrix::draw(&mut svg, figure, columns, rows, (shares, texts)),
    }
    svg.finish(&figure.title)
}

/// The horizontal axis of bins with these ends: logarithmic where they are as wide in the logarithm, over a decade or more.
fn x_axis(bins: &[(f64, f64)]) -> Axis {
    let (low, high) = extent(bins.iter().flat_map(|(low, high)| [*low, *high])).unwrap_or((0.0, 1.0));
    let ratios = || bins.iter().map(|(low, high)| high / low);
    let (least, most) = extent(ratios().map(f64::ln)).unwrap_or((0.0, 0.0));
    let grows = bins.len() > 2 && low > 0.0 && high >= 10.0 * low && least > 0.0 && most < 1.5 * least;
    if grows { Axis::log(low, high) } else { Axis::linear(low, high) }
}

/// What a legend shows before a label.
enum Key {
    /// A marker of this number.
    Marker(usize),
    /// A line of the colour of this number.
    Line(usize),
}

/// The part of the picture where data are drawn, with its axes.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    /// Draws title, legend, grid and axes; `beside` is kept free at the right.
    fn new(svg: &mut Svg, figure: &Figure, x: Axis, y: Axis, legend: &[(Key, &str)], beside: f64) -> Self {
        let (x_ticks, y_ticks) = (x.ticks(7), y.ticks(6));
        let widest = y_ticks.major.iter().map(|(_, label)| text_width(label, TICK)).fold(0.0, f64::max);
        let (left, right) = (26.0 + LABEL + widest + 8.0, WIDTH - 24.0 - beside);
        svg.text(
            (left, 20.0),
            &figure.title,
            fitting(&figure.title, TITLE, (WIDTH - left - 12.0) / BOLD),
            Anchor::Start,
            r#"font-weight="bold""#,
        );
        let top = 40.0 + legend_above(svg, legend, left, WIDTH - 24.0);
        let frame = Self { left, right, top, bottom: HEIGHT - 30.0 - LABEL - TICK, x, y };
        let grid = r##"stroke="#e3e3e3""##;
        let axis = r##"stroke="#444""##;
        for (value, label) in &x_ticks.major {
            let at = frame.x(*value);
            svg.line((at, frame.top), (at, frame.bottom), grid);
            svg.line((at, frame.bottom), (at, frame.bottom - 8.0), axis);
            svg.text((at, frame.bottom + 14.0), label, TICK, Anchor::Middle, "");
        }
        for (value, label) in &y_ticks.major {
            let at = frame.y(*value);
            svg.line((frame.left, at), (frame.right, at), grid);
            svg.line((frame.left, at), (frame.left + 8.0, at), axis);
            svg.text((frame.left - 7.0, at), label, TICK, Anchor::End, "");
        }
        for value in &x_ticks.minor {
            svg.line((frame.x(*value), frame.bottom), (frame.x(*value), frame.bottom - 4.0), axis);
        }
        for value in &y_ticks.minor {
            svg.line((frame.left, frame.y(*value)), (frame.left + 4.0, frame.y(*value)), axis);
        }
        let (x_label, y_label) = (with_power(&figure.x, x_ticks.exponent), with_power(&figure.y, y_ticks.exponent));
        let width = frame.right - frame.left;
        svg.text((frame.right, HEIGHT - 16.0), &x_label, fitting(&x_label, LABEL, width), Anchor::End, "");
        let size = fitting(&y_label, LABEL, frame.bottom - frame.top);
        svg.upright((18.0, frame.top + text_width(&y_label, size).min(frame.bottom - frame.top) / 2.0), &y_label, size);
        frame
    }

    fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value).clamp(-9.0, 9.0) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value).clamp(-9.0, 9.0) * (self.bottom - self.top)
    }

    /// Begins a group that draws nothing outside of the frame.
    fn clip(&self, svg: &mut Svg, id: &str) {
        let (x, y, w, h) = (px(self.left), px(self.top), px(self.right - self.left), px(self.bottom - self.top));
        svg.raw(&format!(
            r#"<clipPath id="{id}"><rect x="{x}" y="{y}" width="{w}" height="{h}"/></clipPath><g clip-path="url(#{id})">"#
        ));
    }

    /// Ends the group and draws the border over it.
    fn close(&self, svg: &mut Svg) {
        svg.raw("</g>");
        self.border(svg);
    }

    fn border(&self, svg: &mut Svg) {
        let size = (self.right - self.left, self.bottom - self.top);
        svg.rect((self.left, self.top), size, r##"fill="none" stroke="#444" stroke-width="1.2""##);
    }

    fn nothing(&self, svg: &mut Svg) {
        let middle = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        svg.text(middle, "no entries", LABEL, Anchor::Middle, r##"fill="#888""##);
    }
}

/// The label with the power of ten that its numbers leave out.
fn with_power(label: &str, exponent: i32) -> String {
    if exponent == 0 { label.to_owned() } else { format!("{label}  (×{})", power_of_ten(exponent)) }
}

/// Draws the legend in rows above the frame; its height.
fn legend_above(svg: &mut Svg, legend: &[(Key, &str)], left: f64, right: f64) -> f64 {
    let entries: Vec<_> = legend.iter().filter(|(_, label)| !label.is_empty()).collect();
    if entries.is_empty() {
        return 0.0;
    }
    let (row, mut at, mut middle) = (19.0, left, 44.0);
    for (key, label) in entries {
        let width = 30.0 + text_width(label, TICK);
        if at > left && at + width > right {
            (at, middle) = (left, middle + row);
        }
        match key {
            Key::Marker(number) => {
                svg.line((at, middle), (at + 22.0, middle), &format!(r#"stroke="{}" stroke-width="1.6""#, colour(*number)));
                svg.path(&curves::marker(*number, at + 11.0, middle), &format!(r#"fill="{}""#, colour(*number)));
            }
            Key::Line(number) => {
                let style = format!(r#"stroke="{}" stroke-width="2.4"{}"#, colour(*number), dashes(*number));
                svg.line((at, middle), (at + 22.0, middle), &style);
            }
        }
        svg.text((at + 28.0, middle), label, fitting(label, TICK, right - at - 30.0), Anchor::Start, "");
        at += width + 16.0;
    }
    middle - 44.0 + row
}

/// Lines beyond the first colours are dashed, so that no two look alike.
fn dashes(number: usize) -> &'static str {
    if number < COLOURS.len() { "" } else { r#" stroke-dasharray="6 3""# }
}

#[cfg(test)]
pub(crate) mod tests;
