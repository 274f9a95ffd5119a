//! Contents of bins along two axes, as colours; empty bins are white, which no colour of the scale is.

use super::axis::{Axis, extent};
use super::svg::{Anchor, Svg, px};
use super::{Frame, Sheet, TICK, axis_of, power_of_ten};

/// How many colours are told apart.
const LEVELS: usize = 96;

/// Viridis (van der Walt and Smith 2015) at equal steps; its yellow end is taken back a little, to differ from white paper.
const VIRIDIS: [[f64; 3]; 9] = [
    [68.0, 1.0, 84.0],
    [71.0, 45.0, 123.0],
    [59.0, 82.0, 139.0],
    [44.0, 114.0, 142.0],
    [33.0, 145.0, 140.0],
    [39.0, 173.0, 129.0],
    [92.0, 200.0, 99.0],
    [170.0, 220.0, 50.0],
    [250.0, 225.0, 30.0],
];

fn shade(level: usize) -> String {
    let at = level as f64 / (LEVELS - 1) as f64 * (VIRIDIS.len() - 1) as f64;
    let below = (at.floor() as usize).min(VIRIDIS.len() - 2);
    let channel =
        |c: usize| (VIRIDIS[below][c] + (at - below as f64) * (VIRIDIS[below + 1][c] - VIRIDIS[below][c])).round() as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

pub(super) fn draw(svg: &mut Svg, sheet: &Sheet<'_>, x_edges: &[f64], y_edges: &[f64], values: &[f64], log: bool) {
    let axis = |edges: &[f64]| axis_of(&edges.windows(2).map(|ends| (ends[0], ends[1])).collect::<Vec<_>>());
    let filled = |v: f64| v.is_finite() && if log { v > 0.0 } else { v != 0.0 };
    let colours = extent(values.iter().copied().filter(|v| filled(*v)));
    let (low, high) = colours.unwrap_or((1.0, 10.0));
    let scale = if log { Axis::log(low, high) } else { Axis::linear(low.min(0.0), high) };
    let frame = Frame::new(svg, sheet, axis(x_edges), axis(y_edges), &[], 84.0);
    let mut areas = vec![String::new(); LEVELS];
    let rows = y_edges.len().saturating_sub(1).max(1);
    for (ends, column) in x_edges.windows(2).zip(values.chunks(rows)) {
        let (left, right) = (px(frame.x(ends[0])), px(frame.x(ends[1])));
        let level = |v: f64| filled(v).then(|| ((scale.place(v).clamp(0.0, 1.0) * LEVELS as f64) as usize).min(LEVELS - 1));
        let mut from = 0;
        while from < column.len() {
            let found = level(column[from]);
            let run = column[from..].iter().take_while(|v| level(**v) == found).count();
            if let Some(found) = found {
                let (below, above) = (px(frame.y(y_edges[from])), px(frame.y(y_edges[from + run])));
                areas[found].push_str(&format!("M{left} {below}V{above}H{right}V{below}Z"));
            }
            from += run;
        }
    }
    svg.raw(r#"<g shape-rendering="crispEdges">"#);
    for (level, area) in areas.iter().enumerate().filter(|(_, area)| !area.is_empty()) {
        svg.path(area, &format!(r#"fill="{}""#, shade(level)));
    }
    svg.raw("</g>");
    frame.border(svg);
    if colours.is_none() {
        return frame.nothing(svg);
    }
    bar(svg, &frame, scale);
}

/// The colours with their values, beside the frame.
fn bar(svg: &mut Svg, frame: &Frame, scale: Axis) {
    let (left, width, height) = (frame.right + 16.0, 16.0, frame.bottom - frame.top);
    svg.raw(r#"<g shape-rendering="crispEdges">"#);
    for level in 0..LEVELS {
        let top = frame.bottom - (level + 1) as f64 / LEVELS as f64 * height;
        svg.rect((left, top), (width, height / LEVELS as f64 + 0.5), &format!(r#"fill="{}""#, shade(level)));
    }
    svg.raw("</g>");
    svg.rect((left, frame.top), (width, height), r##"fill="none" stroke="#444""##);
    let ticks = scale.ticks(6);
    for (value, label) in &ticks.major {
        let at = frame.bottom - scale.place(*value) * height;
        svg.line((left + width, at), (left + width + 4.0, at), r##"stroke="#444""##);
        svg.text((left + width + 7.0, at), label, TICK, Anchor::Start, "");
    }
    if ticks.exponent != 0 {
        let power = format!("×{}", power_of_ten(ticks.exponent));
        svg.text((left + width / 2.0, frame.top - 10.0), &power, TICK, Anchor::Middle, "");
    }
}
