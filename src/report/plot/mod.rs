//! Figures as SVG: the same bytes for the same figure, on any machine.
//!
//! The legend stands above the plot and the colour bar beside it, so that neither hides a point; what a bad point or a fit
//! far outside would do to the range is bounded (see [`curves`]). A panel of ratios below shares the horizontal axis (see [`panel`]).
//! Letters are as large as a slide needs that has two plots beside each other.

mod axis;
mod curves;
mod heat;
mod matrix;
mod panel;
mod steps;
mod svg;

use axis::{Axis, Ticks, extent, power_of_ten};
use calostream_operators::statistics::figure::{Content, Figure};
use svg::{Anchor, Svg, fitting, px, text_width};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 500.0;
/// What a panel of ratios adds to the height.
const PANEL: f64 = 150.0;
const TITLE: f64 = 19.0;
/// How much wider than others bold letters are.
const BOLD: f64 = 1.15;
const LABEL: f64 = 17.0;
const TICK: f64 = 15.5;

/// The colours of Okabe and Ito (2008), told apart by the colour-blind, the darker ones first; a grey in place of their yellow,
/// which is hard to see on white.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#999999"];

/// The colour of a curve, by its number.
fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

/// A figure as an SVG document. `id` keeps apart what is named in it, where several stand in one page.
#[must_use]
pub fn svg(figure: &Figure, id: &str) -> String {
    let sheet = |below| Sheet { title: &figure.title, x: &figure.x, y: &figure.y, below };
    let plain = sheet(0.0);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    match &figure.content {
        Content::Curves { curves, log_y } => drop(curves::draw(&mut svg, &plain, id, curves, *log_y)),
        Content::Steps { edges, series, log_y } => drop(steps::draw(&mut svg, &plain, id, edges, series, *log_y)),
        Content::Heat { x_edges, y_edges, values, log } => heat::draw(&mut svg, &plain, x_edges, y_edges, values, *log),
        Content::Matrix { columns, rows, shares, texts } => matrix::draw(&mut svg, &plain, columns, rows, (shares, texts)),
        Content::Compared { content, y, ratios } => {
            svg = Svg::new(WIDTH, HEIGHT + PANEL);
            let above = sheet(PANEL);
            let frame = match &**content {
                Content::Curves { curves, log_y } => curves::draw(&mut svg, &above, id, curves, *log_y),
                Content::Steps { edges, series, log_y } => steps::draw(&mut svg, &above, id, edges, series, *log_y),
                Content::Heat { .. } | Content::Matrix { .. } | Content::Compared { .. } => {
                    return self::svg(&Figure { content: (**content).clone(), ..figure.clone() }, id);
                }
            };
            panel::draw(&mut svg, &frame, &Sheet { y, ..above }, &format!("{id}-ratio"), ratios);
        }
    }
    svg.finish(&figure.title)
}

/// What is written around a plot.
#[derive(Clone, Copy)]
struct Sheet<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// The height of what stands below and has the numbers of the horizontal axis; 0 for nothing.
    below: f64,
}

/// The axis of bins with these ends: logarithmic where they are as wide in the logarithm, over a decade or more, or
/// where one of them (all that is above an energy) would fill the picture.
fn axis_of(bins: &[(f64, f64)]) -> Axis {
    let (low, high) = extent(bins.iter().flat_map(|(low, high)| [*low, *high])).unwrap_or((0.0, 1.0));
    let ratios = || bins.iter().map(|(low, high)| high / low);
    let (least, most) = extent(ratios().map(f64::ln)).unwrap_or((0.0, 0.0));
    let widest = bins.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
    let one_fills = widest > 0.9 * (high - low);
    let grows = bins.len() > 2 && low > 0.0 && high >= 10.0 * low && least > 0.0 && (most < 1.5 * least || one_fills);
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
    fn new(svg: &mut Svg, sheet: &Sheet<'_>, x: Axis, y: Axis, legend: &[(Key, &str)], beside: f64) -> Self {
        let y_ticks = y.ticks(6);
        // Numbers of the panel below find room in the same margin.
        let least = if sheet.below > 0.0 { text_width("0.00", TICK) } else { 0.0 };
        let widest = y_ticks.major.iter().map(|(_, label)| text_width(label, TICK)).fold(least, f64::max);
        let (left, right) = (26.0 + LABEL + widest + 8.0, WIDTH - 24.0 - beside);
        let under = headline(svg, sheet.title, left);
        let top = under + legend_above(svg, legend, under, (left, WIDTH - 24.0));
        let bottom = if sheet.below > 0.0 { HEIGHT - 30.0 } else { Self::lowest() };
        let frame = Self { left, right, top, bottom, x, y };
        frame.axes(svg, (sheet.below == 0.0).then_some((sheet.x, HEIGHT)), sheet.y, &y_ticks);
        frame
    }

    /// Where a frame ends that has the horizontal axis below it, in a picture of the usual height.
    fn lowest() -> f64 {
        HEIGHT - 28.0 - LABEL - TICK
    }

    /// Draws grid and axes; numbers and label of the horizontal one where there is a label, with the end of the picture.
    fn axes(&self, svg: &mut Svg, x_label: Option<(&str, f64)>, y_label: &str, y_ticks: &Ticks) {
        let x_ticks = self.x.ticks(7);
        let grid = r##"stroke="#e3e3e3""##;
        let axis = r##"stroke="#444""##;
        for (value, label) in &x_ticks.major {
            let at = self.x(*value);
            svg.line((at, self.top), (at, self.bottom), grid);
            svg.line((at, self.bottom), (at, self.bottom - 8.0), axis);
            if x_label.is_some() {
                svg.text((at, self.bottom + 15.0), label, TICK, Anchor::Middle, "");
            }
        }
        for (value, label) in &y_ticks.major {
            let at = self.y(*value);
            svg.line((self.left, at), (self.right, at), grid);
            svg.line((self.left, at), (self.left + 8.0, at), axis);
            svg.text((self.left - 7.0, at), label, TICK, Anchor::End, "");
        }
        for value in &x_ticks.minor {
            svg.line((self.x(*value), self.bottom), (self.x(*value), self.bottom - 4.0), axis);
        }
        for value in &y_ticks.minor {
            svg.line((self.left, self.y(*value)), (self.left + 4.0, self.y(*value)), axis);
        }
        if let Some((label, end)) = x_label {
            let label = with_power(label, x_ticks.exponent);
            svg.text((self.right, end - 16.0), &label, fitting(&label, LABEL, self.right - self.left), Anchor::End, "");
        }
        let label = with_power(y_label, y_ticks.exponent);
        let size = fitting(&label, LABEL, self.bottom - self.top);
        svg.upright((18.0, self.top + text_width(&label, size).min(self.bottom - self.top) / 2.0), &label, size);
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

/// Writes the title, on two lines where letters would be small on one; where what follows begins.
fn headline(svg: &mut Svg, title: &str, left: f64) -> f64 {
    let available = (WIDTH - left - 12.0) / BOLD;
    let mut lines = vec![title];
    if fitting(title, TITLE, available) < 0.85 * TITLE {
        // The space at which the longer line is shortest.
        let longer = |at: usize| text_width(&title[..at], TITLE).max(text_width(&title[at + 1..], TITLE));
        let best = title.match_indices(' ').map(|(at, _)| at).min_by(|a, b| longer(*a).total_cmp(&longer(*b)));
        lines = best.map_or(lines, |at| vec![&title[..at], &title[at + 1..]]);
    }
    for (number, line) in lines.iter().enumerate() {
        let at = (left, 20.0 + 24.0 * number as f64);
        svg.text(at, line, fitting(line, TITLE, available), Anchor::Start, r#"font-weight="bold""#);
    }
    18.0 + 24.0 * lines.len() as f64
}

/// Draws the legend in rows under `top`, above the frame; its height.
fn legend_above(svg: &mut Svg, legend: &[(Key, &str)], top: f64, (left, right): (f64, f64)) -> f64 {
    let entries: Vec<_> = legend.iter().filter(|(_, label)| !label.is_empty()).collect();
    if entries.is_empty() {
        return 0.0;
    }
    let (row, first) = (22.0, top + 4.0);
    let (mut at, mut middle) = (left, first);
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
    middle - first + row
}

/// Lines beyond the first colours are dashed, so that no two look alike.
fn dashes(number: usize) -> &'static str {
    if number < COLOURS.len() { "" } else { r#" stroke-dasharray="6 3""# }
}

#[cfg(test)]
pub(crate) mod tests;
