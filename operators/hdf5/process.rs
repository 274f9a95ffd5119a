//! The client of the reader process: starts it, restarts it when it dies, and says in words what happened.
//!
//! The two processes talk over a socket pair, whose time-outs tell progress from silence. Invariant: a process that was
//! silent for too long (60 s, or as long as the runtime says), or answered what it was not asked,
//! is killed and never asked again; the next question starts another one.
//!
//! A reader process may not take more memory than what the headers say that it needs: [`BASE`] of addresses, most of which
//! are never touched, and what [`needed`] says of the datasets that it is to read, which the step counts in its budget.

use super::header::{Dataset, Header};
use super::own::is_own;
use super::protocol::{self, ANSWER, Reply, Request};
use crate::Fault;
use crate::work::Runtime;
use anyhow::{Context, anyhow};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No answer is longer: a row of numbers that is larger is refused.
pub const MOST_BODY: u64 = 1 << 30;
/// Texts or lists that are asked for at once: their lengths are not known before, and where they are too long for an answer,
/// half as many are.
const LISTS: u64 = 4096;
/// Bytes of the texts or lists of a batch; rows that hold more are no events.
const MOST_LISTS: u64 = 4 * ANSWER;
/// The address space of a reader process that reads headers and chunk indices: the program, the library's caches.
pub const BASE: u64 = 1 << 30;
/// What a reader process holds for itself: the program (6 MiB), its buffers, and the library's cache of metadata, which may
/// grow to 32 MiB.
pub const RESIDENT: u64 = 48 << 20;
/// How long a reader process may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a reader process may hold for a dataset in a file of `bytes` bytes, beside [`RESIDENT`]; none where the library is
/// not asked for its rows.
#[must_use]
pub fn needed(dataset: &Dataset, bytes: u64) -> u64 {
    if is_own(dataset) {
        return 0;
    }
    // A chunk as it is stored, what the last filter made of it, and what this one makes.
    let chunk = dataset.chunk_bytes().unwrap_or(0).saturating_mul(3);
    let answer = match dataset.element.is_fixed() {
        true => {
            let row = dataset.row_elements().saturating_mul(dataset.element.bytes());
            dataset.dense_bytes().unwrap_or(u64::MAX).min(ANSWER).max(row).min(MOST_BODY)
        }
        // As the library gives them, and packed.
        false => 2 * answer(dataset, bytes),
    };
    chunk.saturating_add(answer)
}

/// Bytes that one answer with texts or lists of a dataset may take: no more than its file holds.
#[must_use]
pub fn answer(dataset: &Dataset, bytes: u64) -> u64 {
    let pointers = dataset.dense_bytes().unwrap_or(u64::MAX);
    bytes.saturating_add(dataset.elsewhere).saturating_add(pointers).min(ANSWER)
}

/// A reader process, started when it is first asked.
#[derive(Debug)]
pub struct Reader {
    program: PathBuf,
    patience: Duration,
    memory: u64,
    running: Option<(Child, UnixStream)>,
}

impl Reader {
    /// The reader program that the engine was told to use.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        let patience = runtime.patience.filter(|p| !p.is_zero()).unwrap_or(PATIENCE);
        Self { program: runtime.reader.clone(), patience, memory: BASE, running: None }
    }

    /// The same, killed after this long without a byte.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same, for the rows of datasets that need so many bytes ([`needed`]).
    #[must_use]
    pub fn allowing(mut self, bytes: u64) -> Self {
        self.memory = BASE.saturating_add(bytes);
        self
    }

    /// The process, where it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(|(child, _)| child.id())
    }

    /// The version of the library behind the reader process.
    pub fn version(&mut self) -> Result<String, Fault> {
        match self.ask(&Request::Version, 0, "asking for its version")? {
            (Reply::Version(version), _) => Ok(version),
            _ => Err(self.confused()),
        }
    }

    /// The header of a file.
    pub fn header(&mut self, path: &str) -> Result<Header, Fault> {
        match self.ask(&Request::Header { path: path.into() }, 0, "reading the header")? {
            (Reply::Header(mut header), _) => {
                // A library that has run over its own memory may have said anything.
                let found = std::fs::metadata(path).map_err(|e| Fault::content(format!("it is gone: {e}")))?;
                header.check(found.len());
                Ok(header)
            }
            _ => Err(self.confused()),
        }
    }

    /// The chunk index of a dataset, piece by piece: offsets, address, size, filter mask of each chunk, as little-endian u64.
    pub fn index(&mut self, path: &str, dataset: &str, each: &mut dyn FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let request = Request::Index { path: path.into(), dataset: dataset.into() };
        let (doing, most) = (format!("reading the chunk index of `{dataset}`"), 2 * protocol::PIECE as u64);
        match self.ask_for_pieces(&request, most, &doing, each)? {
            (Reply::Index, body) => each(&body),
            _ => Err(self.confused()),
        }
    }

    /// `rows` rows of `bytes` bytes from `first` on, as little-endian numbers in C order.
    pub fn rows(
        &mut self,
        path: &str,
        dataset: &str,
        member: Option<&str>,
        first: u64,
        rows: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, Fault> {
        // A row that is larger than an answer is refused by the other side.
        let at_once = (ANSWER / bytes.max(1)).max(1);
        let mut all = Vec::new();
        let mut done = 0;
        while done < rows {
            let some = at_once.min(rows - done);
            let request = Request::Rows {
                path: path.into(),
                dataset: dataset.into(),
                member: member.map(Into::into),
                first: first + done,
                rows: some,
            };
            match self.ask(&request, MOST_BODY, &format!("reading `{dataset}`"))? {
                (Reply::Rows, body) if body.len() as u64 == some * bytes && all.is_empty() => all = body,
                (Reply::Rows, body) if body.len() as u64 == some * bytes => all.extend_from_slice(&body),
                _ => return Err(self.confused()),
            }
            done += some;
        }
        Ok(all)
    }

    /// The texts or lists of `rows` rows of `each` elements from `first` on: the bytes of each element, and all the bytes.
    /// A row that is longer than an answer may be is an error of the data.
    pub fn lists(
        &mut self,
        path: &str,
        dataset: &str,
        member: Option<&str>,
        (first, rows, each): (u64, u64, u64),
    ) -> Result<(Vec<usize>, Vec<u8>), Fault> {
        let mut at_once = (LISTS / each.max(1)).max(1);
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < rows {
            let some = at_once.min(rows - done);
            let request = Request::Lists {
                path: path.into(),
                dataset: dataset.into(),
                member: member.map(Into::into),
                first: first + done,
                rows: some,
            };
            let body = match self.ask(&request, ANSWER, &format!("reading `{dataset}`"))? {
                (Reply::Lists, body) => body,
                (Reply::TooLarge(_), _) if some > 1 => {
                    at_once = some / 2;
                    continue;
                }
                (Reply::TooLarge(bytes), _) => {
                    let what = format!("row {} of `{dataset}` takes {bytes} bytes or more", first + done);
                    return Err(Fault::Content(format!("{what}; one of texts or lists may take {ANSWER}")));
                }
                _ => return Err(self.confused()),
            };
            let Some((head, values)) = usize::try_from(some * each * 8).ok().and_then(|n| body.split_at_checked(n)) else {
                return Err(self.confused());
            };
            let mut left = values.len();
            for length in head.chunks_exact(8) {
                let length =
                    u64::from_le_bytes([length[0], length[1], length[2], length[3], length[4], length[5], length[6], length[7]]);
                let Some(length) = usize::try_from(length).ok().filter(|n| *n <= left) else { return Err(self.confused()) };
                left -= length;
                lengths.push(length);
            }
            if left > 0 {
                return Err(self.confused());
            }
            if (all.len() + values.len()) as u64 > MOST_LISTS {
                let what = format!("rows {first} to {} of `{dataset}` take more than {MOST_LISTS} bytes", first + rows);
                return Err(Fault::Content(format!("{what}, many times what the size of the file promises")));
            }
            all.extend_from_slice(values);
            done += some;
        }
        Ok((lengths, all))
    }

    fn confused(&mut self) -> Fault {
        self.stop();
        Fault::content("the HDF5 reader process gave an answer that does not fit the question")
    }

    fn start(&mut self) -> Result<&mut UnixStream, Fault> {
        if self.running.is_none() {
            let (ours, theirs) = UnixStream::pair().context("a socket pair for the HDF5 reader process")?;
            ours.set_read_timeout(Some(self.patience))?;
            ours.set_write_timeout(Some(self.patience))?;
            let input: OwnedFd = theirs.try_clone()?.into();
            let output: OwnedFd = theirs.into();
            let child = Command::new(&self.program)
                .arg(self.memory.to_string())
                .env("HDF5_USE_FILE_LOCKING", "FALSE")
                // No filter plugins but those of a folder that the user has named.
                .envs(std::env::var_os("HDF5_PLUGIN_PATH").is_none().then_some(("HDF5_PLUGIN_PRELOAD", "::")))
                .stdin(Stdio::from(input))
                .stdout(Stdio::from(output))
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start the HDF5 reader `{}`", self.program.display()))?;
            self.running = Some((child, ours));
        }
        match &mut self.running {
            Some((_, socket)) => Ok(socket),
            None => Err(Fault::Machine(anyhow!("the HDF5 reader does not run"))),
        }
    }

    fn ask(&mut self, request: &Request, most: u64, doing: &str) -> Result<(Reply, Vec<u8>), Fault> {
        self.ask_for_pieces(request, most, doing, &mut |_| Ok(()))
    }

    /// Asks; what comes before the answer goes to `each`.
    fn ask_for_pieces(
        &mut self,
        request: &Request,
        most: u64,
        doing: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(Reply, Vec<u8>), Fault> {
        let patience = self.patience;
        let socket = self.start()?;
        let mut unwanted = None;
        let answer = protocol::send(socket, request, &[]).and_then(|()| {
            loop {
                match protocol::receive::<Reply>(socket, most)? {
                    (Reply::Progress, piece) => {
                        if let Err(fault) = each(&piece) {
                            unwanted = Some(fault);
                            return Err(ErrorKind::Other.into());
                        }
                    }
                    answer => return Ok(answer),
                }
            }
        });
        if let Some(fault) = unwanted {
            self.stop();
            return Err(fault);
        }
        let error = match answer {
            Ok((Reply::Refused(reason), _)) => return Err(Fault::Content(reason)),
            Ok((Reply::Machine(reason), _)) => return Err(Fault::Machine(anyhow!("{reason} ({doing})"))),
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                self.stop();
                Err(Fault::Content(format!("the HDF5 library gave no answer for {} s while {doing}", patience.as_secs_f64())))
            }
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Err(self.death(doing)),
            _ => {
                self.stop();
                Err(Fault::Content(format!("the HDF5 library answered nonsense while {doing}: {error}")))
            }
        }
    }

    /// The process has closed its end: how did it die?
    fn death(&mut self, doing: &str) -> Fault {
        let Some((mut child, socket)) = self.running.take() else { return Fault::content("the HDF5 reader is gone") };
        drop(socket);
        let status = match child.wait() {
            Ok(status) => status,
            Err(error) => return error.into(),
        };
        match (status.signal(), status.code()) {
            (Some(9), _) => Fault::Content(format!("the HDF5 reader was killed (signal 9; out of memory?) while {doing}")),
            (Some(signal), _) => Fault::Content(format!("the HDF5 library crashed (signal {signal}) while {doing}")),
            // What a shell or the loader says where a program cannot run at all.
            (None, Some(code @ (2 | 3 | 126 | 127))) => {
                Fault::Machine(anyhow!("the HDF5 reader `{}` ended with status {code}", self.program.display()))
            }
            (None, code) => Fault::Content(format!("the HDF5 library gave up (status {}) while {doing}", code.unwrap_or(-1))),
        }
    }

    fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}
