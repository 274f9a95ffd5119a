//! Points with errors, and lines.
//!
//! The range is that of the points with the error bars that most of them have; longer ones and lines may widen it, but by no more than
//! [`REACH`] of it on each side, so that one bin with two entries does not flatten all the others.

use super::axis::{Axis, extent};
use super::svg::{Svg, escape, px};
use super::{Frame, Key, Sheet, axis_of, colour, dashes};
use crate::report::format::significant;
use calostream_operators::statistics::figure::{Curve, Point};

const REACH: f64 = 1.0;
/// Error bars that are longer than the middle one by more than this factor are few.
const LONG: f64 = 4.0;

pub(super) fn draw(svg: &mut Svg, sheet: &Sheet<'_>, id: &str, curves: &[Curve], log_y: bool) -> Frame {
    let points = || curves.iter().flat_map(|c| &c.points).filter(|p| p.x.is_finite() && p.y.is_finite() && (!log_y || p.y > 0.0));
    let lines = || curves.iter().flat_map(|c| &c.line).filter(|(x, y)| x.is_finite() && y.is_finite() && (!log_y || *y > 0.0));
    let bins: Vec<(f64, f64)> = points().map(|p| (p.x - p.x_error, p.x + p.x_error)).collect();
    let x = match axis_of(&bins) {
        grows if grows.log => grows,
        _ => {
            let ends = bins.iter().flat_map(|(low, high)| [*low, *high]);
            let (low, high) = extent(ends.chain(lines().map(|l| l.0))).unwrap_or((0.0, 1.0));
            Axis::linear(low, high)
        }
    };
    let x = x.padded(0.02, 0.02);
    let whiskers = points().flat_map(|p| [p.y - p.y_error, p.y + p.up()]).chain(lines().map(|l| l.1));
    let base = extent(ends(&points().collect::<Vec<_>>(), log_y)).or_else(|| extent(lines().map(|l| l.1)));
    let wide = extent(whiskers.filter(|y| !log_y || *y > 0.0)).or(base);
    let y = range(base.unwrap_or((0.0, 1.0)), wide.unwrap_or((0.0, 1.0)), log_y);
    let legend: Vec<(Key, &str)> = curves
        .iter()
        .enumerate()
        .map(|(i, c)| (if c.points.is_empty() { Key::Line(i) } else { Key::Marker(i) }, c.label.as_str()))
        .collect();
    let frame = Frame::new(svg, sheet, x, y, &legend, 0.0);
    if base.is_none() {
        frame.border(svg);
        frame.nothing(svg);
        return frame;
    }
    frame.clip(svg, id);
    for (number, curve) in curves.iter().enumerate() {
        line(svg, &frame, number, &curve.line);
    }
    dots(svg, &frame, curves);
    frame.close(svg);
    frame
}

/// All points of all curves that the axes can show.
pub(super) fn dots(svg: &mut Svg, frame: &Frame, curves: &[Curve]) {
    for (number, curve) in curves.iter().enumerate() {
        for point in curve.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite() && (!frame.y.log || p.y > 0.0)) {
            dot(svg, frame, number, point, &curve.label);
        }
    }
}

/// The ends of the error bars of these points; of long ones that few have, the points.
pub(super) fn ends(points: &[&Point], log_y: bool) -> Vec<f64> {
    let length = |p: &Point| p.y_error.max(p.up());
    let mut lengths: Vec<f64> = points.iter().map(|p| length(p)).filter(|length| length.is_finite()).collect();
    lengths.sort_unstable_by(f64::total_cmp);
    let longest = LONG * lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    let whole = |p: &Point| length(p) <= longest && !(log_y && p.y <= p.y_error);
    points.iter().flat_map(|p| if whole(p) { [p.y - p.y_error, p.y + p.up()] } else { [p.y; 2] }).collect()
}

/// The axis for values whose own range is `base` and that with all errors is `wide`.
pub(super) fn range(base: (f64, f64), wide: (f64, f64), log_y: bool) -> Axis {
    let axis = if log_y { Axis::log(base.0, base.1) } else { Axis::linear(base.0, base.1) };
    let (below, above) = ((-axis.place(wide.0)).clamp(0.0, REACH), (axis.place(wide.1) - 1.0).clamp(0.0, REACH));
    let axis = axis.padded(below, above).padded(0.04, 0.06);
    // A scale that nearly reaches zero begins there.
    if !log_y && base.0 >= 0.0 && axis.low < 0.45 * axis.high { Axis { low: 0.0, ..axis } } else { axis }
}

fn line(svg: &mut Svg, frame: &Frame, number: usize, line: &[(f64, f64)]) {
    let mut data = String::new();
    let mut pen = 'M';
    for (x, y) in line {
        if x.is_finite() && y.is_finite() {
            data.push_str(&format!("{pen}{} {}", px(frame.x(*x)), px(frame.y(*y))));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    if !data.is_empty() {
        svg.path(
            &data,
            &format!(r#"fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round"{}"#, colour(number), dashes(number)),
        );
    }
}

fn dot(svg: &mut Svg, frame: &Frame, number: usize, point: &Point, label: &str) {
    let (x, y) = (frame.x(point.x), frame.y(point.y));
    let style = format!(r#"stroke="{}" stroke-width="1.5""#, colour(number));
    svg.raw("<g>");
    if point.x_error > 0.0 {
        svg.line((frame.x(point.x - point.x_error), y), (frame.x(point.x + point.x_error), y), &style);
    }
    // `max` takes a NaN for no error.
    let (down, up) = (point.y_error.max(0.0), point.up().max(0.0));
    if down > 0.0 || up > 0.0 {
        let ends = [point.y - down, point.y + up].map(|v| frame.y(v));
        svg.line((x, ends[0]), (x, ends[1]), &style);
        for end in ends {
            svg.line((x - 3.0, end), (x + 3.0, end), &style);
        }
    }
    svg.path(&marker(number, x, y), &format!(r##"fill="{}" stroke="#fff" stroke-width="0.6""##, colour(number)));
    let error = |e: f64| if e > 0.0 && e.is_finite() { format!(" ± {}", significant(e, 3)) } else { String::new() };
    let (at, value) = (significant(point.x, 5), significant(point.y, 5));
    let y_error = match point.y_error_up {
        Some(_) if up.is_finite() && down.is_finite() => format!(" +{} -{}", significant(up, 3), significant(down, 3)),
        Some(_) => String::new(),
        None => error(point.y_error),
    };
    svg.raw(&format!("<title>{} at {at}{}: {value}{y_error}</title></g>", escape(label), error(point.x_error)));
}

/// The outline of a marker; by shape as well as by colour it says whose it is.
pub(super) fn marker(number: usize, x: f64, y: f64) -> String {
    let corners = |corners: &[(f64, f64)]| {
        let at: Vec<String> = corners.iter().map(|(dx, dy)| format!("{} {}", px(x + dx), px(y + dy))).collect();
        format!("M{}Z", at.join("L"))
    };
    match number % 5 {
        0 => format!("M{} {}a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0Z", px(x - 4.4), px(y)),
        1 => corners(&[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)]),
        2 => corners(&[(0.0, -5.4), (5.0, 3.8), (-5.0, 3.8)]),
        3 => corners(&[(0.0, -5.6), (5.6, 0.0), (0.0, 5.6), (-5.6, 0.0)]),
        _ => corners(&[(0.0, 5.4), (5.0, -3.8), (-5.0, -3.8)]),
    }
}
