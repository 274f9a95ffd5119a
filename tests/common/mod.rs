//! What the end-to-end tests stand on: a folder of its own, pipelines in it, the command run in it, and what came of it.
//!
//! Everything is done as a user does it: YAML in, the program run, files out.
#![allow(dead_code, reason = "each test program uses its part of this")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the repository is.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, with the reader beside it.
pub fn program() -> &'static Path {
    let program = Path::new(env!("CARGO_BIN_EXE_calostream"));
    let reader = program.with_file_name("calostream-reader");
    assert!(reader.exists(), "{} is missing: run `cargo build --release --workspace` first", reader.display());
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The command ended with this code; else everything that it said is shown.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        assert_eq!(self.code, Some(wanted), "standard output:\n{}\nstandard error:\n{}", self.out, self.err);
        self
    }

    /// Standard error is exactly this.
    #[track_caller]
    pub fn complains(self, wanted: &str) -> Self {
        assert_eq!(self.err, wanted);
        self
    }
}

/// A folder of its own, gone at the end.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The command, to be run in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        // Where ONNX Runtime is, also where the program was built into a folder far from the repository.
        command
            .env("VIRTUAL_ENV", repository().join(".deps/venv"))
            .env_remove("CALOSTREAM_SERIALIZED")
            .env_remove("CALOSTREAM_SPILL");
        command
    }

    pub fn calostream(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().expect("calostream starts"))
    }

    /// The command with runs of rows put aside, and pieces of them, of so many bytes (`RUN,PIECE`).
    pub fn spilling(&self, sizes: &str, args: &[&str]) -> Said {
        Said::of(&self.command(args).env("CALOSTREAM_SPILL", sizes).output().expect("calostream starts"))
    }

    /// The command under way; its words are kept.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// The same with `CALOSTREAM_SPILL`.
    pub fn start_spilling(&self, sizes: &str, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.env("CALOSTREAM_SPILL", sizes);
        Running::of(command)
    }

    /// Files of showers in the layout of LCD images: `data/EleEscan_1_1.h5` and so on, four classes.
    pub fn showers(&self, events: u32, per_file: u32, seed: u32) {
        let out = format!("showers-{seed}");
        self.write("showers.yaml", SHOWERS);
        let set = [format!("events={events}"), format!("per_file={per_file}"), format!("seed={seed}"), format!("out={out}")];
        let mut args = vec!["run", "-q", "showers.yaml"];
        set.iter().for_each(|s| args.extend(["--set", s]));
        self.calostream(&args).code(0);
        if !self.path("data").exists() {
            fs::create_dir(self.path("data")).expect("made");
        }
        for entry in fs::read_dir(self.path(&out).join("files")).expect("files") {
            let entry = entry.expect("a file");
            let name = entry.file_name().to_string_lossy().replace("Escan_1_", &format!("Escan_{seed}_"));
            fs::rename(entry.path(), self.path("data").join(name)).expect("moved");
        }
    }

    /// A tiny network with the inputs of the LCD models: an energy and four probabilities from the sums of both images.
    pub fn model(&self, name: &str, inputs: [&str; 2]) {
        oracle::python(MODEL, &[&self.path(name), Path::new(inputs[0]), Path::new(inputs[1])]);
    }
}

const SHOWERS: &str = include_str!("showers.yaml");
const MODEL: &str = include_str!("model.py");
/// A pipeline with everything in it: several sources, a new order with a split, a model, sums, sinks of both kinds, a report.
pub const EVERYTHING: &str = include_str!("everything.yaml");
/// A mix of many parts, so that rows may be put aside twice.
pub const MIX: &str = include_str!("mix.yaml");
/// Events straight to Parquet: no phase but the first.
pub const STREAMING: &str = include_str!("streaming.yaml");

/// A command under way. What it says is read as it comes: a pipe that nobody reads is full after 64 KiB, and would hold it up.
pub struct Running {
    child: Option<Child>,
    said: Option<[JoinHandle<Vec<u8>>; 2]>,
}

/// Reads to the end on a thread of its own.
fn reading(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("what it says is read");
        bytes
    })
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("calostream starts");
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        Self { child: Some(child), said: Some([reading(out), reading(err)]) }
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("killed");
        }
    }

    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("under way").id()
    }

    pub fn ended(&mut self) -> bool {
        self.child.as_mut().expect("under way").try_wait().expect("asked").is_some()
    }

    /// What it said, when it has ended; a failure when it has not after so long.
    #[track_caller]
    pub fn wait(mut self, at_most: Duration) -> Said {
        let start = Instant::now();
        while !self.ended() {
            assert!(start.elapsed() < at_most, "it hangs: not ended after {at_most:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.take().expect("ended").wait().expect("its status");
        let [stdout, stderr] = self.said.take().expect("read").map(|pipe| pipe.join().expect("read to the end"));
        Said::of(&Output { status, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every output of a run: what is in the folders of its steps, by name; of a report what does not depend on the run.
pub fn outputs(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for step in fs::read_dir(run).expect("a run folder").map(|e| e.expect("an entry").path()) {
        let step_name = step.file_name().expect("a name").to_string_lossy().into_owned();
        if !step.is_dir() || step_name.starts_with('.') {
            continue;
        }
        for file in fs::read_dir(&step).expect("a step's folder").map(|e| e.expect("an entry").path()) {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let mut bytes = fs::read(&file).expect("an output");
            if name == "report.html" {
                bytes = without_run(&text(&bytes)).into_bytes();
            }
            found.insert(format!("{step_name}/{name}"), bytes);
        }
    }
    found
}

fn without_run(page: &str) -> String {
    let (begin, end) = ("<!-- this run: begin -->", "<!-- this run: end -->");
    let (before, rest) = page.split_once(begin).expect("the block of this run");
    let (_, after) = rest.split_once(end).expect("its end");
    format!("{before}{after}")
}

/// Both runs gave the same files with the same bytes.
#[track_caller]
pub fn assert_same(what: &str, one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{what}: the files");
    for (name, bytes) in one {
        assert!(!bytes.is_empty(), "{what}: {name} is empty");
        assert!(*bytes == other[name], "{what}: {name} differs ({} and {} bytes)", bytes.len(), other[name].len());
    }
}

/// Only the tables (and plots): what does not depend on the order in which files were found.
pub fn tables(run: &Path, steps: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut all = outputs(run);
    all.retain(|name, _| steps.contains(&name.split('/').next().unwrap_or_default()));
    assert!(!all.is_empty(), "no tables in {}", run.display());
    all
}

/// Flips bits in the compressed bytes of the first chunk, so that it can't be unpacked.
pub fn corrupt(path: &Path) {
    let script = "
import h5py, sys
with h5py.File(sys.argv[1]) as f:
    chunk = f['ECAL'].id.get_chunk_info(0)
with open(sys.argv[1], 'r+b') as f:
    f.seek(chunk.byte_offset + chunk.size // 2)
    was = f.read(16)
    f.seek(-16, 1)
    f.write(bytes(b ^ 0xff for b in was))";
    oracle::python(script, &[path]);
}

/// An address that nobody listens on.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

/// What two processes need to find each other: the arguments of each.
pub fn two_processes(place: &Place, workers: &str) -> [Vec<String>; 2] {
    use std::os::unix::fs::PermissionsExt;
    place.write("hosts", &format!("{}\n{}\n", free_address(), free_address()));
    place.write("secret", "a secret of more than sixteen bytes");
    fs::set_permissions(place.path("secret"), fs::Permissions::from_mode(0o600)).expect("private");
    ["0", "1"].map(|process| {
        let args = ["--processes", "2", "--process", process, "--hosts", "hosts", "--secret", "secret", "-w", workers];
        args.map(str::to_owned).to_vec()
    })
}
