use super::*;
use crate::random::Random;
use crate::statistics::figure::{Content, Point};
use crate::statistics::peak::{Peak, Spectrum};
use crate::trial::{at, batch, column_of, fold, problems, python, word};
use arrow::array::{Array, AsArray, UInt64Array};
use proptest::prelude::*;
use serde_json::json;

fn mass_peak(of: &[&str]) -> MassPeak {
    MassPeak {
        of: at(1, 1, of.iter().map(|name| word(name)).collect()),
        holds: Quantity::Pt,
        eta: word("eta"),
        phi: word("phi"),
        reference: None,
        range: None,
        bins: None,
        mass: None,
        width: None,
        alpha: None,
        n: None,
        weight: None,
        background: Background::None,
        by: None,
        for_each: None,
        regions: None,
        bootstrap: Some(at(2, 1, 0)),
    }
}

/// Pairs back to back whose masses are these, each by another energy: `a`, `b`, ... The identity is `first` + the row.
fn pairs(masses: &[(&str, &[f64])], first: u64, more: &[(&str, &[f64])]) -> RecordBatch {
    let rows = masses[0].1.len();
    let constant = |value: f64| vec![value; rows];
    // cosh(1 - (-1)) + 1 at a distance of pi
    let opening = 2.0_f64.cosh() + 1.0;
    let mut columns: Vec<(String, Vec<f64>)> = vec![
        ("eta_1".into(), constant(1.0)),
        ("eta_2".into(), constant(-1.0)),
        ("phi_1".into(), constant(0.0)),
        ("phi_2".into(), constant(std::f64::consts::PI)),
    ];
    for (name, masses) in masses {
        let (name, unit) = name.split_once(' ').map_or((*name, String::new()), |(name, unit)| (name, format!(" {unit}")));
        columns.push((format!("{name}_1{unit}"), masses.iter().map(|m| m / (2.0 * opening).sqrt() * 1.25).collect()));
        columns.push((format!("{name}_2{unit}"), masses.iter().map(|m| m / (2.0 * opening).sqrt() / 1.25).collect()));
    }
    columns.extend(more.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())));
    let given: Vec<(&str, &[f64])> = columns.iter().map(|(name, values)| (name.as_str(), &values[..])).collect();
    let classes: Vec<i8> = (0..rows).map(|row| (row % 2) as i8).collect();
    let plain = batch(&["early", "late"], &classes, &given);
    let mut fields: Vec<Field> = plain.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    let mut arrays = plain.columns().to_vec();
    fields.push(Field::new(EVENT, DataType::UInt64, false));
    arrays.push(Arc::new(UInt64Array::from_iter_values(first..first + rows as u64)));
    let schema = Schema::new_with_metadata(fields, plain.schema().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

/// Masses of a Breit-Wigner with two resolutions that have much in common: Gaussians of `common` and of one's own.
fn two_energies(rows: usize, seed: u64, common: f64, own: [f64; 2]) -> [Vec<f64>; 2] {
    let mut random = Random::new([seed, 0, 0, 0]);
    let mut masses = [Vec::new(), Vec::new()];
    for _ in 0..rows {
        let line = Z_MASS + Z_WIDTH / 2.0 * (std::f64::consts::PI * (random.uniform() - 0.5)).tan();
        let shared = common * random.normal();
        for (masses, own) in masses.iter_mut().zip(own) {
            masses.push((line + shared + own * random.normal()).abs());
        }
    }
    masses
}

/// A tail that such masses have not, held far out.
fn gaussian(mut peak: MassPeak) -> MassPeak {
    peak.alpha = Some(at(3, 1, 5.0));
    peak.n = Some(at(4, 1, 3.0));
    peak
}

#[test]
fn masses_fall_into_the_bins_of_numpy_and_are_fitted_as_they_lie_there() {
    let [a, b] = two_energies(20_000, 1, 1.5, [1.0, 2.0]);
    let mut peak = gaussian(mass_peak(&["a", "b"]));
    (peak.range, peak.bins) = (Some(at(5, 1, (70.0, 112.0))), Some(at(6, 1, 60)));
    let (_, summary) = fold(&peak, &pairs(&[("a [GeV]", &a), ("b [GeV]", &b)], 0, &[]), 7);
    let edges = Axis::Regular { low: 70.0, high: 112.0, bins: 60 }.edges();
    for (row, (name, masses, sigma)) in [("a", &a, 1.5_f64.hypot(1.0)), ("b", &b, 2.5)].into_iter().enumerate() {
        let script = "answer(np.histogram(given['m'], np.linspace(70, 112, 61))[0].tolist())";
        let expected = python(script, &json!({ "m": masses }));
        let contents: Vec<f64> = expected.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        // A mass that rounding moves over an edge would show here; none does.
        let slots = &summary.histograms[row].1["storage"]["values"];
        let found: Vec<f64> = slots.as_array().unwrap()[1..=60].iter().map(|n| n.as_f64().unwrap()).collect();
        assert_eq!(found, contents, "{name}");
        let spectrum = Spectrum { edges: &edges, contents: &contents, variances: None };
        let line = Line { mass: Z_MASS, width: Z_WIDTH };
        let fit = Peak::fit(&spectrum, line, Held { alpha: Some(5.0), n: Some(3.0), background: Background::None }).unwrap();
        assert_eq!(column_of(&summary.table, "sigma")[row], fit.values()[1]);
        assert_eq!(column_of(&summary.table, "sigma_error")[row], fit.parameters[1].error.unwrap());
        assert!((fit.values()[1] - sigma).abs() < 4.0 * fit.parameters[1].error.unwrap(), "{name}: {:?}", fit.parameters[1]);
    }
    let sigma = column_of(&summary.table, "sigma");
    let improvement = column_of(&summary.table, "improvement");
    assert!(improvement[0].is_nan(), "the reference has none");
    assert_eq!(improvement[1], 1.0 - sigma[1] / sigma[0]);
    let remark = summary.table.column_by_name("reason").unwrap().as_string::<i32>().clone();
    assert!(remark.is_null(0) && remark.value(1) == "no error of the improvement: no replicas were asked for");
    let Content::Curves { curves, .. } = &summary.figures[0].content else { panic!("curves") };
    assert!(curves[0].label.starts_with("a: σ = 1.") && curves[0].label.ends_with(" GeV"), "{}", curves[0].label);
    assert_eq!((summary.figures[0].x.as_str(), summary.figures[0].y.as_str()), ("mass [GeV]", "pairs / 0.7 GeV"));
    // The line goes through the points: a mean distance of one error where the fit is good.
    let pull = |point: &Point| {
        let nearest = curves[0].line.iter().min_by(|p, q| (p.0 - point.x).abs().total_cmp(&(q.0 - point.x).abs())).unwrap();
        (point.y - nearest.1) / point.y_error.max(1.0)
    };
    let spread = curves[0].points.iter().map(|p| pull(p).powi(2)).sum::<f64>() / 60.0;
    assert!((0.4..2.0).contains(&spread), "{spread}");
}

#[test]
fn the_error_of_an_improvement_is_its_spread_over_other_data() {
    // Two energies that share most of their fluctuation: added in quadrature, errors would be some twice too large.
    let (mut improvements, mut errors, mut added) = (Vec::new(), Vec::new(), Vec::new());
    let mut peak = gaussian(mass_peak(&["a", "b"]));
    peak.reference = Some(word("b"));
    peak.bins = Some(at(6, 1, 50));
    for toy in 0..60 {
        let [a, b] = two_energies(4000, 10 + toy, 2.0, [0.4, 0.8]);
        peak.bootstrap = Some(at(2, 1, if toy < 12 { 60 } else { 0 }));
        let (_, summary) = fold(&peak, &pairs(&[("a", &a), ("b", &b)], 4000 * toy, &[]), 3);
        improvements.push(column_of(&summary.table, "improvement")[0]);
        let error = column_of(&summary.table, "improvement_error")[0];
        if toy < 12 {
            errors.push(error);
        }
        let (sigma, sigma_error) = (column_of(&summary.table, "sigma"), column_of(&summary.table, "sigma_error"));
        added.push(sigma[0] / sigma[1] * (sigma_error[0] / sigma[0]).hypot(sigma_error[1] / sigma[1]));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let spread = bootstrap::spread(improvements.iter().copied().map(Some)).unwrap();
    let (error, added) = (mean(&errors), mean(&added));
    // The spread of 60 is known to 9 %, the mean error of 12 times 60 replicas to 3 %.
    assert!((error / spread - 1.0).abs() < 0.3, "{error} is not {spread}");
    assert!(added > 1.6 * spread, "added in quadrature {added}, truly {spread}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn sums_do_not_depend_on_batches_or_order(rows in 1_usize..60, cut in 0_usize..60, weighted: bool) {
        let [a, b] = two_energies(rows, 3, 2.0, [0.5, 1.0]);
        let weights: Vec<f64> = (0..rows).map(|row| [1.0, -0.3, f64::NAN, 2.5][row % 4]).collect();
        let whole = pairs(&[("a", &a), ("b", &b)], 0, &[("w", &weights)]);
        let mut peak = mass_peak(&["a", "b"]);
        (peak.bootstrap, peak.bins) = (Some(at(2, 1, 3)), Some(at(6, 1, 10)));
        peak.weight = weighted.then(|| word("w"));
        peak.for_each = Some(word("sample").into());
        let (one, _) = fold(&peak, &whole, 1);
        let cut = cut.min(rows);
        let schema = whole.schema();
        let turned = column::concat(&schema, [&whole.slice(cut, rows - cut), &whole.slice(0, cut)]).unwrap();
        let (many, _) = fold(&peak, &turned, 4);
        prop_assert_eq!(one.encode(), many.encode());
    }
}

#[test]
fn weights_replicas_and_classes_are_where_they_belong() {
    let rows = 12_000;
    let [a, b] = two_energies(rows, 5, 2.0, [0.5, 1.0]);
    let weights: Vec<f64> = (0..rows).map(|row| if row % 3 == 0 { 2.0 } else { 0.5 }).collect();
    let batch = pairs(&[("a", &a), ("b", &b)], 0, &[("w", &weights)]);
    let mut peak = gaussian(mass_peak(&["a", "b"]));
    (peak.weight, peak.for_each, peak.bootstrap) = (Some(word("w")), Some(word("sample").into()), Some(at(2, 1, 20)));
    let (_, summary) = fold(&peak, &batch, 5);
    let classes = summary.table.column_by_name("sample").unwrap().as_string::<i32>();
    assert_eq!(classes.iter().flatten().collect::<Vec<_>>(), ["early", "early", "late", "late"]);
    let in_range = |masses: &[f64], class: usize| {
        (0..rows).filter(|row| row % 2 == class && (Z_MASS - 25.0..Z_MASS + 25.0).contains(&masses[*row])).count() as f64
    };
    let expected = [in_range(&a, 0), in_range(&b, 0), in_range(&a, 1), in_range(&b, 1)];
    assert_eq!(column_of(&summary.table, "pairs"), expected);
    for (row, improvement) in column_of(&summary.table, "improvement_error").into_iter().enumerate() {
        assert_eq!(improvement.is_finite() && improvement > 0.0, row % 2 == 1, "row {row}");
    }
    let heavier = column_of(&summary.table, "sigma_error")[0];
    let mut plain = peak.clone();
    plain.weight = None;
    let lighter = column_of(&fold(&plain, &batch, 2).1.table, "sigma_error")[0];
    // (sum w)^2 / sum w^2 = 2/3 of the rows.
    assert!((heavier / lighter - 1.5_f64.sqrt()).abs() < 0.1, "{heavier} and {lighter}");
    assert_eq!(summary.figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["mass-early", "mass-late"]);
}

#[test]
fn what_is_no_peak_is_null_with_its_reason() {
    let mut peak = mass_peak(&["a", "b"]);
    peak.bootstrap = Some(at(2, 1, 3));
    let [good, _] = two_energies(5000, 9, 2.0, [0.5, 1.0]);
    let n = good.len();
    let cases: [(&str, Vec<f64>, &str); 5] = [
        ("constant", vec![91.0; n], "no fit: 1 bin with entries do not determine a peak"),
        ("NaN", vec![f64::NAN; n], "no fit: every bin of the range is empty"),
        ("infinite", vec![f64::INFINITY; n], "no fit: every bin of the range is empty"),
        ("far off", vec![5.0; n], "no fit: every bin of the range is empty"),
        ("negative", vec![-91.0; n], "no fit: every bin of the range is empty"),
    ];
    for (what, bad, reason) in cases {
        let (_, summary) = fold(&peak, &pairs(&[("a", &bad), ("b", &good)], 0, &[]), 2);
        let remark = summary.table.column_by_name("reason").unwrap().as_string::<i32>().clone();
        assert_eq!(remark.value(0), reason, "{what}");
        for name in ["sigma", "sigma_error", "shift", "chi2", "ndf", "improvement", "improvement_error"] {
            assert!(summary.table.column_by_name(name).unwrap().is_null(0), "{name} of {what}");
        }
        assert!(!summary.table.column_by_name("sigma").unwrap().is_null(1), "the other one is fitted");
        assert!(remark.value(1).contains("no improvement: no width of the reference: "), "{}", remark.value(1));
        assert!(summary.remarks.iter().any(|r| r.contains("a: ")), "{:?}", summary.remarks);
    }
    for weight in [0.0, -1.0, f64::NAN] {
        peak.weight = Some(word("w"));
        let (_, summary) = fold(&peak, &pairs(&[("a", &good), ("b", &good)], 0, &[("w", &vec![weight; n])]), 2);
        assert!(summary.table.column_by_name("sigma").unwrap().is_null(0), "weights of {weight}");
        let remark = summary.table.column_by_name("reason").unwrap().as_string::<i32>().clone();
        assert!(remark.value(0).starts_with("no fit: "), "{}", remark.value(0));
    }
    peak.weight = None;
    let nothing = pairs(&[("a", &good[..1]), ("b", &good[..1])], 0, &[]);
    for batch in [nothing.slice(0, 0), nothing] {
        let (_, summary) = fold(&peak, &batch, 1);
        assert_eq!(summary.table.num_rows(), 2);
        assert!(summary.table.column_by_name("sigma").unwrap().is_null(0));
        assert_eq!(summary.highlights.len(), 3);
    }
}

#[test]
fn energies_in_other_units_give_the_same_width() {
    let [a, _] = two_energies(20_000, 1, 1.5, [1.0, 2.0]);
    let in_mev: Vec<f64> = a.iter().map(|m| 1000.0 * m).collect();
    let peak = gaussian(mass_peak(&["a"]));
    let gev = fold(&peak, &pairs(&[("a [GeV]", &a)], 0, &[]), 1).1;
    let mev = fold(&peak, &pairs(&[("a [MeV]", &in_mev)], 0, &[]), 1).1;
    assert!((column_of(&mev.table, "sigma")[0] / column_of(&gev.table, "sigma")[0] - 1000.0).abs() < 1e-3);
    assert_eq!(mev.figures[0].x, "mass [MeV]");
    let (eta, energies) = (1.0_f64.cosh(), a.iter().map(|m| m * 1.0_f64.cosh()).collect::<Vec<_>>());
    let mut by_energy = peak.clone();
    by_energy.holds = Quantity::Energy;
    let energy = fold(&by_energy, &pairs(&[("a [GeV]", &energies)], 0, &[]), 1).1;
    let sigma = column_of(&energy.table, "sigma")[0];
    assert!((sigma / column_of(&gev.table, "sigma")[0] - 1.0).abs() < 1e-6, "{sigma} at cosh(eta) = {eta}");
}

#[test]
fn every_mistake_is_said_at_once() {
    let batch = pairs(&[("a [GeV]", &[91.0]), ("b [MeV]", &[91.0])], 0, &[("lonely_1", &[1.0])]);
    let mut peak = mass_peak(&["a", "b", "a", "c", "lonely"]);
    peak.reference = Some(at(3, 1, "d".into()));
    peak.range = Some(at(4, 1, (100.0, 120.0)));
    peak.bins = Some(at(5, 1, 5));
    peak.alpha = Some(at(6, 1, 9.0));
    peak.bootstrap = Some(at(7, 1, 1));
    peak.width = Some(at(8, 1, 0.0));
    peak.phi = at(9, 1, "ph".into());
    assert_eq!(
        problems(&peak, &batch),
        [
            "0:0 `a` is named twice",
            "0:0 `b` is in MeV, the first energy in GeV",
            "0:0 no column `lonely_2` (did you mean `lonely_1`?)",
            "0:0 no columns `c_1` and `c_2` (did you mean `a`?)",
            "3:1 `d` is not one of the energies (did you mean `a`?)",
            "4:1 the mass of 91.1876 does not lie in the range [100, 120] (the range is in the unit of the energies)",
            "5:1 5 bins (give 10 to 2000)",
            "6:1 alpha of 9 (it lies from 0.2 to 6)",
            "7:1 1 replicas (give 2 to 10000, or 0 for no error)",
            "8:1 a width of 0 (it is above 0)",
            "9:1 no columns `ph_1` and `ph_2` (did you mean `phi`?)",
        ]
    );
}
