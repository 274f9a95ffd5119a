use super::*;
use crate::Worker;
use crate::testing::output_of;
use crate::trial::{at, bits, column_of, floats as from_bits, normal, problems, python, uniform, word};
use crate::work::Runtime;
use arrow::array::{FixedSizeListArray, Float32Array, Int64Array, ListArray, StringArray, UInt64Array};
use arrow::datatypes::{Float32Type, Int64Type};
use proptest::prelude::*;
use serde_json::json;

fn pair(by: Option<&[&str]>, columns: &[&str], kinematics: bool) -> Pair {
    let words = |names: &[&str]| names.iter().map(|name| word(name)).collect::<Vec<_>>();
    Pair {
        by: by.map(|by| at(1, 1, words(by))),
        columns: at(2, 1, words(columns)),
        leading: at(3, 1, "pt".to_owned()),
        kinematics: kinematics.then(|| Kinematics { of: word("pt"), holds: Quantity::Pt, eta: eta(), phi: phi(), mass: None }),
    }
}

/// Rows of particles: run, event, pt (eta and phi follow from the row).
fn particles(rows: &[(i64, i64, f32)]) -> RecordBatch {
    let at = |row: usize, step: f32| (row as f32 * step) % 2.5;
    let fields = vec![
        Field::new("event", DataType::UInt64, false),
        Field::new("run", DataType::Int64, false),
        Field::new("number", DataType::Int64, false),
        column::with_unit(Field::new("pt", DataType::Float32, false), Some("GeV")),
        Field::new("eta", DataType::Float32, false),
        Field::new("phi", DataType::Float32, false),
    ];
    let floats = |f: &dyn Fn(usize) -> f32| Arc::new(Float32Array::from_iter_values((0..rows.len()).map(f))) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(0..rows.len() as u64)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        floats(&|row| rows[row].2),
        floats(&|row| at(row, 0.7)),
        floats(&|row| at(row, 1.1)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn start(pair: &Pair, schema: &RecordBatch) -> Box<dyn Device> {
    let (facts, inputs) = (Facts::default(), [output_of(schema)]);
    let planned = pair.plan(&facts, &inputs).unwrap();
    let worker = Worker { index: 0, peers: 1 };
    let runtime = Runtime::default();
    let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
    match pair.start(&start).unwrap() {
        Work::Device(device) => device,
        _ => panic!("a device"),
    }
}

/// The pairs of a unit that comes in batches of these lengths, and how many rows were cut.
fn run(pair: &Pair, rows: &RecordBatch, lengths: &[usize]) -> Result<(RecordBatch, u64, Noticed), Fault> {
    let mut device = start(pair, rows);
    let (mut made, mut first) = (Vec::new(), 0);
    for length in lengths.iter().cycle() {
        let length = (*length).min(rows.num_rows() - first);
        made.extend(device.push(rows.slice(first, length))?);
        first += length;
        if first == rows.num_rows() {
            break;
        }
    }
    made.extend(device.end()?);
    let schema = pair.plan(&Facts::default(), &[output_of(rows)]).unwrap().outputs[0].schema.clone();
    let pairs = column::concat(&schema, &made)?;
    let cut = device.cut();
    assert_eq!(rows.num_rows() as u64, pairs.num_rows() as u64 + cut, "rows in = rows out + cut");
    Ok((pairs, cut, device.noticed()))
}

/// The same, slowly: run, event, both pt.
fn slow(rows: &[(i64, i64, f32)]) -> Vec<(i64, i64, f32, f32)> {
    let mut pairs = Vec::new();
    for event in rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let mut sorted = event.to_vec();
        sorted.sort_by(|a, b| b.2.total_cmp(&a.2));
        if let [one, other, ..] = sorted[..] {
            pairs.push((one.0, one.1, one.2, other.2));
        }
    }
    pairs
}

proptest! {
    #[test]
    fn pairs_are_those_of_a_slow_search_however_batches_are_cut(
        events in prop::collection::vec(prop::collection::vec(0.0_f32..100.0, 0..5), 1..20),
        lengths in prop::collection::vec(1_usize..7, 1..5),
    ) {
        let numbered = events.iter().enumerate();
        let rows: Vec<(i64, i64, f32)> =
            numbered.flat_map(|(i, pts)| pts.iter().map(move |pt| (i as i64 / 3, (i % 3) as i64, *pt))).collect();
        prop_assume!(!rows.is_empty());
        let (pairs, _, noticed) = run(&pair(Some(&["run", "number"]), &["pt", "eta"], true), &particles(&rows), &lengths).unwrap();
        let of = |name: &str| pairs.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec();
        let whole = |name: &str| pairs.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        let (run, number, one, other) = (whole("run"), whole("number"), of("pt_1"), of("pt_2"));
        let found: Vec<_> = (0..pairs.num_rows()).map(|i| (run[i], number[i], one[i], other[i])).collect();
        prop_assert_eq!(found, slow(&rows));
        let alone = events.iter().filter(|event| event.len() == 1).count();
        prop_assert_eq!(noticed.values().sum::<u64>(), alone as u64);
    }

    #[test]
    fn lists_give_the_pairs_that_rows_give(events in prop::collection::vec(prop::collection::vec(0.0_f32..100.0, 0..5), 1..20)) {
        let lists = |step: f32| {
            let lists = events.iter().map(|pts| Some(pts.iter().map(move |pt| Some(pt * step)).collect::<Vec<_>>()));
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists)) as ArrayRef
        };
        let batch = RecordBatch::try_from_iter([
            ("event", Arc::new(UInt64Array::from_iter_values(0..events.len() as u64)) as ArrayRef),
            ("pt", lists(1.0)), ("twice", lists(2.0)),
        ]).unwrap();
        let rows: Vec<_> = events.iter().enumerate().flat_map(|(i, pts)| pts.iter().map(move |pt| (0, i as i64, *pt))).collect();
        for slice in [batch.clone(), batch.slice(batch.num_rows() / 2, batch.num_rows() - batch.num_rows() / 2)] {
            let (pairs, ..) = run(&pair(None, &["pt", "twice"], false), &slice, &[3]).unwrap();
            let events = pairs.column(0).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
            let of = |name: &str| pairs.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec();
            let (one, other, twice) = (of("pt_1"), of("pt_2"), of("twice_1"));
            let found: Vec<_> = (0..events.len()).map(|i| (0, events[i] as i64, one[i], other[i])).collect();
            let first = slice.column(0).as_primitive::<arrow::datatypes::UInt64Type>().value(0) as i64;
            prop_assert_eq!(found, slow(&rows.iter().copied().filter(|row| row.1 >= first).collect::<Vec<_>>()));
            prop_assert!(one.iter().zip(&twice).all(|(x, y)| 2.0 * x == *y));
        }
    }
}

#[test]
fn lists_of_a_fixed_length_are_lists() {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(vec![Some(1.0), Some(2.0), None, Some(4.0)]));
    let pt = Arc::new(FixedSizeListArray::new(item, 2, values, None)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("pt", pt)]).unwrap();
    let (pairs, cut, _) = run(&pair(None, &["pt"], false), &batch, &[2]).unwrap();
    assert_eq!((pairs.num_rows(), cut), (2, 0));
    assert_eq!(column_of(&pairs, "pt_1"), [2.0, 4.0]);
    assert_eq!(column_of(&pairs, "pt_2")[0], 1.0);
    assert!(column_of(&pairs, "pt_2")[1].is_nan(), "what is missing comes last");
}

#[test]
fn an_event_that_comes_back_is_the_fault_of_the_data() {
    let rows = particles(&[(1, 7, 5.0), (1, 8, 5.0), (1, 9, 5.0), (1, 7, 6.0), (1, 10, 5.0)]);
    let pair = pair(Some(&["run", "number"]), &["pt"], false);
    for length in [1, 2, 5] {
        let fault = run(&pair, &rows, &[length]).unwrap_err();
        assert!(matches!(&fault, Fault::Content(_)));
        assert_eq!(fault.to_string(), "rows of the event `run`, `number` = 1, 7 are not neighbours");
    }
    let mut device = start(&pair, &rows);
    for _ in 0..2 {
        assert!(device.push(rows.slice(0, 3)).unwrap().is_empty());
        assert!(device.end().unwrap().is_empty());
        assert_eq!(device.cut(), 3, "another unit may hold the same numbers, and an event goes on in none");
    }
}

#[test]
fn masses_and_labels_are_those_of_four_vectors_in_numpy() {
    let (mut uniform, mut normal) = (uniform(4), normal(5));
    let events = 200;
    let numbers = |f: &mut dyn FnMut() -> f64| (0..2 * events).map(|_| f()).collect::<Vec<f64>>();
    let pt = numbers(&mut || 30_000.0 + 20_000.0 * uniform());
    let (eta, phi) = (numbers(&mut || normal()), numbers(&mut || 6.0 * normal()));
    let energy: Vec<f64> = pt.iter().zip(&eta).map(|(pt, eta)| pt * f64::cosh(*eta)).collect();
    let float = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let number = Arc::new(StringArray::from_iter_values((0..2 * events).map(|i| format!("event {}", i / 2)))) as ArrayRef;
    let field = |name: &str, unit| column::with_unit(Field::new(name, DataType::Float64, false), unit);
    let fields = vec![
        Field::new("number", DataType::Utf8, false),
        field("pt", Some("MeV")),
        field("energy", Some("MeV")),
        field("eta", None),
        field("phi", None),
    ];
    let columns = vec![number, float(&pt), float(&energy), float(&eta), float(&phi)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let script = "
pt, eta, phi = (floats(given[k]).reshape(-1, 2) for k in ('pt', 'eta', 'phi'))
pt, eta, phi = (np.take_along_axis(x, np.argsort(-pt, axis=1), 1) for x in (pt, eta, phi))
p = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]).sum(-1)
m = np.sqrt(p[0]**2 - p[1]**2 - p[2]**2 - p[3]**2)
label = (91187.6**2 / m**2)[:, None] * pt
answer({'mass': bits(m), 'label': bits(label.T), 'energy': bits((label * np.cosh(eta)).T)})
";
    let expected = python(script, &json!({ "pt": bits(&pt), "eta": bits(&eta), "phi": bits(&phi) }));
    for holds in [Quantity::Pt, Quantity::Energy] {
        let mut pair = pair(Some(&["number"]), &["pt"], true);
        let kinematics = pair.kinematics.as_mut().unwrap();
        (kinematics.holds, kinematics.of) = (holds, word(if holds == Quantity::Pt { "pt" } else { "energy" }));
        let (pairs, ..) = run(&pair, &batch, &[7]).unwrap();
        crate::trial::close(&column_of(&pairs, "mass"), &from_bits(&expected["mass"]), 1e-6);
        let labels = [column_of(&pairs, "label_1"), column_of(&pairs, "label_2")].concat();
        crate::trial::close(&labels, &from_bits(&expected[if holds == Quantity::Pt { "label" } else { "energy" }]), 1e-6);
        assert_eq!(column::unit(pairs.schema().field_with_name("label_2").unwrap()), Some("MeV"));
    }
}

#[test]
fn every_mistake_is_said_at_once() {
    let batch = particles(&[(1, 1, 1.0)]);
    let mut wrong = pair(Some(&["eta", "nmber"]), &["pt", "pt", "et"], true);
    wrong.kinematics.as_mut().unwrap().mass = Some(at(9, 1, -1.0));
    wrong.kinematics.as_mut().unwrap().phi = at(8, 1, "ph".into());
    assert_eq!(
        problems(&wrong, &batch),
        [
            "0:0 `pt` is named twice",
            "0:0 column `eta` is Float32, no identifier",
            "0:0 no column `et` (did you mean `eta`?)",
            "0:0 no column `nmber` (did you mean `number`?)",
            "8:1 no column `ph` (did you mean `phi`?)",
            "9:1 a mass of -1 (it is above 0)",
        ]
    );
    let by_row = problems(&pair(Some(&["event"]), &["pt"], false), &batch);
    let expected = "0:0 `event` is another one in every row, so no two rows would be of one event (name a column of the file's own: `by: [event_number]`)";
    assert_eq!(by_row, [expected]);
    let lists = problems(&pair(None, &["eta"], false), &batch);
    assert_eq!(lists.len(), 2, "eta and pt: {lists:?}");
    assert_eq!(
        lists[1],
        "3:1 column `pt` is Float32, not a list of the particles of an event (where a row is a particle, name what tells events apart: `by: [event_number]`)"
    );
}
