//! `read_hdf5` from the files to the batches, against files that h5py writes and values that h5py reads.

#![allow(clippy::unwrap_used)]

mod reading;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, Int16Type, Int32Type, UInt16Type, UInt32Type, UInt64Type};
use calostream_operators::hdf5::{probe, propose::propose};
use calostream_operators::read::read_hdf5::ReadHdf5;
use calostream_operators::schema::Schema;
use calostream_operators::work::{Runtime, Start, Work, Worker};
use calostream_operators::{Facts, Fault, Operator, Output, Placed, Planned, Problem, column, hits};
use oracle::interpreter;
use reading::{files, look_up, python, runtime, samples};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn plan(step: &ReadHdf5) -> (Facts, Result<Planned, Vec<Problem>>) {
    let facts = look_up(step);
    let planned = step.plan(&facts, &[]);
    (facts, planned)
}

/// Everything that the planned units give, each unit in one batch; `only` keeps these columns of the output.
fn read(step: &ReadHdf5, only: Option<&[&str]>) -> Vec<Result<RecordBatch, Fault>> {
    let (facts, planned) = plan(step);
    run(step, &facts, &planned.unwrap(), only)
}

fn run(step: &ReadHdf5, facts: &Facts, planned: &Planned, only: Option<&[&str]>) -> Vec<Result<RecordBatch, Fault>> {
    let mut output: Output = planned.outputs[0].clone();
    if let Some(only) = only {
        let keep: Vec<usize> =
            (0..output.schema.fields().len()).filter(|i| only.contains(&output.schema.field(*i).name().as_str())).collect();
        output.schema = Arc::new(output.schema.project(&keep).unwrap());
    }
    let runtime = runtime();
    let outputs = [output.clone()];
    let start = Start { worker: Worker { index: 0, peers: 1 }, facts, inputs: &[], outputs: &outputs, runtime: &runtime };
    let Work::Source(mut source) = step.start(&start).unwrap() else { panic!("not a source") };
    let one = |unit| {
        let batches: Vec<RecordBatch> = source.read(unit)?.collect::<Result<_, _>>()?;
        Ok(concat_batches(&output.schema, &batches)?)
    };
    planned.units.iter().map(one).collect()
}

fn all(step: &ReadHdf5) -> RecordBatch {
    let batches: Vec<RecordBatch> = read(step, None).into_iter().map(|b| b.unwrap_or_else(|fault| panic!("{fault}"))).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn glob(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// Writes a user's schema and gives its path.
fn schema_file(folder: &tempfile::TempDir, columns: &str) -> String {
    let path = folder.path().join("layout.yaml");
    std::fs::write(&path, format!("# A layout for a test.\nschema: layout\ncolumns:\n{columns}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Little LCD files: electrons and pions of `n` events.
const LCD: &str = "
def lcd(name, n, chunk=100, dtype='f4', shape=(25, 25, 25), target=None, rows=None, **how):
    with h5py.File(name, 'w') as f:
        ecal = np.random.rand(n, *shape) * (np.random.rand(n, *shape) < .12)
        hcal = np.random.rand(n, 5, 5, 60) * (np.random.rand(n, 5, 5, 60) < .4)
        how = how or dict(compression='gzip', compression_opts=2, shuffle=True)
        c = lambda *s: dict(chunks=(min(chunk, n),) + s, **how) if chunk else {}
        f.create_dataset('ECAL', data=ecal.astype(dtype), **c(*shape))
        f.create_dataset('HCAL', data=hcal[:rows].astype(dtype), **(c(5, 5, 60) if rows is None else {}))
        e = 10 + 500 * np.random.rand(n)
        f.create_dataset('target', data=np.stack([np.full(n, 11.), e], 1) if target is None else target, **(c(2) if target is None else {}))
";

/// sha256 of columns of HDF5 files, as numpy sees them.
fn sum_of(folder: &Path, expression: &str) -> String {
    python(folder, &format!("import hashlib\nprint(hashlib.sha256(np.ascontiguousarray({expression}).tobytes()).hexdigest())"))
        .trim()
        .into()
}

fn sha(bytes: impl AsRef<[u8]>) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn dense(batch: &RecordBatch, name: &str) -> Vec<f32> {
    let field = batch.schema().field_with_name(name).unwrap().clone();
    let cells = hits::shape(&field).unwrap().iter().product::<usize>();
    let mut all = vec![0f32; batch.num_rows() * cells];
    hits::to_dense(batch.column_by_name(name).unwrap(), cells, 0, 0, batch.num_rows(), &mut all).unwrap();
    all
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn lcd_files_give_the_images_that_h5py_reads() {
    let folder = tempfile::tempdir().unwrap();
    // Chunks with a short end, contiguous, unshuffled, big-endian and double precision, lzf: all as float32 hits.
    python(folder.path(), &format!("{LCD}
lcd('a.h5', 250); lcd('b.h5', 130, chunk=None); lcd('c.h5', 70, compression='gzip'); lcd('d.h5', 33, chunk=10, dtype='>f4')
lcd('e.h5', 20, chunk=7, dtype='f8'); lcd('f.h5', 41, chunk=16, compression='lzf', shuffle=True); lcd('g.h5', 30, chunk=8, fletcher32=True)"));
    let batch = all(&samples("lcd-v1", &[("electron", &glob(&folder, "*.h5"))]));
    assert_eq!(batch.num_rows(), 250 + 130 + 70 + 33 + 20 + 41 + 30);
    let every = |key: &str| format!("np.concatenate([h5py.File(n + '.h5')['{key}'][:].astype('<f4') for n in 'abcdefg'])");
    assert_eq!(sha(bytes_of(&dense(&batch, "ecal"))), sum_of(folder.path(), &every("ECAL")));
    assert_eq!(sha(bytes_of(&dense(&batch, "hcal"))), sum_of(folder.path(), &every("HCAL")));
    let energy: Vec<u8> = batch["energy"].as_primitive::<Float64Type>().values().iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(sha(energy), sum_of(folder.path(), "np.concatenate([h5py.File(n + '.h5')['target'][:,1] for n in 'abcdefg'])"));
    assert!(batch["pdg"].as_primitive::<Int32Type>().values().iter().all(|p| *p == 11));
    assert_eq!(column::samples(&batch.schema()), ["electron"]);
    assert_eq!(column::label(&batch.schema(), "energy"), "energy [GeV]");
    assert_eq!(hits::value_names(batch.schema().field_with_name("ecal").unwrap()), ["energy"]);
    // No hit is +0.
    let values = batch["ecal"].as_list::<i32>().values().as_struct().column(1).as_primitive::<Float32Type>().clone();
    assert!(values.values().iter().all(|v| v.to_bits() != 0));
    assert_eq!(values.null_count(), 0);
}

#[test]
fn a_column_that_nobody_reads_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\nlcd('a.h5', 50)"));
    // The images' chunks are damaged, the energies are not.
    let path = glob(&folder, "a.h5");
    let mut bytes = std::fs::read(&path).unwrap();
    let place: u64 =
        python(folder.path(), "print(h5py.File('a.h5')['ECAL'].id.get_chunk_info(0).byte_offset)").trim().parse().unwrap();
    bytes[place as usize + 50..place as usize + 1000].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let step = files("lcd-v1", &path);
    let batch = read(&step, Some(&["energy", "row"])).remove(0).unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (50, 2));
    let Err(Fault::Content(reason)) = read(&step, None).remove(0) else { panic!("damaged") };
    assert!(reason.contains("ECAL") && reason.contains("chunk [0, 0, 0, 0]"), "{reason}");
}

#[test]
fn units_interleave_the_samples_and_keep_provenance() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\n[lcd(f'Ele_{{i}}.h5', 20 + i) for i in range(3)]; lcd('Pi_0.h5', 9)"));
    let step = samples("lcd-v1", &[("pion", &glob(&folder, "Pi*.h5")), ("electron", &glob(&folder, "Ele*.h5"))]);
    let (facts, planned) = plan(&step);
    let mut planned = planned.unwrap();
    let order: Vec<String> =
        planned.units.iter().map(|u| PathBuf::from(&u.path).file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(order, ["Pi_0", "Ele_0", "Ele_1", "Ele_2"]);
    assert_eq!(planned.outputs[0].rows, Some(20 + 21 + 22 + 9));
    planned.units[2].file = 7;
    let batch = run(&step, &facts, &planned, None).remove(2).unwrap();
    assert_eq!(column::sample_numbers(&batch).unwrap(), [1; 21]);
    assert_eq!(batch["file"].as_primitive::<UInt32Type>().values()[..], [7; 21]);
    assert_eq!(batch["row"].as_primitive::<UInt64Type>().values()[..], (0..21).collect::<Vec<u64>>());
    let event = batch["event"].as_primitive::<UInt64Type>().value(5);
    assert_eq!(event, column::event_identity(&planned.units[2].fingerprint, 5));
}

#[test]
fn a_large_file_is_cut_at_chunks_and_a_copy_has_the_same_identity() {
    let folder = tempfile::tempdir().unwrap();
    python(
        folder.path(),
        "
for name in ('a.h5', 'copy.h5'):
    with h5py.File(name, 'w') as f:
        f.create_dataset('images', (25000, 64, 64), 'f4', chunks=(300, 64, 64), compression='gzip')[::1000, 3, 3] = 1
        f['label'] = np.arange(25000)",
    );
    let schema = schema_file(&folder, "  image: { dataset: images }\n  label: { dataset: label }\n");
    let step = files(&schema, &glob(&folder, "a.h5"));
    let (_, planned) = plan(&step);
    let planned = planned.unwrap();
    let firsts: Vec<u64> = planned.units.iter().map(|u| u.first).collect();
    assert_eq!(firsts, [0, 16500], "256 MiB are 16,384 rows, which is 16,500 in chunks of 300");
    assert_eq!(planned.units.iter().map(|u| u.rows).sum::<u64>(), 25000);
    let batch = all(&step);
    let hit = batch["image"].as_list::<i32>();
    assert_eq!(hit.values().len(), 25);
    assert_eq!(hit.value_length(7000), 1);
    assert_eq!(batch["label"].as_primitive::<arrow::datatypes::Int64Type>().value(24999), 24999);
    let (_, both) = plan(&files(&schema, &glob(&folder, "*.h5")));
    let both = both.unwrap();
    assert_eq!(both.units[0].fingerprint, both.units[2].fingerprint);
    assert!(both.remarks[0].contains("copy.h5 has the same content as"), "{:?}", both.remarks);
}

#[test]
fn files_that_do_not_fit_are_quarantined_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}
lcd('a.h5', 20); lcd('b_shape.h5', 20, shape=(5, 5, 25)); lcd('c_short.h5', 20, rows=14); lcd('d_l0.h5', 9, target=np.zeros((9, 1, 5)))
open('e_text.h5', 'w').write('no HDF5'); lcd('f_cut.h5', 200); lcd('g.h5', 5)
with h5py.File('h_other.h5', 'w') as f: f['Ecal'] = np.zeros((3, 25, 25, 25))
import os; os.truncate('f_cut.h5', os.path.getsize('f_cut.h5') // 2)"));
    let (_, planned) = plan(&samples("lcd-v1", &[("electron", &glob(&folder, "*.h5"))]));
    let planned = planned.unwrap();
    assert_eq!(planned.units.len(), 2);
    let reason = |name: &str| {
        let found = planned.quarantined.iter().find(|(path, _)| path.ends_with(name));
        found.unwrap_or_else(|| panic!("{name} in {:?}", planned.quarantined)).1.clone()
    };
    assert!(
        reason("b_shape.h5").contains("`ECAL` is float32 (20, 5, 5, 25); an event has the shape (5, 5, 25), not (25, 25, 25)")
    );
    assert!(reason("c_short.h5").contains("unequal lengths") && reason("c_short.h5").contains("`HCAL` has 14"));
    assert!(reason("d_l0.h5").contains("`target` is float64 (9, 1, 5)"), "{}", reason("d_l0.h5"));
    assert!(reason("e_text.h5").contains("file signature not found"), "{}", reason("e_text.h5"));
    assert!(reason("f_cut.h5").contains("truncated"), "{}", reason("f_cut.h5"));
    assert!(reason("h_other.h5").contains("no dataset `ECAL`; did you mean `Ecal`?"), "{}", reason("h_other.h5"));
    assert_eq!(planned.quarantined.len(), 6);
}

#[test]
fn mistakes_in_the_step_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\nlcd('a.h5', 5, shape=(5, 5, 25))"));
    let problem = |step: &ReadHdf5| plan(step).1.unwrap_err().remove(0);
    let wrong = problem(&files("lcd-v11", &glob(&folder, "a.h5")));
    assert_eq!((&*wrong.what, wrong.help.as_deref()), ("no schema `lcd-v11`", Some("did you mean `lcd-v1`?")));
    let wrong = problem(&files("lcd-v1", &glob(&folder, "a.h5")));
    assert!(wrong.what.contains("fits the schema `lcd-v1`") && wrong.help.unwrap().contains("(5, 5, 25)"));
    let wrong = problem(&files("lcd-v1", &glob(&folder, "nothing*.h5")));
    assert!(wrong.what.starts_with("no file matches `"), "{}", wrong.what);
    let wrong = problem(&files("lcd-v1", &glob(&folder, "nowhere/*.h5")));
    assert!(wrong.what.starts_with("the folder `") && wrong.what.ends_with("/nowhere` is not there"), "{}", wrong.what);
    let schema = schema_file(&folder, "  ecal: { dataset: ECAL, kinds: hits }\n");
    let wrong = problem(&files(&schema, &glob(&folder, "a.h5")));
    assert!(wrong.what.contains("layout.yaml:4:") && wrong.what.contains("kinds"), "{}", wrong.what);
    let schema =
        schema_file(&folder, "  sample: { dataset: target, at: [0] }\n  energy: { dataset: target, at: [1], threshold: -1 }\n");
    let found = plan(&files(&schema, &glob(&folder, "a.h5"))).1.unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].what.contains("layout.yaml:4:3: column `sample`"), "{}", found[0].what);
    let both = samples("lcd-v1", &[("one", &glob(&folder, "a.h5")), ("two", &glob(&folder, "*.h5"))]);
    let schema = schema_file(&folder, "  energy: { dataset: target, at: [1] }\n");
    let wrong = problem(&ReadHdf5 { schema: Placed::unplaced(schema), ..both });
    assert!(wrong.what.ends_with("a.h5 would be both `one` and `two`"), "{}", wrong.what);
}

#[test]
fn a_file_that_shrinks_after_planning_costs_its_unit() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\nlcd('a.h5', 50, chunk=None); lcd('b.h5', 50)"));
    let step = files("lcd-v1", &glob(&folder, "*.h5"));
    let (facts, planned) = plan(&step);
    let planned = planned.unwrap();
    for name in ["a.h5", "b.h5"] {
        let file = std::fs::OpenOptions::new().write(true).open(glob(&folder, name)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    for result in run(&step, &facts, &planned, None) {
        let Err(Fault::Content(reason)) = result else { panic!("{result:?}") };
        assert!(reason.ends_with(".h5 has changed since it was planned"), "{reason}");
    }
    std::fs::remove_file(glob(&folder, "a.h5")).unwrap();
    let Err(Fault::Machine(_)) = run(&step, &facts, &planned, None).remove(0) else { panic!("a lost file is no content") };
}

#[test]
fn odd_cells_stay_and_thresholds_drop() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), "
a = np.zeros((3, 4, 20), 'f8'); a[0, 0, 0] = np.nan; a[0, 1, 3] = -0.0; a[0, 2, 2] = -5; a[1, 3, 19] = np.inf; a[2, 0, 1] = 1e-300; a[2, 0, 2] = .25
for name, how in (('a.h5', dict(chunks=(2, 4, 20), compression='gzip', shuffle=True)), ('b.h5', {}), ('c.h5', dict(chunks=(2, 3, 7)))):
    with h5py.File(name, 'w') as f: f.create_dataset('image', data=a, **how)");
    let schema = schema_file(
        &folder,
        "  image: { dataset: image }\n  narrow: { dataset: image, as: f32 }\n  cut: { dataset: image, threshold: 0.5 }\n",
    );
    for name in ["a.h5", "b.h5", "c.h5"] {
        let batch = all(&files(&schema, &glob(&folder, name)));
        let cells = |column: &str| -> Vec<Vec<u16>> {
            let list = batch[column].as_list::<i32>();
            list.iter().map(|row| row.unwrap().as_struct().column(0).as_primitive::<UInt16Type>().values().to_vec()).collect()
        };
        assert_eq!(cells("image"), [vec![0, 23, 42], vec![79], vec![1, 2]], "{name}");
        // 1e-300 is +0 as float32 and so no hit; -0 stays one.
        assert_eq!(cells("narrow"), [vec![0, 23, 42], vec![79], vec![2]], "{name}");
        assert_eq!(cells("cut"), [vec![0, 42], vec![79], vec![]], "{name}");
        let values = batch["image"].as_list::<i32>().value(0);
        let values = values.as_struct().column(1).as_primitive::<Float64Type>().values().clone();
        assert!(values[0].is_nan() && values[1].to_bits() == (-0.0f64).to_bits() && values[2] == -5.0);
    }
}

#[test]
fn records_compact_virtual_and_sparse_datasets_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), "
t = np.zeros(7, [('id', '>i4'), ('pos', '<f4', (3,)), ('in', [('t', '<i2'), ('ok', '?')])])
t['id'] = np.arange(7) * 1000; t['pos'] = np.arange(21).reshape(7, 3); t['in']['t'] = -np.arange(7); t['in']['ok'] = np.arange(7) % 2
with h5py.File('src.h5', 'w') as f: f['x'] = np.arange(7)
with h5py.File('a.h5', 'w') as f:
    f.create_dataset('t', data=t, chunks=(3,), compression='gzip', shuffle=True)
    d = h5py.h5p.create(h5py.h5p.DATASET_CREATE); d.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(f.id, b'compact', h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((7,)), d).write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(7, dtype='i4'))
    v = h5py.VirtualLayout((7,), 'i8'); v[:] = h5py.VirtualSource('src.h5', 'x', (7,)); f.create_virtual_dataset('virtual', v)
    s = f.create_dataset('sparse', (7, 70), 'i2', chunks=(2, 40), fillvalue=3); s[4, 50] = 9
    f.create_dataset('half', data=np.arange(7, dtype='f2'))
    f.create_dataset('scaled', data=np.arange(7, dtype='i4'), chunks=(7,), scaleoffset=4)");
    let schema = schema_file(
        &folder,
        "  id: { dataset: /t, member: id, as: i64 }\n  pos: { dataset: t, member: pos, kind: dense }\n  time: { dataset: t, member: in.t }
  ok: { dataset: t, member: in.ok }\n  compact: { dataset: compact }\n  virtual: { dataset: virtual }\n  sparse: { dataset: sparse }
  half: { dataset: half, as: f32 }\n  scaled: { dataset: scaled }\n  one: { dataset: sparse, at: [50], as: f64 }\n",
    );
    let batch = all(&files(&schema, &glob(&folder, "a.h5")));
    let number = |name: &str| column::numbers(&batch, name).unwrap();
    let up: Vec<f64> = (0..7).map(f64::from).collect();
    assert_eq!(number("id"), up.iter().map(|v| v * 1000.0).collect::<Vec<_>>());
    assert_eq!(number("time"), up.iter().map(|v| -v).collect::<Vec<_>>());
    assert_eq!(
        batch["ok"].as_boolean().iter().map(Option::unwrap).collect::<Vec<_>>(),
        [false, true, false, true, false, true, false]
    );
    for same in ["compact", "virtual", "half", "scaled"] {
        assert_eq!(number(same), up, "{same}");
    }
    let pos = batch["pos"].as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(pos, (0..21u8).map(f32::from).collect::<Vec<_>>());
    assert_eq!(number("one"), [3.0, 3.0, 3.0, 3.0, 9.0, 3.0, 3.0]);
    let sparse = batch["sparse"].as_list::<i32>();
    assert_eq!(sparse.values().len(), 7 * 70);
    let values = sparse.values().as_struct().column(1).as_primitive::<Int16Type>().values().to_vec();
    assert!(values.iter().enumerate().all(|(i, v)| *v == if i == 4 * 70 + 50 { 9 } else { 3 }));
}

#[test]
fn lz4_and_zstd_as_hdf5plugin_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), "
import hdf5plugin
a = (np.random.rand(90, 5, 5, 60) * (np.random.rand(90, 5, 5, 60) < .3)).astype('f4'); a[80:] = np.random.rand(10, 5, 5, 60)
for name, how in (('lz4.h5', dict(hdf5plugin.LZ4())), ('zstd.h5', dict(hdf5plugin.Zstd())), ('lz4s.h5', dict(hdf5plugin.LZ4(nbytes=4096), shuffle=True))):
    with h5py.File(name, 'w') as f: f.create_dataset('image', data=a, chunks=(40, 5, 5, 60), **how)
with h5py.File('zfp.h5', 'w') as f: f.create_dataset('image', data=a, chunks=(40, 5, 5, 60), **hdf5plugin.Zfp())");
    let schema = schema_file(&folder, "  image: { dataset: image }\n");
    for name in ["lz4.h5", "zstd.h5", "lz4s.h5"] {
        let batch = all(&files(&schema, &glob(&folder, name)));
        assert_eq!(
            sha(bytes_of(&dense(&batch, "image"))),
            sum_of(folder.path(), "__import__('hdf5plugin') and h5py.File('lz4.h5')['image'][:]"),
            "{name}"
        );
    }
    let problem = plan(&files(&schema, &glob(&folder, "zfp.h5"))).1.unwrap_err().remove(0);
    assert!(problem.help.unwrap().contains("a filter that is not known here: zfp"));
}

#[test]
fn geant4_showers_have_the_sums_that_h5py_finds() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("skipped: CALOSTREAM_CORPUS is not set");
        return;
    };
    let pattern = corpus.join("geant4_lcd/*.h5");
    let batch = all(&files("lcd-v1", pattern.to_str().unwrap()));
    let every = |key: &str| {
        format!("np.concatenate([h5py.File(n)['{key}'][:] for n in sorted(__import__('glob').glob('{}'))])", pattern.display())
    };
    assert_eq!(sha(bytes_of(&dense(&batch, "ecal"))), sum_of(&corpus, &every("ECAL")));
    assert_eq!(sha(bytes_of(&dense(&batch, "hcal"))), sum_of(&corpus, &every("HCAL")));
}

#[test]
fn next_white_columns_equal_h5py() {
    let Some(corpus) = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from) else {
        println!("skipped: CALOSTREAM_CORPUS is not set");
        return;
    };
    let pattern = corpus.join("next/*_trg_type.h5").to_str().unwrap().to_owned();
    let file = corpus.join("next/6229_000_trg_type.h5").display().to_string();
    let of = |address: &str| sum_of(&corpus, &format!("h5py.File('{file}'){address}"));
    let batch = all(&files("next-white-waveforms", &pattern));
    let i16s = |values: &[i16]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let full = |name: &str| batch[name].as_fixed_size_list().values().as_primitive::<Int16Type>().values().to_vec();
    assert_eq!(sha(i16s(&full("pmt"))), of("['RD/pmtrwf'][:]"));
    assert_eq!(sha(i16s(&full("trigger_channels"))), of("['Trigger/events'][:]"));
    let shape = hits::shape(batch.schema().field_with_name("sipm").unwrap()).unwrap();
    assert_eq!(shape, [1792, 1300]);
    let mut sipm = vec![0i16; 1792 * 1300];
    let found = batch["sipm"].as_list::<i32>().value(0);
    let (cells, values) =
        (found.as_struct().column(0).as_primitive::<UInt32Type>(), found.as_struct().column(1).as_primitive::<Int16Type>());
    for (cell, value) in cells.values().iter().zip(values.values()) {
        sipm[*cell as usize] = *value;
    }
    assert_eq!(sha(i16s(&sipm)), of("['RD/sipmrwf'][:]"));
    let ints = |batch: &RecordBatch, name: &str| -> Vec<u8> {
        batch[name].as_primitive::<Int32Type>().values().iter().flat_map(|v| v.to_le_bytes()).collect()
    };
    assert_eq!(sha(ints(&batch, "event_number")), of("['Run/events']['evt_number']"));
    assert_eq!(sha(ints(&batch, "trigger_type")), of("['Trigger/trigger']['trigger_type']"));
    assert_eq!(sha(batch["timestamp"].as_primitive::<UInt64Type>().value(0).to_le_bytes()), of("['Run/events']['timestamp']"));
    for (schema, table) in [("next-white-pmts", "DataPMT"), ("next-white-sipms", "DataSiPM")] {
        let batch = all(&files(schema, &pattern));
        assert_eq!(sha(ints(&batch, "channel")), of(&format!("['Sensors/{table}']['channel']")));
        assert_eq!(sha(ints(&batch, "sensor")), of(&format!("['Sensors/{table}']['sensorID']")));
    }
}

#[test]
fn a_proposed_schema_reads_its_file() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}
lcd('a.h5', 20)
with h5py.File('a.h5', 'a') as f:
    f['on'] = np.zeros(20, 'i1'); f['names'] = ['x', 'y']; f['g/table'] = np.zeros(20, [('row', 'f4'), ('v', 'i2', (3,))]); f['on'].attrs['units'] = 'GeV'"));
    let path = glob(&folder, "a.h5");
    let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
    let text = propose(&header, "mine");
    let schema = Schema::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let names: Vec<&str> = schema.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ecal", "hcal", "table_row", "table_v", "on", "target_0", "target_1"], "{text}");
    assert!(text.contains("# left out: names"), "{text}");
    assert!(text.contains("unit: GeV"), "{text}");
    let own = folder.path().join("mine.yaml");
    std::fs::write(&own, text).unwrap();
    assert_eq!(all(&files(own.to_str().unwrap(), &path)).num_rows(), 20);
}

/// A reader program that does this instead of answering.
fn other_reader(folder: &tempfile::TempDir, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("reader");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_reader_that_crashes_hangs_or_is_missing_says_so() {
    use calostream_operators::hdf5::process::Reader;
    use std::time::Duration;
    let folder = tempfile::tempdir().unwrap();
    let ask = |script: &str, seconds: f64| {
        let runtime = Runtime { reader: other_reader(&folder, script), ..Runtime::default() };
        Reader::new(&runtime).patience(Duration::from_secs_f64(seconds)).header("some.h5").unwrap_err()
    };
    let Fault::Content(reason) = ask("kill -SEGV $$", 20.0) else { panic!() };
    assert_eq!(reason, "the HDF5 library crashed (signal 11) while reading the header");
    let Fault::Content(reason) = ask("exec sleep 100", 0.3) else { panic!() };
    assert_eq!(reason, "the HDF5 library gave no answer for 0.3 s while reading the header");
    let Fault::Content(reason) = ask("exec yes", 20.0) else { panic!() };
    assert!(reason.contains("nonsense"), "{reason}");
    let Fault::Machine(_) = ask("exec /nonexistent/program", 20.0) else { panic!() };
    let missing = Runtime { reader: "/nonexistent/reader".into(), ..Runtime::default() };
    let Fault::Machine(error) = Reader::new(&missing).header("some.h5").unwrap_err() else { panic!() };
    assert!(format!("{error:#}").contains("/nonexistent/reader"));
}

#[test]
fn a_crash_costs_one_file() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\nlcd('a.h5', 5); lcd('b_bad.h5', 5); lcd('c.h5', 5)"));
    // Dies of a segmentation fault when the path of a bad file comes in, else it is the real one.
    let real = runtime().reader;
    let script = format!(
        "exec {} -c \"
import os, signal, subprocess, sys, threading
real = subprocess.Popen(['{}'] + sys.argv[1:], stdin=subprocess.PIPE)
while True:
    data = os.read(0, 65536)
    if b'bad' in data: real.kill(); os.kill(os.getpid(), signal.SIGSEGV)
    if not data: break
    real.stdin.write(data); real.stdin.flush()
real.stdin.close(); real.wait()\" \"$@\"",
        interpreter().display(),
        real.display()
    );
    let runtime = Runtime { reader: other_reader(&folder, &script), ..Runtime::default() };
    let found = probe(&glob(&folder, "*.h5"), &runtime).unwrap();
    assert_eq!(found.iter().map(|f| f.header.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(found[1].header.as_ref().unwrap_err(), "the HDF5 library crashed (signal 11) while reading the header");
}

#[test]
fn chunks_cut_along_every_axis_give_the_rows_that_h5py_reads() {
    use calostream_operators::hdf5::process::Reader;
    use calostream_operators::hdf5::rows::{Opened, Rows};
    let folder = tempfile::tempdir().unwrap();
    let sums = python(
        folder.path(),
        "
import hashlib
with h5py.File('a.h5', 'w') as f:
    for i in range(60):
        rank = np.random.randint(1, 5)
        shape = tuple(np.random.randint(1, 9, rank)); chunk = tuple(np.random.randint(1, n + 1) for n in shape)
        how = [{}, dict(compression='gzip'), dict(compression='gzip', shuffle=True), dict(shuffle=True, fletcher32=True)][i % 4]
        d = f.create_dataset(f'd{i:02}', shape, np.random.choice(['<i2', '<f4', '<f8', 'u1']), chunks=chunk, maxshape=(None,) * rank, fillvalue=i % 3, **how)
        # Some chunks are never written.
        d[np.random.randint(0, shape[0]):] = np.random.randint(0, 100)
        if i % 5 == 0: d[:1] = np.random.randint(0, 99, (1,) + shape[1:])
        print(d.name[1:], hashlib.sha256(np.ascontiguousarray(d[:]).tobytes()).hexdigest())
",
    );
    let path = glob(&folder, "a.h5");
    let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
    let (opened, mut reader) = (Opened::open(&path).unwrap_or_else(|e| panic!("{e}")), Reader::new(&runtime()));
    for line in sums.lines() {
        let (name, sum) = line.split_once(' ').unwrap();
        let d = header.dataset(name).unwrap();
        let rows = d.rows().unwrap();
        for step in [1, 2, 3, rows] {
            let mut source = Rows::new(d, &opened, &mut reader).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut all = Vec::new();
            let mut first = 0;
            while first < rows {
                let count = step.min(rows - first);
                all.extend_from_slice(&source.plain(&opened, first, count as usize).unwrap_or_else(|e| panic!("{name}: {e}")));
                first += count;
            }
            assert_eq!(sha(all), sum, "{} in steps of {step}, {}", d.describe(), d.layout.name());
        }
    }
}

#[test]
fn chunk_indices_of_every_kind_give_the_rows_that_h5py_reads() {
    use calostream_operators::hdf5::process::Reader;
    use calostream_operators::hdf5::rows::{Opened, Rows};
    let folder = tempfile::tempdir().unwrap();
    let sums = python(
        folder.path(),
        "
import hashlib
for version in ('earliest', 'latest'):
    with h5py.File(version + '.h5', 'w', libver=version) as f:
        for i in range(120):
            rank = np.random.randint(1, 4)
            shape = tuple(np.random.randint(1, 40, rank)); chunk = tuple(np.random.randint(1, min(n, 5) + 1) for n in shape)
            # Fixed, with room, without end; chunks that are there from the beginning; many, so that they do not travel along.
            most = tuple([n, n + np.random.randint(20), None][np.random.randint(3)] for n in shape)
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk(chunk)
            if i % 8 == 0: plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            if i % 2: plist.set_deflate(1)
            space = h5py.h5s.create_simple(shape, tuple(h5py.h5s.UNLIMITED if n is None else n for n in most))
            d = h5py.Dataset(h5py.h5d.create(f.id, f'd{i:03}'.encode(), h5py.h5t.STD_I32LE, space, plist))
            at = tuple(slice(np.random.randint(0, n), None) for n in shape)
            if i % 3: d[at] = np.random.randint(0, 2**31, d[at].shape)
            else: d[...] = np.random.randint(0, 2**31, shape)
            if i % 5 == 0: d.resize(tuple(max(1, n - np.random.randint(4)) if m is None else n for n, m in zip(shape, most)))
            print(version, d.name[1:], hashlib.sha256(np.ascontiguousarray(d[:]).tobytes()).hexdigest())
",
    );
    let (mut own, mut long) = (0, 0);
    for version in ["earliest", "latest"] {
        let path = glob(&folder, &format!("{version}.h5"));
        let header = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap();
        let (opened, mut reader) = (Opened::open(&path).unwrap_or_else(|e| panic!("{e}")), Reader::new(&runtime()));
        for line in sums.lines().filter_map(|l| l.strip_prefix(version)) {
            let (name, sum) = line.trim().split_once(' ').unwrap();
            let d = header.dataset(name).unwrap();
            let mut source = Rows::new(d, &opened, &mut reader).unwrap_or_else(|e| panic!("{name}: {e}"));
            let rows = d.rows().unwrap();
            let all = if source.by_library() {
                reader.rows(&path, name, None, 0, rows, d.row_elements() * 4).unwrap_or_else(|e| panic!("{name}: {e}"))
            } else {
                own += 1;
                long += usize::from(d.chunks.is_none());
                let halves = [(0, rows / 2), (rows / 2, rows - rows / 2)];
                let read =
                    |(first, n)| source.plain(&opened, first, n as usize).unwrap_or_else(|e| panic!("{name}: {e}")).to_vec();
                halves.map(read).concat()
            };
            assert_eq!(sha(all), sum, "{version} {} of {:?}, {}", d.describe(), d.max_shape, d.layout.name());
        }
    }
    assert!(own > 160 && long > 15, "{own} by the own path, {long} with a long index");
}

#[test]
fn a_chunk_index_that_points_outside_is_an_error_of_the_data() {
    use calostream_operators::hdf5::chunk_list::ChunkList;
    use calostream_operators::hdf5::index::Index;
    use calostream_operators::hdf5::process::Reader;
    use calostream_operators::hdf5::rows::Opened;
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), "h5py.File('a.h5', 'w').create_dataset('x', data=np.zeros((10, 4)), chunks=(5, 4))");
    let path = glob(&folder, "a.h5");
    let mut d = probe(&path, &runtime()).unwrap()[0].header.clone().unwrap().datasets.remove(0);
    let mut opened = Opened::open(&path).unwrap_or_else(|e| panic!("{e}"));
    opened.bytes = 1000;
    let mut check = |raw: &[u64]| {
        d.chunks = Some(ChunkList::pack(2, raw));
        Index::new(&d, &opened, &mut Reader::new(&runtime()), None, 0..10).map(|_| ()).map_err(|fault| fault.to_string())
    };
    assert_eq!(check(&[0, 0, 100, 160, 0, 5, 0, 260, 160, 0]), Ok(()));
    assert_eq!(check(&[0, 0, 900, 160, 0]).unwrap_err(), "chunk [0, 0] of `x` reaches from byte 900 to 1060 of a file of 1000");
    assert!(check(&[0, 0, u64::MAX, 160, 0]).unwrap_err().contains("reaches from byte"));
    assert!(check(&[3, 0, 100, 160, 0]).unwrap_err().contains("does not stand on the grid"));
    assert!(check(&[0, 0, 100, 160, 0, 0, 0, 100, 160, 0]).unwrap_err().contains("there twice"));
}

#[test]
fn folders_and_forbidden_files_cost_themselves() {
    let folder = tempfile::tempdir().unwrap();
    python(folder.path(), &format!("{LCD}\nlcd('a.h5', 5)"));
    std::fs::create_dir(folder.path().join("b.h5")).unwrap();
    std::fs::write(folder.path().join("c.h5"), "").unwrap();
    let found = probe(&glob(&folder, "*.h5"), &runtime()).unwrap();
    assert!(found[0].header.is_ok());
    assert_eq!(found[1].header.as_ref().unwrap_err(), "it is a folder");
    assert!(found[2].header.as_ref().unwrap_err().contains("signature"));
}
