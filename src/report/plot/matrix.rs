//! Numbers between named rows and columns, each in a field of its colour.

use super::svg::{Anchor, Svg, fitting, text_width};
use super::{HEIGHT, LABEL, Sheet, TICK, WIDTH, headline};

/// From white paper to a light blue on which black letters are read.
fn shade(share: f64) -> String {
    let full = [86.0, 180.0, 233.0];
    let channel = |c: usize| (255.0 + share.clamp(0.0, 1.0) * (full[c] - 255.0)).round() as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

pub(super) fn draw(svg: &mut Svg, sheet: &Sheet<'_>, columns: &[String], rows: &[String], (shares, texts): (&[f64], &[String])) {
    let widest = rows.iter().map(|name| text_width(name, TICK)).fold(0.0, f64::max).min(WIDTH / 4.0);
    let (left, right, bottom) = (26.0 + LABEL + widest + 8.0, WIDTH - 24.0, HEIGHT - 30.0 - LABEL - TICK);
    let top = headline(svg, sheet.title, left);
    let (width, height) = ((right - left) / columns.len().max(1) as f64, (bottom - top) / rows.len().max(1) as f64);
    for (i, name) in columns.iter().enumerate() {
        let at = (left + (i as f64 + 0.5) * width, bottom + 14.0);
        svg.text(at, name, fitting(name, TICK, width - 4.0), Anchor::Middle, "");
    }
    for (j, name) in rows.iter().enumerate() {
        let at = (left - 7.0, top + (j as f64 + 0.5) * height);
        svg.text(at, name, fitting(name, TICK, widest), Anchor::End, "");
        for (i, number) in (0..columns.len()).map(|i| (i, j * columns.len() + i)) {
            let corner = (left + i as f64 * width, top + j as f64 * height);
            let share = shares.get(number).copied().unwrap_or(f64::NAN);
            let fill = if share.is_finite() { shade(share) } else { "#f2f2f2".to_owned() };
            svg.rect(corner, (width, height), &format!(r##"fill="{fill}" stroke="#fff""##));
            let lines: Vec<&str> = texts.get(number).map(|text| text.lines().collect()).unwrap_or_default();
            let size = lines.iter().map(|line| fitting(line, LABEL, width - 6.0)).fold(LABEL, f64::min);
            let size = size.min((height - 2.0) / (1.25 * lines.len().max(1) as f64)).max(1.0);
            for (k, line) in lines.iter().enumerate() {
                let y = corner.1 + height / 2.0 + 1.25 * size * (k as f64 - (lines.len() as f64 - 1.0) / 2.0);
                svg.text((corner.0 + width / 2.0, y), line, size, Anchor::Middle, "");
            }
        }
    }
    svg.rect((left, top), (right - left, bottom - top), r##"fill="none" stroke="#444" stroke-width="1.2""##);
    svg.text((right, HEIGHT - 16.0), sheet.x, fitting(sheet.x, LABEL, right - left), Anchor::End, "");
    let size = fitting(sheet.y, LABEL, bottom - top);
    svg.upright((18.0, top + text_width(sheet.y, size).min(bottom - top) / 2.0), sheet.y, size);
}
