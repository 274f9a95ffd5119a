//! The forms of a column and the built-in layouts, against files that h5py writes as the layouts are known.

#![allow(clippy::unwrap_used)]

mod reading;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Int32Type, UInt16Type, UInt64Type};
use calostream_operators::hdf5::probe;
use calostream_operators::hdf5::propose::propose;
use calostream_operators::read::read_hdf5::{Patterns, ReadHdf5};
use calostream_operators::schema::{BUILT_IN, Schema, nearest};
use calostream_operators::work::{Noticed, Start, Work, Worker};
use calostream_operators::{Fault, Operator, Placed, Planned, column, hits};
use reading::{files, look_up, python, runtime, samples};
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder in which this script has written files.
    fn of(script: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        python(folder.0.path(), script);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A user's schema; gives its path.
    fn schema(&self, columns: &str) -> String {
        std::fs::write(self.path("layout.yaml"), format!("# A layout for a test.\nschema: layout\ncolumns:\n{columns}")).unwrap();
        self.path("layout.yaml")
    }

    /// What Python prints of an expression, as JSON.
    fn ask(&self, expression: &str) -> serde_json::Value {
        let script = format!("import glob\nprint(json.dumps({expression}, default=lambda v: v.tolist()))");
        serde_json::from_str(&python(self.0.path(), &script)).unwrap()
    }
}

/// Why a step cannot be planned.
fn refused(step: &ReadHdf5) -> String {
    let problems = step.plan(&look_up(step), &[]).unwrap_err();
    problems.into_iter().map(|p| format!("{} {}", p.what, p.help.unwrap_or_default())).collect::<Vec<_>>().join("\n")
}

/// What reading gave.
struct Got {
    batch: RecordBatch,
    cut: u64,
    noticed: Noticed,
    faults: Vec<String>,
    planned: Planned,
}

fn read(step: &ReadHdf5) -> Got {
    let facts = look_up(step);
    let planned = step.plan(&facts, &[]).unwrap_or_else(|p| panic!("{p:?}"));
    let runtime = runtime();
    let outputs = [planned.outputs[0].clone()];
    let start = Start { worker: Worker { index: 0, peers: 1 }, facts: &facts, inputs: &[], outputs: &outputs, runtime: &runtime };
    let Work::Source(mut source) = step.start(&start).unwrap() else { panic!("not a source") };
    let (mut batches, mut cut, mut noticed, mut faults) = (Vec::new(), 0, Noticed::new(), Vec::new());
    for unit in &planned.units {
        let made: Result<Vec<RecordBatch>, Fault> = source.read(unit).and_then(Iterator::collect);
        let (dropped, said) = (source.cut(), source.noticed());
        match made {
            Ok(made) => {
                let rows: usize = made.iter().map(RecordBatch::num_rows).sum();
                assert_eq!(rows as u64 + dropped, unit.rows, "rows given and rows cut make the rows of the unit");
                batches.extend(made);
                cut += dropped;
                said.into_iter().for_each(|(what, count)| *noticed.entry(what).or_default() += count);
            }
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    let batch = concat_batches(&outputs[0].schema, &batches).unwrap();
    Got { batch, cut, noticed, faults, planned }
}

/// A column as JSON, as far as the tests need it.
fn json(column: &ArrayRef) -> serde_json::Value {
    if let DataType::Dictionary(..) = column.data_type() {
        return json(&cast(column, &DataType::Utf8).unwrap());
    }
    let each = |row: usize| -> serde_json::Value {
        if column.is_null(row) {
            return serde_json::Value::Null;
        }
        match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().value(row).into(),
            DataType::List(_) => json(&column.as_list::<i32>().value(row)),
            DataType::FixedSizeList(..) => json(&column.as_fixed_size_list().value(row)),
            DataType::Boolean => column.as_boolean().value(row).into(),
            DataType::Struct(fields) => {
                let members = fields.iter().zip(column.as_struct().columns());
                let one = |c: &ArrayRef| json(&c.slice(row, 1))[0].clone();
                members.map(|(f, c)| (f.name().clone(), one(c))).collect::<serde_json::Map<_, _>>().into()
            }
            DataType::Float16 => f64::from(column.as_primitive::<Float16Type>().value(row).to_f32()).into(),
            DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).into(),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
            DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
            _ => {
                let whole = cast(column, &DataType::Int64).unwrap();
                whole.as_primitive::<arrow::datatypes::Int64Type>().value(row).into()
            }
        }
    };
    (0..column.len()).map(each).collect::<Vec<_>>().into()
}

/// The same values; JSON loses the last bit of some numbers on the way.
#[track_caller]
fn assert_same(left: &serde_json::Value, right: &serde_json::Value) {
    use serde_json::Value;
    fn same(left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Array(l), Value::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
            (Value::Object(l), Value::Object(r)) => {
                l.len() == r.len() && l.iter().all(|(k, l)| r.get(k).is_some_and(|r| same(l, r)))
            }
            (Value::Number(l), Value::Number(r)) => {
                let (l, r) = (l.as_f64().unwrap(), r.as_f64().unwrap());
                l == r || l.to_bits().abs_diff(r.to_bits()) <= 1
            }
            (left, right) => left == right,
        }
    }
    assert!(same(left, right), "{left}\nis not\n{right}");
}

/// The images of a column, dense.
fn dense(batch: &RecordBatch, name: &str, value: usize) -> Vec<f32> {
    let cells = hits::shape(batch.schema().field_with_name(name).unwrap()).unwrap().iter().product::<usize>();
    let mut all = vec![0f32; batch.num_rows() * cells];
    hits::to_dense(&batch[name], cells, value, 0, batch.num_rows(), &mut all).unwrap();
    all
}

fn floats(value: &serde_json::Value) -> Vec<f32> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

#[test]
fn texts_enums_lists_and_attributes_are_columns() {
    let folder = Folder::of(
        "
n = 9000
words = np.array(['', 'a', 'schön', 'long ' * 9, 'x'] * (n // 5), dtype=object)
with h5py.File('a.h5', 'w') as f:
    f.create_dataset('variable', data=words, dtype=h5py.string_dtype())
    f.create_dataset('fixed', data=np.char.encode(words.astype('U40'), 'utf8').astype('S50'), chunks=(700,), compression='gzip')
    f.create_dataset('pairs', data=np.stack([words, words[::-1]], 1), dtype=h5py.string_dtype())
    f.create_dataset('flag', data=np.arange(n) % 2 == 0)
    f.create_dataset('kind', data=np.arange(n) % 4 - 1, dtype=h5py.enum_dtype({'b': -1, 'c': 0, 'light': 1}, basetype='>i2'))
    f.create_dataset('code', data=(np.arange(n) % 3).astype('f8'))
    v = f.create_dataset('tracks', (n,), dtype=h5py.vlen_dtype('>f4'))
    for i in range(n): v[i] = np.arange(i % 7) + i / 8
    c = f.create_dataset('xyz', (n, 3), dtype=h5py.vlen_dtype('i2'))
    for i in range(n): c[i] = [np.full(i % 5, k + i % 100) for k in range(3)]
    t = np.zeros(n, [('id', 'i4'), ('name', 'S6'), ('pos', 'f4', (2,)), ('in', [('t', 'f8')])])
    t['id'] = np.arange(n); t['name'] = np.where(np.arange(n) % 2, b'odd', b'even'); t['pos'] = np.arange(2 * n).reshape(n, 2); t['in']['t'] = .5
    f.create_dataset('t', data=t, chunks=(100,), compression='gzip', shuffle=True)
    f.attrs['run'] = np.int64(6229); f.attrs['detector'] = 'NEXT-White'; f.attrs['voltage'] = np.array([1.5, 2.5], 'f4')
    f['t'].attrs['version'] = np.bytes_(b'2.1'); f['t'].attrs['ok'] = True",
    );
    let schema = folder.schema(
        "  variable: { dataset: variable }\n  fixed: { dataset: fixed }\n  second: { dataset: pairs, at: [1] }\n  flag: { dataset: flag }
  kind: { dataset: kind }\n  number: { dataset: kind, as: i32 }\n  code: { dataset: code, names: { 0: pion, 2: muon } }
  tracks: { dataset: tracks }\n  narrow: { dataset: tracks, as: f64 }\n  y: { dataset: xyz, at: [1], kind: list }
  t: { dataset: t, member: \"*\" }\n  \"t_*\": { dataset: t, member: \"*\" }\n  some: { dataset: t, member: [name, in.t] }
  run: { attribute: run }\n  detector: { attribute: detector }\n  voltage: { attribute: voltage, at: [1], as: f64, unit: kV }
  version: { dataset: t, attribute: version }\n  ok: { dataset: t, attribute: ok }\n",
    );
    let Got { batch, noticed, .. } = read(&files(&schema, &folder.path("a.h5")));
    let f = "h5py.File('a.h5')";
    let text = |path: &str| folder.ask(&format!("[v.decode() for v in {f}{path}]"));
    assert_same(&json(&batch["variable"]), &text("['variable'][:]"));
    assert_same(&json(&batch["fixed"]), &text("['fixed'][:]"));
    assert_same(&json(&batch["second"]), &text("['pairs'][:, 1]"));
    assert_same(&json(&batch["flag"]), &folder.ask(&format!("{f}['flag'][:]")));
    assert_same(&json(&batch["kind"]), &folder.ask("[{-1: 'b', 0: 'c', 1: 'light'}.get(i % 4 - 1) for i in range(9000)]"));
    assert_same(&json(&batch["number"]), &folder.ask(&format!("{f}['kind'][:]")));
    assert_same(&json(&batch["code"]), &folder.ask("[{0: 'pion', 2: 'muon'}.get(i % 3) for i in range(9000)]"));
    assert_eq!(noticed["values of `code` without a name"], 3000);
    assert_eq!(noticed["values of `kind` without a name"], 2250);
    // h5py itself swaps the bytes of big-endian lists when it reads them: what was written is the oracle.
    assert_same(&json(&batch["tracks"]), &folder.ask("[[k + i / 8 for k in range(i % 7)] for i in range(9000)]"));
    assert_eq!(batch["narrow"].as_list::<i32>().values().data_type(), &DataType::Float64);
    assert_eq!(json(&batch["narrow"]), json(&batch["tracks"]));
    assert_same(&json(&batch["y"]), &folder.ask(&format!("list({f}['xyz'][:, 1])")));
    let record =
        "[dict(id=r['id'], name=r['name'].decode(), pos=r['pos'], in_t=r['in']['t']) for r in h5py.File('a.h5')['t'][:]]";
    assert_same(&json(&batch["t"]), &folder.ask(record));
    assert_same(&json(&batch["t_name"]), &folder.ask("['odd' if i % 2 else 'even' for i in range(9000)]"));
    assert_same(&json(&batch["t_pos"]), &folder.ask(&format!("{f}['t']['pos']")));
    assert_eq!(column::numbers(&batch, "t_in_t").unwrap(), [0.5; 9000]);
    assert_eq!(json(&batch["some"])[7], serde_json::json!({ "name": "odd", "in_t": 0.5 }));
    assert_eq!(json(&batch["run"])[8999], 6229);
    assert_eq!(json(&batch["detector"])[8999], "NEXT-White");
    assert_eq!(json(&batch["voltage"])[0], 2.5);
    assert_eq!(column::label(&batch.schema(), "voltage"), "voltage [kV]");
    assert_eq!((&json(&batch["version"])[3], &json(&batch["ok"])[4]), (&"2.1".into(), &true.into()));
    // What cannot be a column says what would be right.
    let wrong = |columns: &str| refused(&files(&folder.schema(columns), &folder.path("a.h5")));
    let said = wrong("  x: { dataset: t, attribute: versoin }\n");
    assert!(said.contains("no attribute `versoin` of `t`; it has ok, version"), "{said}");
    let said = wrong("  x: { attribute: voltage }\n  y: { dataset: pairs }\n  z: { dataset: variable, as: f32 }\n");
    for what in [
        "holds 2 numbers; choose one with `at`",
        "several for each event; choose one with `at`",
        "`as` and `kind` are for numbers",
    ] {
        assert!(said.contains(what), "{what} in {said}");
    }
}

#[test]
fn several_values_of_a_cell_are_one_hit() {
    let folder = Folder::of(
        "
n = 50
e = (np.random.rand(n, 4, 6) * (np.random.rand(n, 4, 6) < .3)).astype('f4'); t = np.where(e > .5, np.random.rand(n, 4, 6), 0); t[0, 0, 0] = 3
with h5py.File('a.h5', 'w') as f:
    f.create_dataset('e', data=e, chunks=(7, 4, 6), compression='gzip', shuffle=True); f['t'] = t
    f['both'] = np.stack([e, t.astype('f4')], -1); f['flat'] = e.reshape(n, 24); f['short'] = t[:9]",
    );
    let schema = folder.schema(
        "  each: { values: { energy: { dataset: e, unit: GeV }, time: { dataset: t, as: f32, unit: ns } } }
  both: { dataset: both, values: [energy, time], dims: [4, 6] }\n  cut: { dataset: both, values: [energy, time], threshold: 0.5 }
  shaped: { dataset: flat, reshape: [4, 6], value: energy }\n  time: { dataset: both, at: [\":\", 1], kind: hits }\n",
    );
    let Got { batch, noticed, .. } = read(&files(&schema, &folder.path("a.h5")));
    let (e, t) =
        (floats(&folder.ask("h5py.File('a.h5')['e'][:]")), floats(&folder.ask("h5py.File('a.h5')['t'][:].astype('f4')")));
    for name in ["each", "both"] {
        assert_eq!(hits::value_names(batch.schema().field_with_name(name).unwrap()), ["energy", "time"]);
        assert_eq!(hits::shape(batch.schema().field_with_name(name).unwrap()).unwrap(), [4, 6]);
        assert_eq!((dense(&batch, name, 0), dense(&batch, name, 1)), (e.clone(), t.clone()), "{name}");
        let hot = e.iter().zip(&t).filter(|(e, t)| **e != 0.0 || **t != 0.0).count();
        assert_eq!(batch[name].as_list::<i32>().values().len(), hot);
    }
    assert_eq!(dense(&batch, "time", 0), t);
    assert_eq!(
        (dense(&batch, "shaped", 0), hits::shape(batch.schema().field_with_name("shaped").unwrap()).unwrap()),
        (e.clone(), vec![4, 6])
    );
    let kept: Vec<f32> = e.iter().map(|v| if *v < 0.5 { 0.0 } else { *v }).collect();
    assert_eq!(dense(&batch, "cut", 0), kept);
    assert!(noticed["cells of `cut` dropped below the threshold"] > 0);
    let said =
        refused(&files(&folder.schema("  x: { values: { a: { dataset: e }, b: { dataset: short } } }\n"), &folder.path("a.h5")));
    assert!(said.contains("`short` has 9 events of shape (4, 6), `e` 50 of shape (4, 6)"), "{said}");
    let said = refused(&files(&folder.schema("  x: { dataset: both, values: [a, b, c] }\n"), &folder.path("a.h5")));
    assert!(said.contains("the last axis has a place for each of a, b, c"), "{said}");
}

#[test]
fn addresses_are_tried_in_order_and_what_a_file_may_lack_is_missing() {
    let folder = Folder::of(
        "
with h5py.File('a.h5', 'w') as f: f['energy'] = np.arange(4.); f['new'] = np.arange(4); f['t'] = np.zeros(4, [('x', 'f4')])
with h5py.File('b.h5', 'w') as f: f['Event/energy'] = np.arange(3.) + 10; f['t'] = np.zeros(3, [('x', 'f4'), ('z', 'f4')])
with h5py.File('c.h5', 'w') as f: f['target'] = np.arange(10.).reshape(2, 1, 5); f['t'] = np.zeros(2, [('x', 'f4')])",
    );
    let schema = folder.schema(
        "  energy: { dataset: [energy, Event/energy, { dataset: target, at: [0, 1] }] }\n  new: { dataset: new, optional: true }
  z: { dataset: t, member: z, optional: true }\n  never: { dataset: never, optional: true }\n  typed: { dataset: never, as: f32, optional: true }\n",
    );
    let got = read(&files(&schema, &folder.path("*.h5")));
    assert_eq!(json(&got.batch["energy"]), serde_json::json!([0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 1.0, 6.0]));
    assert_eq!(json(&got.batch["new"]), serde_json::json!([0, 1, 2, 3, null, null, null, null, null]));
    assert_eq!(json(&got.batch["z"]), serde_json::json!([null, null, null, null, 0.0, 0.0, 0.0, null, null]));
    assert_eq!(got.batch["typed"].null_count(), 9);
    assert!(got.batch.column_by_name("never").is_none());
    for said in ["2 of 3 files without `new`: no value there", "no file has `never`, so it is no column"] {
        assert!(got.planned.remarks.iter().any(|r| r.starts_with(said)), "{said} in {:?}", got.planned.remarks);
    }
    let said = refused(&files(&folder.schema("  e: { dataset: [Energies, enrgy] }\n"), &folder.path("a.h5")));
    assert!(said.contains("no dataset `Energies` or `enrgy`"), "{said}");
}

#[test]
fn rows_that_fail_a_check_are_cut_and_counted_or_cost_their_unit() {
    let folder = Folder::of(
        "
for name, pdg in (('ele', 11), ('pi', 211)):
    with h5py.File(name + '.h5', 'w') as f:
        e = np.arange(30.); e[3] = np.nan; e[4] = -1; e[5] = np.inf
        f['energy'] = e; f['pdg'] = np.full(30, pdg); f['pdg'][7] = -pdg; f['pdg'][8] = 22
        im = np.zeros((30, 8), 'f4'); im[9, 3] = np.nan; im[10, 2] = 5; f['image'] = im
        f.create_dataset('word', data=['good'] * 28 + ['bad', 'odd'], dtype=h5py.string_dtype())",
    );
    let each = [("Electron", folder.path("ele.h5")), ("pion", folder.path("pi.h5"))];
    let checks = |pdg: &str| {
        folder.schema(&format!(
            "  energy: {{ dataset: energy, check: {{ finite: true, range: [0, 1000] }} }}\n  pdg: {{ dataset: pdg, check: {{ class: {{ electron: [11, -11], pion: [211] }}{pdg} }} }}
  image: {{ dataset: image, check: {{ finite: true }} }}\n  word: {{ dataset: word, check: {{ one_of: [good, odd] }} }}\n"
        ))
    };
    let got = read(&samples(&checks(""), &each));
    let rows: Vec<u64> = got.batch["row"].as_primitive::<UInt64Type>().values().to_vec();
    let left = |also: &[u64]| (0..30).filter(|r| ![3, 4, 5, 8, 9, 28].contains(r) && !also.contains(r)).collect::<Vec<u64>>();
    assert_eq!(rows, [left(&[]), left(&[7])].concat(), "rows keep their numbers");
    assert_eq!(got.cut, 6 + 7);
    let said = |what: &str| got.noticed[&format!("rows cut because {what}")];
    assert_eq!((said("`energy` is not finite"), said("`energy` is not in 0 to 1000")), (4, 2));
    assert_eq!((said("`pdg` is not that of the sample `Electron`"), said("`pdg` is not that of the sample `pion`")), (1, 2));
    assert_eq!((said("`image` is not finite"), said("`word` is none of good, odd")), (2, 2));
    assert_eq!(got.noticed.values().sum::<u64>(), got.cut, "each row is counted once");
    let got = read(&samples(&checks(", else: quarantine"), &each));
    assert_eq!(
        got.faults,
        ["row 8: `pdg` is not that of the sample `Electron`", "row 7: `pdg` is not that of the sample `pion`"]
    );
    // A check of what it cannot check is a mistake.
    let said = refused(&files(&folder.schema("  word: { dataset: word, check: { finite: true } }\n"), &folder.path("ele.h5")));
    assert!(said.contains("texts are checked by a `one_of` of texts"), "{said}");
    let said = refused(&files(
        &folder.schema("  e: { dataset: energy, check: { range: [5, 1] } }\n  p: { dataset: pdg, check: {} }\n"),
        &folder.path("ele.h5"),
    ));
    assert!(said.contains("in this order") && said.contains("a `check` says"), "{said}");
}

#[test]
fn groups_of_a_split_file_are_sections_of_its_rows() {
    let folder = Folder::of(
        "
for name, groups in (('a.h5', dict(train=20, val=5, test=7)), ('b.h5', dict(train=3, test=2))):
    with h5py.File(name, 'w') as f:
        for g, n in groups.items():
            for k in range(4): f.create_dataset(f'{g}/em_barrel_Lr{k}', data=np.random.rand(n, 4, 5 + k) * (np.random.rand(n, 4, 5 + k) < .5), chunks=(min(3, n), 4, 5 + k), compression='gzip')
            f[f'{g}/p_truth_E'] = np.arange(n) + 100. * len(g); f[f'{g}/p_e'] = np.arange(n) * 1.5
            if name == 'a.h5':
                f[f'{g}/mcChannelNumber'] = np.full(n, 361106)
                for image in ('tile_gap_Lr1', 'time_em_barrel_Lr2'): f[f'{g}/{image}'] = np.random.rand(n, 4, 5)",
    );
    let got = read(&files("deepcalo", &folder.path("*.h5")));
    let parts = "[(n, g) for n, gs in (('a', ['train', 'val', 'test']), ('b', ['train', 'test'])) for g in gs]";
    let of = |key: &str| folder.ask(&format!("[v for n, g in {parts} for v in h5py.File(n + '.h5')[g + '/{key}'][:].tolist()]"));
    assert_same(&json(&got.batch["energy"]), &of("p_truth_E"));
    assert_eq!(dense(&got.batch, "em_barrel_2", 0), floats(&of("em_barrel_Lr2")));
    assert_same(
        &json(&got.batch["split"]),
        &folder.ask(&format!("[g for n, g in {parts} for _ in h5py.File(n + '.h5')[g + '/p_e']]")),
    );
    let rows: Vec<u64> = (0..32).chain(0..5).collect();
    assert_eq!(got.batch["row"].as_primitive::<UInt64Type>().values()[..], rows);
    assert_eq!(got.batch["channel"].null_count(), 5);
    // Images that only one file has.
    assert_eq!((got.batch["tile_gap_1"].null_count(), got.batch["time_em_barrel_2"].null_count()), (5, 5));
    assert!(got.batch.column_by_name("em_endcap_0").is_none(), "no file has it");
    let said = refused(&files("deepcalo", &Folder::of("h5py.File('c.h5', 'w')['x'] = [1]").path("c.h5")));
    assert!(!said.is_empty());
}

/// Images and a truth in every layout of LCD files, and what else the layout has.
const LCD: &str = "
n = 40
ecal = (np.random.rand(n, 25, 25, 25) * (np.random.rand(n, 25, 25, 25) < .1)); hcal = np.random.rand(n, 5, 5, 60) * (np.random.rand(n, 5, 5, 60) < .2)
e = 10 + 500 * np.random.rand(n); l0 = np.stack([np.zeros(n), e, e * .9, e * 0, e * 0], 1)[:, None]
hot = np.eye(4)[np.arange(n) % 4]
def w(name, **sets):
    with h5py.File(name + '.h5', 'w') as f:
        for k, v in sets.items(): f.create_dataset(k.replace('__', '/'), data=v)
new = {f'{d}moment{x}{i}': np.random.rand(n) for d in ('ECAL', 'HCAL') for x in 'XYZ' for i in range(6)}
new |= {f'{d}_{k}': np.random.rand(n) for d in ('ECAL', 'HCAL') for k in ('E', 'nHits', 'ratioFirstLayerToTotalE', 'ratioFirstLayerToSecondLayerE')}
new |= dict(HCAL_ECAL_ERatio=e, HCAL_ECAL_nHitsRatio=e)
old = {f'{d}Moment{i}{x}': np.random.rand(n) for d in ('ECAL', 'HCAL') for x in 'XYZ' for i in range(1, 7)}
old |= {f'{d}{k}': np.random.rand(n) for d in ('ECAL', 'HCAL') for k in ('MeasuredEnergy', 'NumberOfHits')} | dict(ECAL_HCAL_ERatio=e, ECAL_HCAL_nHitsRatio=e)
w('l0', ECAL=ecal, HCAL=hcal, target=l0)
w('v1', ECAL=ecal, HCAL=hcal, target=np.stack([np.full(n, 11.), e], 1))
w('filtered', good_ECAL=ecal, good_HCAL=hcal[:30], good_target=np.stack([e, e], 1))
w('filtered_right', good_ECAL=ecal, good_HCAL=hcal, good_target=np.stack([e * 0 + 211, e], 1))
w('v2', ECAL=ecal, HCAL=hcal, energy=e, pdgID=np.full(n, 22.), conversion=np.arange(n) % 2, **new)
w('v2_old', ECAL=ecal, HCAL=hcal, Energy=e, pdgID=np.full(n, 22.), **old)
w('features', Energy=e, pdgID=np.full(n, 22.), **old)
w('v3', ECAL=ecal[:, :5, :5], HCAL=hcal, pdgID=np.full(n, 22))
w('v4', ECAL__ECAL=ecal, HCAL__HCAL=hcal, Event__energy=e, Event__px=e, Event__py=e * 0, Event__pz=e * 0, Event__conversion=e * 0, pdgID=np.full(n, -211), N_Subjettiness__bestJets1=np.random.rand(n, 3))
z = np.zeros
w('merged', ECAL=np.concatenate([ecal, z((16, 25, 25, 25))]), HCAL=np.concatenate([hcal, z((16, 5, 5, 60))]), OneHot=np.concatenate([hot, z((16, 4))]), index=np.arange(n + 16), target=np.concatenate([l0, z((16, 1, 5))]))
with h5py.File('dlkit.h5', 'w') as f:
    for i, v in enumerate((ecal, hcal, l0, hot)): f.create_dataset(f'dset{i}', data=v, compression='lzf', chunks=(16,) + v.shape[1:], maxshape=(None,) + v.shape[1:])
t = np.zeros(n, [(k, 'f4') for k in ('gunpx', 'gunpy', 'gunpz', 'm', 'gunE', 'hcaltote', 'ecaltote')] + [(k, 'i4') for k in ('pdgID', 'nhcalhits', 'necalhits')]); t['gunE'] = e
w('flat', flatNtuple__table=t)";

#[test]
fn all_layouts_of_lcd_files_give_the_same_names() {
    let folder = Folder::of(LCD);
    let energies = |file: &str, expression: &str| floats(&folder.ask(&format!("h5py.File('{file}.h5'){expression}")));
    let truth = energies("v1", "['target'][:, 1].astype('f4')");
    let ecal = energies("l0", "['ECAL'][:].astype('f4')");
    for (schema, file, image, energy) in [
        ("lcd-l0", "l0", true, true),
        ("lcd-v1", "v1", true, true),
        ("lcd-v1-filtered", "filtered_right", true, true),
        ("lcd-v2", "v2", true, true),
        ("lcd-v2", "v2_old", true, true),
        ("lcd-v2-features", "features", false, true),
        ("lcd-v3", "v3", false, false),
        ("lcd-v4", "v4", true, true),
        ("lcd-merged", "merged", true, true),
        ("lcd-dlkit", "dlkit", true, true),
        ("lcd-flat-ntuple", "flat", false, true),
    ] {
        let path = folder.path(&format!("{file}.h5"));
        let got = read(&files(schema, &path));
        assert_eq!(got.batch.num_rows(), 40, "{schema}");
        if energy {
            let found: Vec<f32> = column::numbers(&got.batch, "energy").unwrap().into_iter().map(|v| v as f32).collect();
            assert_eq!(found, truth, "{schema}");
        }
        if image {
            assert_eq!(dense(&got.batch, "ecal", 0), ecal, "{schema}");
        }
        assert_eq!(got.cut, if schema == "lcd-merged" { 16 } else { 0 }, "{schema}");
        // `inspect` names it.
        let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
        let said = nearest(&header);
        assert!(said.starts_with(&format!("fits the schema `{schema}`: ")), "{file}: {said}");
    }
    let got = read(&files("lcd-merged", &folder.path("merged.h5")));
    assert_same(&json(&got.batch["class"]), &folder.ask("[['Pi0', 'Ele', 'ChPi', 'Gamma'][i % 4] for i in range(40)]"));
    assert_eq!(got.noticed["rows cut because `energy` is not in 1 to 1000"], 16);
    let got = read(&files("lcd-v2", &folder.path("v2*.h5")));
    assert_eq!(got.batch["conversion"].null_count(), 40);
    assert_same(
        &json(&got.batch["ecal_moment_x3"]),
        &folder.ask("h5py.File('v2.h5')['ECALmomentX3'][:].tolist() + h5py.File('v2_old.h5')['ECALMoment4X'][:].tolist()"),
    );
    let said = refused(&files("lcd-v1-filtered", &folder.path("filtered.h5")));
    assert!(said.contains("rows do not belong together: `good_ECAL` has 40, `good_HCAL` has 30, `good_target` has 40"), "{said}");
    let header = probe(&folder.path("filtered.h5"), &runtime()).unwrap()[0].header.clone().unwrap();
    assert!(
        nearest(&header).contains("nearest is `lcd-v1-filtered`, but for:\n  datasets of unequal lengths"),
        "{}",
        nearest(&header)
    );
}

#[test]
fn time_projection_chambers_give_images_and_lists() {
    let folder = Folder::of(
        "
n = 4
im = np.zeros((n, 2, 240, 4096), 'f2'); im[:, :, 7, 100:140] = np.random.rand(n, 2, 40); im[1, 0, 3, 3] = -1
for name, keys in (('new', dict(images=im, Energy=np.arange(4.), nu_energy_truth=np.arange(4.), Px=np.arange(4.))), ('old', dict(features=im, Eng=np.arange(4.), enu_truth=np.arange(4.), pdg=np.full(4, 13)))):
    with h5py.File(name + '.2d.h5', 'w') as f:
        for k, v in (keys | dict(Track_length=np.ones(4), lep_mom_truth=np.ones(4), mode_truth=np.zeros(4))).items(): f.create_dataset(k, data=v, chunks=(1,) + v.shape[1:], compression='gzip')
c = np.random.rand(n, 6, 3).astype('f4'); v = np.random.rand(n, 6).astype('f4')
with h5py.File('padded.3d.h5', 'w') as f: f['trajectory/C'] = c; f['trajectory/V'] = v
with h5py.File('lists.3d.h5', 'w') as f:
    cc = f.create_dataset('images3D/C', (n, 3), dtype=h5py.vlen_dtype('f4')); vv = f.create_dataset('images3D/V', (n,), dtype=h5py.vlen_dtype('f4'))
    for i in range(n):
        vv[i] = v[i]
        for k in range(3): cc[i, k] = c[i, :, k]
with h5py.File('hits.h5', 'w') as f: f['Hits/C'] = c; f['Hits/V'] = v
with h5py.File('wires.h5', 'w') as f:
    for k in 'XYZE':
        d = f.create_dataset('Events/' + k, (n,), dtype=h5py.vlen_dtype('f8'), chunks=(2,), compression='gzip')
        for i in range(n): d[i] = np.arange(i) + .25
t = np.zeros((n, 20, 20, 20), 'f4'); t[:, 3, 4, 5] = 7
with h5py.File('dense.h5', 'w') as f: f.create_dataset('3DImages', data=t, chunks=(1, 20, 20, 20), compression='gzip')",
    );
    for (file, energy, lacks) in [("new.2d.h5", "Energy", "pdg"), ("old.2d.h5", "Eng", "px")] {
        let got = read(&files("lariat-2d", &folder.path(file)));
        assert_same(&json(&got.batch["energy"]), &folder.ask(&format!("h5py.File('{file}')['{energy}'][:]")));
        assert_eq!(got.batch["nu_energy"].null_count(), 0);
        assert!(got.planned.remarks.iter().any(|r| r.contains(lacks)), "{:?}", got.planned.remarks);
        let list = got.batch["image"].as_list::<i32>();
        assert_eq!(list.values().as_struct().column(1).data_type(), &DataType::Float16);
        let sum = folder.ask("float(h5py.File('new.2d.h5')['images'][:].astype('f8').sum())").as_f64().unwrap();
        let values =
            list.values().as_struct().column(1).as_primitive::<Float16Type>().values().iter().map(|v| v.to_f64()).sum::<f64>();
        assert!((values - sum).abs() < 1e-9, "{values} {sum}");
    }
    let x = |file: &str, key: &str, k: usize| folder.ask(&format!("h5py.File('{file}')['{key}'][:, :, {k}]"));
    for file in ["padded.3d.h5", "lists.3d.h5"] {
        let got = read(&files("lariat-3d", &folder.path(file)));
        for (k, name) in ["x", "y", "z"].into_iter().enumerate() {
            assert_same(&json(&got.batch[name]), &x("padded.3d.h5", "trajectory/C", k));
        }
        assert_same(&json(&got.batch["charge"]), &folder.ask("h5py.File('padded.3d.h5')['trajectory/V'][:]"));
    }
    let got = read(&files("next-hits", &folder.path("hits.h5")));
    assert_same(&json(&got.batch["z"]), &x("hits.h5", "Hits/C", 2));
    let got = read(&files("lariat-wires", &folder.path("wires.h5")));
    assert_eq!(json(&got.batch["p"]), serde_json::json!([[], [0.25], [0.25, 1.25], [0.25, 1.25, 2.25]]));
    let got = read(&files("next-dense", &folder.path("dense.h5")));
    let cells =
        got.batch["voxels"].as_list::<i32>().values().as_struct().column(0).as_primitive::<UInt16Type>().values().to_vec();
    assert_eq!(cells, [3 * 400 + 4 * 20 + 5; 4]);
}

#[test]
fn calorimeter_challenge_and_jets() {
    let folder = Folder::of(
        "
for name, cells in (('1', 368), ('2', 6480), ('3', 40500)):
    with h5py.File(name + '.hdf5', 'w') as f: f['showers'] = np.random.rand(5, cells) * (np.random.rand(5, cells) < .1); f['incident_energies'] = np.random.rand(5, 1) * 1000
j = np.zeros(6, [('pt', 'f4'), ('HadronConeExclTruthLabelID', 'i4'), ('flavour_label', 'i4')]); j['pt'] = np.arange(6); j['HadronConeExclTruthLabelID'] = [0, 4, 5, 15, 0, 5]
t = np.zeros((6, 4), [('d0', 'f4'), ('hits', 'u1'), ('valid', '?')]); t['d0'] = np.arange(24).reshape(6, 4); t['valid'] = np.arange(4) < np.arange(6)[:, None]
with h5py.File('jets.h5', 'w') as f: f.create_dataset('jets', data=j, chunks=(4,), compression='gzip'); f.create_dataset('tracks', data=t, chunks=(4, 4), compression='lzf')",
    );
    for (schema, file, shape) in
        [("calochallenge", "1", vec![368]), ("calochallenge-2", "2", vec![45, 16, 9]), ("calochallenge-3", "3", vec![45, 50, 18])]
    {
        let path = folder.path(&format!("{file}.hdf5"));
        let got = read(&files(schema, &path));
        assert_eq!(hits::shape(got.batch.schema().field_with_name("shower").unwrap()).unwrap(), shape);
        assert_eq!(
            dense(&got.batch, "shower", 0),
            floats(&folder.ask(&format!("h5py.File('{file}.hdf5')['showers'][:].astype('f4')")))
        );
        assert_same(&json(&got.batch["energy"]), &folder.ask(&format!("h5py.File('{file}.hdf5')['incident_energies'][:, 0]")));
        let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
        assert!(nearest(&header).starts_with(&format!("fits the schema `{schema}`")), "{}", nearest(&header));
    }
    let said = refused(&files("calochallenge-2", &folder.path("1.hdf5")));
    assert!(said.contains("368 cells do not make the shape (45, 16, 9)"), "{said}");
    let got = read(&files("atlas-ftag", &folder.path("jets.h5")));
    assert_eq!(json(&got.batch["flavour"]), serde_json::json!(["light", "c", "b", "tau", "light", "b"]));
    assert_same(&json(&got.batch["pt"]), &folder.ask("h5py.File('jets.h5')['jets']['pt']"));
    let tracks = folder.ask("[[dict(d0=x['d0'], hits=x['hits'], valid=True) for x in row if x['valid']] for row in h5py.File('jets.h5')['tracks'][:]]");
    assert_same(&json(&got.batch["tracks"]), &tracks);
}

#[test]
fn real_jets_have_the_values_that_h5py_reads() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("skipped: CALOSTREAM_CORPUS is not set");
        return;
    };
    let got = read(&files("atlas-ftag", corpus.join("ftag/*.h5").to_str().unwrap()));
    assert_eq!(got.batch.num_rows(), 257);
    let script = "
f = h5py.File('ftag/ftag_mock_257jets_3tracks.h5')
print(json.dumps([f['jets']['pt'].tolist(), [[x['d0'] for x in row if x['valid']] for row in f['tracks'][:]], f['jets']['n_tracks'].tolist()], default=lambda v: v.tolist()))";
    let wanted: serde_json::Value = serde_json::from_str(&python(&corpus, script)).unwrap();
    assert_same(&json(&got.batch["pt"]), &wanted[0]);
    let tracks = json(&got.batch["tracks"]);
    let d0: Vec<Vec<serde_json::Value>> =
        tracks.as_array().unwrap().iter().map(|row| row.as_array().unwrap().iter().map(|t| t["d0"].clone()).collect()).collect();
    assert_same(&serde_json::json!(d0), &wanted[1]);
    assert_eq!(
        got.batch["n_tracks"].as_primitive::<Int32Type>().values().to_vec(),
        serde_json::from_value::<Vec<i32>>(wanted[2].clone()).unwrap()
    );
}

#[test]
fn images_and_lists_that_a_file_lacks_are_missing_or_empty() {
    let folder = Folder::of(
        "
def image(f, name, n): f.create_dataset(name, data=np.random.rand(n, 3, 4).astype('f4') * (np.random.rand(n, 3, 4) < .5))
# Most files lack most of it, and the first one lacks all.
for name, n, has in (('a', 4, ''), ('b', 3, 'gdv'), ('c', 5, ''), ('d', 2, 'gl')):
    with h5py.File(name + '.h5', 'w') as f:
        image(f, 'barrel', n); f['energy'] = np.arange(n) * 1.0
        if 'g' in has: image(f, 'gap', n)
        if 'd' in has: image(f, 'full', n)
        if 'v' in has: image(f, 'E', n); image(f, 'T', n)
        if 'l' in has:
            v = f.create_dataset('tracks', (n,), dtype=h5py.vlen_dtype('f4'))
            for i in range(n): v[i] = np.arange(i + 1)",
    );
    let columns = |how: &str| {
        format!(
            "  barrel: {{ dataset: barrel, kind: hits }}\n  energy: {{ dataset: energy }}\n  gap: {{ dataset: gap, kind: hits, as: f32, {how} }}\n  \
             full: {{ dataset: full, kind: dense, optional: true }}\n  tracks: {{ dataset: tracks, as: f64, {how} }}\n  \
             both: {{ values: {{ e: {{ dataset: E }}, t: {{ dataset: T }} }}, {how} }}\n"
        )
    };
    let got = read(&files(&folder.schema(&columns("optional: true")), &folder.path("*.h5")));
    assert!(got.faults.is_empty(), "{:?}", got.faults);
    let there = |name: &str| -> Vec<usize> { (0..14).filter(|row| got.batch[name].is_valid(*row)).collect() };
    assert_eq!((there("gap"), there("full")), (vec![4, 5, 6, 12, 13], vec![4, 5, 6]));
    assert_eq!((there("tracks"), there("both")), (vec![12, 13], vec![4, 5, 6]));
    assert_eq!(got.batch["barrel"].null_count(), 0);
    // What is there is right, what is not is no number.
    let of = |files: &str, key: &str| {
        floats(&folder.ask(&format!("[v for n in '{files}' for v in h5py.File(n + '.h5')['{key}'][:].tolist()]")))
    };
    let gap = dense(&got.batch, "gap", 0);
    let (known, unknown): (Vec<f32>, Vec<f32>) = gap.iter().partition(|v| !v.is_nan());
    assert_eq!((known, unknown.len()), (of("bd", "gap"), 9 * 12));
    assert_eq!(dense(&got.batch, "full", 0)[4 * 12..7 * 12], of("b", "full"));
    assert_eq!(dense(&got.batch, "both", 1)[4 * 12..7 * 12], of("b", "T"));
    assert!(got.planned.remarks.iter().any(|r| r == "2 of 4 files without `gap`: no value there"), "{:?}", got.planned.remarks);
    // Nothing there, said by the schema.
    let got = read(&files(&folder.schema(&columns("absent: empty")), &folder.path("*.h5")));
    assert_eq!((got.batch["gap"].null_count(), got.batch["tracks"].null_count(), got.batch["both"].null_count()), (0, 0, 0));
    let gap = dense(&got.batch, "gap", 0);
    assert_eq!((&gap[4 * 12..7 * 12], &gap[12 * 12..]), (&of("b", "gap")[..], &of("d", "gap")[..]));
    assert!(gap[..4 * 12].iter().chain(&gap[7 * 12..12 * 12]).all(|v| v.to_bits() == 0));
    assert!(got.planned.remarks.iter().any(|r| r == "2 of 4 files without `gap`: empty there"), "{:?}", got.planned.remarks);
    // One value of a cell without the other is neither.
    let half = "  barrel: { dataset: barrel }\n  both: { values: { e: { dataset: E }, t: { dataset: X } }, optional: true }\n";
    let said = refused(&files(&folder.schema(half), &folder.path("b.h5")));
    assert!(said.contains("value `t`: no dataset `X`"), "{said}");
}

#[test]
fn the_built_in_schemas_are_right_and_say_what_they_are() {
    for (name, text) in BUILT_IN {
        let schema = Schema::parse(text).unwrap_or_else(|wrong| panic!("{name}: {wrong:?}"));
        assert_eq!(schema.name, *name);
        assert!(text.starts_with("# "), "{name} begins with a comment that says what it is");
    }
    let mut there: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas"))
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    there.sort();
    known.sort_unstable();
    assert_eq!(there, known, "each file of `schemas/` is built in");
}

#[test]
fn a_mistake_in_a_column_says_what_would_be_right() {
    for (columns, said) in [
        ("  x: { dataset: a, kind: dense, absent: empty }\n", "only hits and lists can be empty"),
        ("  x: { dataset: a, absent: nothing }\n", "nothing"),
        ("  split: { dataset: a }\n", "this name says where a row came from"),
        ("  \"x_*\": { dataset: a }\n", "a star in a name stands for the `member`s"),
        ("  x: { dataset: a, at: [\":\", 0, 1] }\n", "`at` fixes the first axes"),
        ("  x: { values: { cell: { dataset: a } } }\n", "none is `cell`"),
        ("  x: { dataset: a, values: { e: { dataset: b } } }\n", "each of the `values` has its own `dataset`"),
        ("  x: { values: { e: { dataset: b, kind: dense } } }\n", "the value `e` has a `dataset`"),
        ("  x: { dataset: [{ dataset: a, att: [1] }] }\n", "att"),
        ("  x: { dataset: a, valid: ok }\n", "`valid` is for a struct"),
        ("  x: { kind: number }\n", "`dataset` is missing or empty"),
        ("  x: { dataset: a, reshape: [0] }\n", "`reshape` are lengths above 0"),
    ] {
        let wrong = Schema::parse(&format!("schema: s\ncolumns:\n{columns}")).unwrap_err();
        assert!(wrong.iter().any(|(line, _, what)| *line == 3 && what.contains(said)), "{said} in {wrong:?}");
    }
}

#[test]
fn a_proposed_schema_takes_texts_lists_and_enums() {
    let folder = Folder::of(
        "
with h5py.File('a.h5', 'w') as f:
    f.create_dataset('word', data=['a', 'b', 'c'], dtype=h5py.string_dtype()); f.create_dataset('kind', data=[0, 1, 0], dtype=h5py.enum_dtype({'x': 0, 'y': 1}))
    v = f.create_dataset('list', (3,), dtype=h5py.vlen_dtype('f4'))
    for i in range(3): v[i] = np.arange(i)",
    );
    let header = probe(&folder.path("a.h5"), &runtime()).unwrap()[0].header.clone().unwrap();
    std::fs::write(folder.path("mine.yaml"), propose(&header, "mine")).unwrap();
    let got = read(&files(&folder.path("mine.yaml"), &folder.path("a.h5")));
    assert_eq!(json(&got.batch["word"]), serde_json::json!(["a", "b", "c"]));
    assert_eq!(json(&got.batch["kind"]), serde_json::json!(["x", "y", "x"]));
    assert_eq!(json(&got.batch["list"]), serde_json::json!([[], [0.0], [0.0, 1.0]]));
    assert!(nearest(&header).contains("none is near"), "{}", nearest(&header));
}

#[test]
fn archives_of_numpy_are_read_like_files_of_hdf5() {
    let folder = Folder::of(
        "
n = 300
x = np.random.rand(n, 15, 29).astype('f4') * (np.random.rand(n, 15, 29) < .2); y = np.random.rand(n, 12).astype('f4'); y[:, 0] = np.arange(n) % 3; y[:, 7:] = np.arange(n)[:, None] % 2
a = dict(x_data=x, mva_data=np.random.rand(n, 21).astype('f4'), y_data=y)
np.savez('a.npz', **a); np.savez_compressed('b.npz', **a, track_data=np.arange(n * 19.).reshape(n, 19))
np.savez_compressed('none.npz', x=np.zeros((0, 3)))
np.savez_compressed('odd.npz', big=np.arange(5, dtype='>i2'), word=np.array([b'a', b'bcd', b'', b'x', b'yz']), flag=np.arange(5) > 2, half=np.arange(5).astype('f2'), f=np.asfortranarray(np.ones((5, 4))), u=np.array(['x'] * 5))",
    );
    for file in ["a", "b"] {
        let path = folder.path(&format!("{file}.npz"));
        let step = calostream_operators::read::read_npz::ReadNpz {
            schema: Placed::unplaced("cms-eml".into()),
            files: Some(Patterns(vec![Placed::unplaced(path.clone())])),
            samples: None,
            weights: None,
        };
        let hdf5 = files("cms-eml", &path);
        assert_eq!(step.needs(), hdf5.needs());
        let got = read(&hdf5);
        let array = |key: &str| folder.ask(&format!("np.load('{file}.npz')['{key}']"));
        assert_eq!(dense(&got.batch, "image", 0), floats(&array("x_data")), "{file}");
        assert_eq!(floats(&json(&got.batch["inputs"])), floats(&array("mva_data")), "{file}");
        assert_same(&json(&got.batch["pt"]), &folder.ask(&format!("np.load('{file}.npz')['y_data'][:, 1]")));
        assert_same(&json(&got.batch["class"]), &folder.ask("[['unmatched', 'heavy', 'signal'][i % 3] for i in range(300)]"));
        if file == "b" {
            assert_same(&json(&got.batch["tracks"]), &array("track_data"));
        }
        let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
        assert!(nearest(&header).starts_with("fits the schema `cms-eml`: 300 events"), "{}", nearest(&header));
    }
    let schema = folder.schema(
        "  big: { dataset: big }\n  word: { dataset: word }\n  flag: { dataset: flag }\n  half: { dataset: half, as: f32 }\n",
    );
    let got = read(&files(&schema, &folder.path("odd.npz")));
    assert_eq!(json(&got.batch["big"]), serde_json::json!([0, 1, 2, 3, 4]));
    assert_eq!(json(&got.batch["word"]), serde_json::json!(["a", "bcd", "", "x", "yz"]));
    assert_eq!(json(&got.batch["flag"]), serde_json::json!([false, false, false, true, true]));
    assert_eq!(json(&got.batch["half"]), serde_json::json!([0.0, 1.0, 2.0, 3.0, 4.0]));
    let said = refused(&files(&folder.schema("  f: { dataset: f }\n  u: { dataset: u }\n"), &folder.path("odd.npz")));
    assert!(said.contains("order of Fortran") && said.contains("it holds `<U1`, no numbers and no bytes"), "{said}");
    let got = read(&files(&folder.schema("  x: { dataset: x, kind: hits }\n"), &folder.path("none.npz")));
    assert_eq!(got.batch.num_rows(), 0);
    // Whatever is wrong with an archive costs it alone.
    let whole = std::fs::read(folder.path("b.npz")).unwrap();
    let mut wrong = 0;
    for seed in 0..120u64 {
        let mut bytes = whole.clone();
        let at = |k: u64| (column::event_key(seed, k, "damage") % whole.len() as u64) as usize;
        match seed % 3 {
            0 => bytes.truncate(at(0)),
            _ => (0..20).for_each(|k| bytes[at(k)] ^= 1 << (k % 8)),
        }
        std::fs::write(folder.path("bad.npz"), bytes).unwrap();
        let step = files("cms-eml", &folder.path("bad.npz"));
        let facts = look_up(&step);
        match step.plan(&facts, &[]) {
            Err(_) => wrong += 1,
            Ok(_) => wrong += usize::from(!read(&step).faults.is_empty()),
        }
    }
    assert!(wrong > 100, "{wrong} of 120 were found to be wrong");
}
