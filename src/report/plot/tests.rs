use super::*;
use calostream_operators::statistics::figure::{Curve, Point, Steps};
use proptest::prelude::*;

/// Numbers that look like noise, the same each time.
fn noise(n: usize) -> f64 {
    ((n * 7919 + 104_729) % 1009) as f64 / 1009.0
}

fn curves() -> Figure {
    let particle = |(number, label, a): (usize, &str, f64)| Curve {
        label: label.into(),
        points: (0..10)
            .map(|i| {
                let x = 35.0 + 50.0 * f64::from(i);
                let y = a / x.sqrt() + 0.8;
                Point {
                    x,
                    x_error: 25.0,
                    y: y * (1.0 + 0.04 * (noise(10 * number + i as usize) - 0.5)),
                    y_error: 0.02 * y,
                    ..Point::default()
                }
            })
            .collect(),
        line: (0..200).map(|i| 10.0 + 2.5 * f64::from(i)).map(|x| (x, a / x.sqrt() + 0.8)).collect(),
    };
    let fitted =
        [(0, "electron: 15.2 %/√E ⊕ 0.70 %", 15.2), (1, "photon", 13.6), (2, "pi0", 19.3), (3, "pion, a/√E ⊕ b ⊕ c/E", 55.0)];
    Figure {
        name: "resolution".into(),
        title: "Relative energy resolution by particle".into(),
        x: "energy [GeV]".into(),
        y: "σ(E) / E [%]".into(),
        content: Content::Curves { curves: fitted.map(particle).to_vec(), log_y: false },
    }
}

fn roc() -> Figure {
    let line = |power: f64| (1..=300).map(|i| f64::from(i) / 300.0).map(|x| (x, x.powf(power) * 1e-1)).collect();
    let curves =
        [("CNN", 4.0), ("BDT", 2.5)].map(|(label, power)| Curve { label: label.into(), points: Vec::new(), line: line(power) });
    Figure {
        name: "roc".into(),
        title: "Background that is kept, by signal efficiency".into(),
        x: "signal efficiency".into(),
        y: "background efficiency".into(),
        content: Content::Curves { curves: curves.to_vec(), log_y: true },
    }
}

fn steps(log_y: bool, series: usize) -> Figure {
    let edges: Vec<f64> = (0..=60).map(|i| -0.3 + 0.01 * f64::from(i)).collect();
    let gauss = |s: usize| {
        move |e: &[f64]| {
            (25_000.0 * (-0.5 * ((e[0] + 0.005 - 0.02 * s as f64) / (0.03 * (s + 1) as f64)).powi(2)).exp()).round() * 10.0
        }
    };
    let labels = ["electron", "photon", "pi0", "pion"];
    Figure {
        name: "pulls".into(),
        title: "Relative error of the predicted energy".into(),
        x: "(E − Ê) / E".into(),
        y: "events".into(),
        content: Content::Steps {
            series: (0..series)
                .map(|s| {
                    let contents: Vec<f64> = edges.windows(2).map(gauss(s)).collect();
                    Steps { label: labels[s].into(), errors: contents.iter().map(|c| 3.0 * c.sqrt()).collect(), contents }
                })
                .collect(),
            edges,
            log_y,
        },
    }
}

fn heat() -> Figure {
    let edges: Vec<f64> = (0..=50).map(|i| 10.0 + 10.0 * f64::from(i)).collect();
    let content =
        |i: usize, j: usize| (4000.0 * (-0.5 * ((i as f64 - j as f64) / 2.5).powi(2)).exp() * (0.5 + noise(i * 50 + j))).floor();
    Figure {
        name: "predicted".into(),
        title: "Predicted and true energy".into(),
        x: "energy [GeV]".into(),
        y: "predicted_energy [GeV]".into(),
        content: Content::Heat {
            values: (0..2500).map(|b| content(b / 50, b % 50)).collect(),
            x_edges: edges.clone(),
            y_edges: edges,
            log: true,
        },
    }
}

/// The same with the ratios to the first.
fn compared(figure: Figure) -> Figure {
    let divide = |points: &[Point], by: &[Point]| points.iter().zip(by).filter_map(|(p, q)| p.over(q)).collect();
    let ratios: Vec<Curve> = match &figure.content {
        Content::Curves { curves, .. } => {
            let over = |c: &Curve| Curve { points: divide(&c.points, &curves[0].points), ..Curve::default() };
            [Curve::default()].into_iter().chain(curves[1..].iter().map(over)).collect()
        }
        Content::Steps { edges, series, .. } => {
            let points = |s: &Steps| -> Vec<Point> {
                let middle = |e: &[f64]| f64::midpoint(e[0], e[1]);
                let of = edges.windows(2).map(middle).zip(s.contents.iter().zip(&s.errors));
                of.map(|(x, (y, e))| Point { x, y: *y, y_error: *e, ..Point::default() }).collect()
            };
            let over = |s: &Steps| Curve { points: divide(&points(s), &points(&series[0])), ..Curve::default() };
            [Curve::default()].into_iter().chain(series[1..].iter().map(over)).collect()
        }
        _ => Vec::new(),
    };
    let content = Content::Compared { content: Box::new(figure.content.clone()), y: "/ electron".into(), ratios };
    Figure { name: format!("compared_{}", figure.name), content, ..figure }
}

/// One of each kind, and the hard cases.
pub(crate) fn gallery() -> Vec<Figure> {
    let named = |name: &str, mut figure: Figure| {
        figure.name = name.into();
        figure
    };
    let mut lonely = curves();
    lonely.title =
        "A title that is far too long for the width of a plot, because somebody wanted to say everything in it at once".into();
    if let Content::Curves { curves, .. } = &mut lonely.content {
        curves.truncate(1);
        curves[0].line.clear();
        curves[0].points.truncate(3);
        curves[0].points[1].y_error = 1e6;
        curves[0].points[2].y = f64::NAN;
    }
    let empty = Content::Heat { x_edges: vec![0.0, 1.0], y_edges: vec![0.0, 1.0], values: vec![0.0], log: true };
    let nothing = Content::Curves { curves: vec![Curve::default()], log_y: true };
    vec![
        curves(),
        roc(),
        steps(false, 4),
        named("pulls_log", steps(true, 3)),
        named("one", steps(false, 1)),
        heat(),
        named("lonely", lonely),
        named("empty_heat", Figure { content: empty, ..heat() }),
        named("empty_curves", Figure { content: nothing, ..curves() }),
        compared(curves()),
        compared(steps(false, 3)),
        compared(heat()),
    ]
}

/// What xmllint would find: every tag is closed, in order.
fn well_formed(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, rest) = tag.split_once('>').ok_or("a tag without an end")?;
        if rest.contains('&')
            && !rest.split('&').skip(1).all(|r| ["amp;", "lt;", "gt;", "quot;"].iter().any(|e| r.starts_with(e)))
        {
            return Err(format!("a bare & in {rest}"));
        }
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) if open.pop() != Some(name) => return Err(format!("</{name}> closes nothing")),
            (None, false) => open.push(tag.split(' ').next().unwrap_or_default()),
            _ => {}
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are not closed")) }
}

fn check(figure: &Figure) -> String {
    let text = svg(figure, "frame");
    assert_eq!(text, svg(figure, "frame"), "the same bytes again");
    well_formed(&text).unwrap_or_else(|reason| panic!("{}: {reason}", figure.name));
    assert!(!text.contains("NaN") && !text.contains("inf"), "{}", figure.name);
    text
}

#[test]
fn bins_that_grow_are_drawn_on_a_logarithmic_axis() {
    let of = |edges: &[f64]| super::axis_of(&edges.windows(2).map(|e| (e[0], e[1])).collect::<Vec<_>>());
    assert!(of(&[1.0, 10.0, 100.0, 1000.0]).log);
    assert!(of(&[5.0, 15.0, 25.0, 45.0, 2000.0]).log, "one bin would fill the picture");
    for edges in [&[0.0, 1.0, 10.0, 100.0][..], &[10.0, 60.0, 110.0, 160.0], &[1.0, 10.0, 100.0, 120.0], &[-1.0, 1.0], &[]] {
        assert!(!of(edges).log, "{edges:?}");
    }
}

#[test]
fn every_kind_is_drawn() {
    let folder = std::env::var_os("CALOSTREAM_GALLERY");
    for figure in gallery() {
        let text = check(&figure);
        assert!(text.contains(&figure.x), "{} says what is along its axis", figure.name);
        if let Some(folder) = &folder {
            std::fs::write(std::path::Path::new(folder).join(format!("{}.svg", figure.name)), text).unwrap();
        }
    }
    let text = check(&curves());
    assert_eq!(text.matches("<title>").count(), 40, "a tooltip for each point");
    assert!(text.contains("photon at 35 ± 25"), "with its numbers");
    assert!(check(&gallery()[7]).contains("no entries") && check(&gallery()[8]).contains("no entries"));
}

#[test]
fn ratios_stand_below_around_one() {
    let text = check(&compared(curves()));
    assert!(text.contains("height=\"650\"") && text.contains(">/ electron</text>"), "a panel with its label");
    assert_eq!(text.matches(">energy [GeV]</text>").count(), 1, "one horizontal axis");
    assert_eq!(text.matches("<title>").count(), 70, "a point for each bin of the others");
    // 4 +- 0.4 over 2 +- 0.1: 2 +- 2 sqrt(0.1^2 + 0.05^2).
    let point = |y: f64, y_error: f64| Point { y, y_error, ..Point::default() };
    let ratio = point(4.0, 0.4).over(&point(2.0, 0.1)).expect("a ratio");
    assert!((ratio.y - 2.0).abs() < 1e-12 && (ratio.y_error - 2.0 * 0.0125_f64.sqrt()).abs() < 1e-12, "{ratio:?}");
    assert!(point(1.0, 0.1).over(&point(0.0, 0.1)).is_none());
    // One that is far off does not flatten the others: an arrow stands for it.
    let at = |x: f64, y: f64| Point { x, y, y_error: 0.01, ..Point::default() };
    let ratios = vec![Curve { points: vec![at(1.0, 1.1), at(2.0, 0.9), at(3.0, 300.0)], ..Curve::default() }];
    let content = Content::Compared { content: Box::new(curves().content), y: "/ a".into(), ratios };
    let text = check(&Figure { content, ..curves() });
    assert!(
        text.contains(">1.0") && text.contains("484L95.24 493H85.24Z"),
        "the axis is that of the two, with an arrow above: {text}"
    );
}

#[test]
fn a_matrix_has_its_numbers_in_its_fields_and_an_error_two_ends() {
    let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    let content = Content::Matrix {
        columns: names(["electron", "none"]),
        rows: names(["electron", "pion"]),
        shares: vec![1.0, 0.0, 0.5, f64::NAN],
        texts: ["2,378\n79.27 ± 0.76", "0", "1", "-"].map(str::to_owned).to_vec(),
    };
    let text = check(&Figure { content, ..curves() });
    assert!(text.contains(r##"fill="#56b4e9""##) && text.contains(r##"fill="#f2f2f2""##), "full, and none at all");
    assert!(text.contains(">2,378</text>") && text.contains(">79.27 ± 0.76</text>"), "a line each");
    let point = Point { x: 1.0, y: 0.9, y_error: 0.2, y_error_up: Some(0.1), ..Point::default() };
    let curve = Curve { label: "a".into(), points: vec![point], line: Vec::new() };
    let text = check(&Figure { content: Content::Curves { curves: vec![curve], log_y: false }, ..curves() });
    assert!(text.contains("a at 1: 0.9 +0.1 -0.2</title>"), "{text}");
}

#[test]
fn one_bad_point_does_not_flatten_the_others() {
    let points = [(1.0, 2.0, 0.1), (2.0, 2.2, 0.1), (3.0, 2.1, 1e9)].map(|(x, y, y_error)| Point {
        x,
        y,
        y_error,
        x_error: 0.5,
        ..Point::default()
    });
    let curve = Curve { label: "a".into(), points: points.to_vec(), line: vec![(1.0, 1e12), (3.0, -1e12)] };
    let figure = Figure { content: Content::Curves { curves: vec![curve], log_y: false }, ..curves() };
    assert!(check(&figure).contains(">2.0</text>"), "the axis is that of the points");
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![5 => -1e3f64..1e3, 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => any::<f64>()]
}

proptest! {
    #[test]
    fn nothing_that_a_fold_says_breaks_a_plot(values in prop::collection::vec(any_value(), 1..30), log in any::<bool>()) {
        let edges: Vec<f64> = (0..=values.len()).map(|i| i as f64).collect();
        let points = values.windows(4).map(|v| Point { x: v[0], x_error: v[1], y: v[2], y_error: v[3], y_error_up: (v[0] > 0.0).then_some(v[1]) }).collect();
        let line = values.windows(2).map(|v| (v[0], v[1])).collect();
        let contents = [
            Content::Curves { curves: vec![Curve { label: "<a & b>".into(), points, line }], log_y: log },
            Content::Steps { edges: edges.clone(), series: vec![Steps { label: "a".into(), contents: values.clone(), errors: values.iter().rev().copied().collect() }], log_y: log },
            Content::Heat { x_edges: edges, y_edges: vec![0.0, 1.0], values: values.clone(), log },
            Content::Matrix { columns: vec!["<a & b>".into(); 2], rows: vec!["c".into(); 3], shares: values, texts: vec!["1\n<2>".into(); 5] },
        ];
        for content in contents {
            let ratios = match &content {
                Content::Curves { curves, .. } => curves.clone(),
                _ => Vec::new(),
            };
            check(&Figure { content: content.clone(), ..curves() });
            check(&Figure { content: Content::Compared { content: Box::new(content), y: "/ a".into(), ratios }, ..curves() });
        }
    }
}

/// Bins that grow are as wide as each other, along both axes of a map.
#[test]
fn a_map_of_growing_bins_has_logarithmic_axes() {
    let edges: Vec<f64> = (0..=4).map(|i| 10_f64.powi(i)).collect();
    let content = Content::Heat { x_edges: edges.clone(), y_edges: edges, values: vec![1.0; 16], log: false };
    let text = check(&Figure { content, ..curves() });
    assert!(
        ["10⁰", "10²", "10⁴"].iter().all(|label| text.matches(label).count() >= 2) || text.matches(">1000<").count() >= 2,
        "{text}"
    );
}

/// Bars that all points have are shown whole, however near the points are to each other.
#[test]
fn long_error_bars_stay_inside() {
    let point = |x: f64, y: f64, y_error: f64| Point { x, x_error: 0.5, y, y_error, y_error_up: None };
    let curve = Curve {
        label: "a".into(),
        points: vec![point(1.0, 10.0, 3.0), point(2.0, 10.1, 4.0), point(3.0, 9.9, 60.0)],
        line: Vec::new(),
    };
    let ends = super::curves::ends(&curve.points.iter().collect::<Vec<_>>(), false);
    assert_eq!(ends, [7.0, 13.0, 10.1 - 4.0, 14.1, 9.9, 9.9]);
    let axis = super::curves::range((6.1, 14.1), (-50.1, 69.9), false);
    assert!(axis.low <= 6.1 && axis.high >= 14.1 && axis.high < 25.0, "{axis:?}");
}
