//! Contents of bins along one axis, as the outlines that physicists expect of a histogram.

use super::axis::{Axis, extent};
use super::svg::{Svg, px};
use super::{Frame, Key, Sheet, axis_of, colour, dashes};
use calostream_operators::statistics::figure::Steps;

/// Bins of fewer pixels than these have no bars.
const NARROWEST: f64 = 4.0;

pub(super) fn draw(svg: &mut Svg, sheet: &Sheet<'_>, id: &str, edges: &[f64], series: &[Steps], log_y: bool) -> Frame {
    let contents = || series.iter().flat_map(|s| &s.contents).copied().filter(|c| c.is_finite());
    let x = axis_of(&edges.windows(2).map(|ends| (ends[0], ends[1])).collect::<Vec<_>>());
    let entries = contents().any(|c| c != 0.0);
    let y = if log_y {
        let (low, high) = extent(contents().filter(|c| *c > 0.0)).unwrap_or((0.1, 1.0));
        Axis::log(low / 2.0, high).padded(0.0, 0.06)
    } else {
        let ends =
            series.iter().flat_map(|s| s.contents.iter().zip(&s.errors).flat_map(|(c, e)| [c - e.max(0.0), c + e.max(0.0)]));
        let (low, high) = extent(contents().chain(ends)).unwrap_or((0.0, 1.0));
        let low = if contents().all(|c| c >= 0.0) { 0.0 } else { low };
        let axis = Axis::linear(low.min(0.0), if entries { high.max(0.0) } else { 1.0 });
        axis.padded(if low < 0.0 { 0.06 } else { 0.0 }, 0.08)
    };
    let legend: Vec<(Key, &str)> = series.iter().enumerate().map(|(i, s)| (Key::Line(i), s.label.as_str())).collect();
    let frame = Frame::new(svg, sheet, x, y, &legend, 0.0);
    frame.clip(svg, id);
    for (number, Steps { contents, errors, .. }) in series.iter().enumerate() {
        let (outline, ground) = (outline(&frame, edges, contents), if log_y { frame.bottom } else { frame.y(0.0) });
        if outline.is_empty() {
            continue;
        }
        if series.len() == 1 {
            let (from, ground) = (px(frame.x(edges[0])), px(ground));
            let area = format!("M{from} {ground}L{}V{ground}H{from}Z", &outline[1..]);
            svg.path(&area, &format!(r#"fill="{}" fill-opacity="0.18""#, colour(number)));
        }
        let style = format!(r#"fill="none" stroke="{}" stroke-width="1.8"{}"#, colour(number), dashes(number));
        svg.path(&outline, &style);
        let bars = bars(&frame, edges, contents, errors);
        if !bars.is_empty() {
            svg.path(&bars, &format!(r#"fill="none" stroke="{}" stroke-width="1.1""#, colour(number)));
        }
    }
    frame.close(svg);
    if !entries {
        frame.nothing(svg);
    }
    frame
}

/// The errors of bins, as bars in their middle; none where bins are so narrow that they would fill the picture.
fn bars(frame: &Frame, edges: &[f64], contents: &[f64], errors: &[f64]) -> String {
    let mut data = String::new();
    if (frame.right - frame.left) / contents.len().max(1) as f64 >= NARROWEST {
        for ((ends, content), error) in edges.windows(2).zip(contents).zip(errors) {
            if content.is_finite() && *error > 0.0 && error.is_finite() {
                let middle = px(f64::midpoint(frame.x(ends[0]), frame.x(ends[1])));
                data.push_str(&format!("M{middle} {}V{}", px(frame.y(content - error)), px(frame.y(content + error))));
            }
        }
    }
    data
}

/// From the first edge to the last, up and down as the contents are; what is not finite counts as empty.
fn outline(frame: &Frame, edges: &[f64], contents: &[f64]) -> String {
    let mut data = String::new();
    for (ends, content) in edges.windows(2).zip(contents) {
        let y = px(frame.y(if content.is_finite() { *content } else { 0.0 }));
        if data.is_empty() {
            data = format!("M{} {y}", px(frame.x(ends[0])));
        } else {
            data.push_str(&format!("V{y}"));
        }
        data.push_str(&format!("H{}", px(frame.x(ends[1]))));
    }
    data
}
