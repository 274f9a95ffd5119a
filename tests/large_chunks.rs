//! A chunk that is much larger than a batch: decoded alone where the budget has room for one, refused at check where not.

mod common;

use common::Place;
use oracle::python;
use std::time::{Duration, Instant};

/// Two files of one chunk of 1 GiB each, nearly all zeros: 1 MB on disk. Event i has cell 7 i at i + 1.5.
const FILES: &str = "
import h5py, numpy as np, sys, zlib
for name in ('a', 'b'):
    with h5py.File(f'{sys.argv[1]}/{name}.h5', 'w') as f:
        n, cells = 4096, 256 * 256
        d = f.create_dataset('images', (n, 256, 256), 'f4', chunks=(n, 256, 256), compression='gzip')
        pack, packed = zlib.compressobj(1), []
        for i in range(n):
            row = np.zeros(cells, '<f4'); row[7 * i] = i + 1.5
            packed.append(pack.compress(row.tobytes()))
        packed.append(pack.flush())
        d.id.write_direct_chunk((0, 0, 0), b''.join(packed))
        f['energy'] = np.arange(n, dtype='f4')";
const PIPELINE: &str = "pipeline: large\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./large.yaml, files: ./*.h5 }\n  \
                        parts:\n    from: events\n    write_parquet: {}\n";

#[test]
fn a_chunk_of_one_gibibyte_is_decoded_alone_or_refused_with_the_budget_that_it_needs() {
    let place = Place::new();
    python(FILES, &[&place.path("")]);
    place.write(
        "large.yaml",
        "schema: large\ncolumns:\n  image: { dataset: images, kind: hits }\n  energy: { dataset: energy }\n",
    );
    place.write("run.yaml", PIPELINE);
    let with = |budget: &str| PIPELINE.replace("out: run", &format!("out: run\nbudget: {budget}"));
    // Named or not, a budget without room for it is refused where the files are read.
    place.write("small.yaml", &with("1 GiB"));
    let said = place.calostream(&["check", "small.yaml"]).code(2).err;
    assert!(said.contains("small.yaml:5:3: error: `events` holds up to 1.2"), "{said}");
    assert!(said.contains("at least `budget: 13") && said.contains("MiB`; it is 1.00 GiB"), "{said}");
    let check = place.command(&["check", "run.yaml"]).env("SLURM_MEM_PER_NODE", "1500").output().expect("it starts");
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(check.status.code(), Some(2), "{said}");
    assert!(said.contains("run.yaml:4:3: error: `events` holds up to 1.2"), "{said}");
    assert!(said.contains("at least `budget: 13") && said.contains("here it is 900 MiB, 60 % of 1.46 GiB"), "{said}");
    // What is asked for is enough, by one reader after the other.
    let budget = said.split("at least `budget: ").nth(1).and_then(|s| s.split('`').next()).expect("a budget").to_owned();
    place.write("right.yaml", &with(&budget));
    place.calostream(&["check", "right.yaml"]).code(0);
    let bytes: u64 = budget.trim_end_matches(" MiB").parse::<u64>().expect("MiB") << 20;
    let mut child = place.command(&["run", "-q", "-w", "1", "right.yaml"]).spawn().expect("it starts");
    let (mut most, begun) = (0, Instant::now());
    while child.try_wait().expect("waits").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line =
            status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok());
        most = most.max(line.unwrap_or(0) << 10);
        assert!(begun.elapsed() < Duration::from_secs(300), "it hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    println!("{} MiB of {budget} taken", most >> 20);
    assert!(most > 1 << 30 && most <= bytes, "{most} of {bytes} bytes");
    let script = "
import glob, pyarrow.parquet as p, sys
rows = [r for f in sorted(glob.glob(sys.argv[1] + '/parts/*')) for r in p.read_table(f).to_pylist()]
print(len(rows), all(r['image'] == [{'cell': 7 * r['row'], 'value': r['row'] + 1.5}] and r['energy'] == r['row'] for r in rows))";
    assert_eq!(python(script, &[&place.path("run")]), "8192 True\n");
    // More workers than chunks that fit: as many read as there is room for.
    place.write("wide.yaml", &with("1800 MiB"));
    place.calostream(&["run", "-q", "-w", "4", "wide.yaml", "--out", "wide"]).code(0);
    assert_eq!(python(script, &[&place.path("wide")]), "8192 True\n");
}
