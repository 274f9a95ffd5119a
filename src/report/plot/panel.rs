//! Ratios in a panel below a plot, on its horizontal axis, around a line at 1.
//!
//! The range is that of the ratios and of 1. Where most of them are within a factor of [`NEAR`], it is that of these, and an arrow at the
//! border stands for each of the others: one class that a network was not trained on would flatten all the rest. Otherwise, and where
//! they lie more than a decade apart, the axis is logarithmic.

use super::axis::{Axis, extent};
use super::svg::{Svg, px};
use super::{Frame, HEIGHT, PANEL, Sheet, colour, curves};
use calostream_operators::statistics::figure::{Curve, Point};

/// How many numbers stand beside the panel, at about.
const NUMBERS: usize = 4;
/// Ratios that are further from 1 than this factor may be left to an arrow.
const NEAR: f64 = 3.0;

pub(super) fn draw(svg: &mut Svg, above: &Frame, sheet: &Sheet<'_>, id: &str, ratios: &[Curve]) {
    let points = || ratios.iter().flat_map(|c| &c.points).filter(|p| p.y.is_finite() && p.x.is_finite());
    let near = |p: &&Point| p.y > 1.0 / NEAR && p.y < NEAR;
    let bounded = 2 * points().filter(near).count() > points().count();
    let shown = || points().filter(move |p| !bounded || near(p));
    let values = || shown().map(|p| p.y).chain([1.0]);
    let (least, most) = extent(values()).unwrap_or((1.0, 1.0));
    let log = least > 0.0 && most > 10.0 * least;
    let whiskers = shown().flat_map(|p| [p.y - p.y_error, p.y + p.up()]).filter(|y| !log || *y > 0.0);
    let ends = curves::ends(&shown().collect::<Vec<_>>(), log);
    let base = extent(ends.into_iter().chain([1.0])).unwrap_or((least, most));
    let y = curves::range(base, extent(whiskers.chain(values())).unwrap_or((least, most)), log);
    // A panel that nearly reaches zero need not begin there: what counts is the distance from 1.
    let y = if !y.log && y.low == 0.0 && base.0 > 0.1 { Axis { low: 0.9 * base.0, ..y } } else { y };
    let end = HEIGHT + PANEL;
    let frame = Frame { top: above.bottom + 12.0, bottom: end - (HEIGHT - Frame::lowest()), x: above.x, y, ..*above };
    frame.axes(svg, Some((sheet.x, end)), sheet.y, &y.ticks(NUMBERS));
    frame.clip(svg, id);
    let one = frame.y(1.0);
    svg.line((frame.left, one), (frame.right, one), r##"stroke="#444" stroke-width="1.2" stroke-dasharray="5 3""##);
    curves::dots(svg, &frame, ratios);
    for (number, curve) in ratios.iter().enumerate() {
        for point in curve.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()) {
            arrow(svg, &frame, number, point);
        }
    }
    frame.close(svg);
}

/// A triangle at the border beyond which a point lies.
fn arrow(svg: &mut Svg, frame: &Frame, number: usize, point: &Point) {
    let place = frame.y.place(point.y);
    let (tip, foot) = match place {
        p if p > 1.0 => (frame.top + 2.0, frame.top + 11.0),
        p if p < 0.0 => (frame.bottom - 2.0, frame.bottom - 11.0),
        _ => return,
    };
    let (x, tip, foot) = (frame.x(point.x), px(tip), px(foot));
    let path = format!("M{} {tip}L{} {foot}H{}Z", px(x), px(x + 5.0), px(x - 5.0));
    svg.path(&path, &format!(r#"fill="{}""#, colour(number)));
}
