//! The inside of `calostream-reader`: answers requests on standard input until it ends.
//!
//! It limits its own address space (first argument, bytes), writes no core file, and takes file locking out of the
//! library's hands, which fails on read-only network file systems. It ends with its parent: standard input closes, and where
//! the library hangs and nobody looks at standard input, a second thread sees that the parent is gone.

use super::ffi::{self, Failure};
use super::library;
use super::protocol::{self, Reply, Request};
use rustix::process::{Resource, Rlimit, getppid, setrlimit};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Serves until standard input ends.
pub fn main() -> ExitCode {
    if let Some(bytes) = std::env::args().nth(1) {
        let Ok(bytes) = bytes.parse::<u64>() else {
            eprintln!("usage: calostream-reader [bytes of address space]; it is started by calostream");
            return ExitCode::from(2);
        };
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        if setrlimit(Resource::As, limit).is_err() {
            return ExitCode::from(3);
        }
    }
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    end_with_parent();
    ffi::start();
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut open = None;
    loop {
        let Ok((request, _)) = protocol::receive::<Request>(&mut from, 0) else { return ExitCode::SUCCESS };
        let (reply, body) = answer(&mut open, &request, &mut to);
        if protocol::send(&mut to, &reply, &body).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

/// Ends this process when its parent does.
fn end_with_parent() {
    let parent = getppid();
    std::thread::spawn(move || {
        while getppid() == parent {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::process::exit(0)
    });
}

fn answer(open: &mut Option<(String, library::File)>, request: &Request, to: &mut impl Write) -> (Reply, Vec<u8>) {
    let mut said = Instant::now();
    let mut progress = || {
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            let _ = protocol::send(to, &Reply::Progress, &[]);
        }
    };
    let result = match request {
        Request::Version => Ok((Reply::Version(version()), Vec::new())),
        Request::Header { path } => {
            // A file that was open from before may have been replaced.
            *open = None;
            file(open, path).and_then(|f| f.header(&mut progress)).map(|header| (Reply::Header(header), Vec::new()))
        }
        Request::Index { path, dataset } => {
            let mut piece = |bytes: &[u8]| protocol::send(to, &Reply::Progress, bytes).is_ok();
            file(open, path).and_then(|f| f.index(dataset, &mut piece)).map(|body| (Reply::Index, body))
        }
        Request::Rows { path, dataset, member, first, rows } => {
            file(open, path).and_then(|f| f.rows(dataset, member.as_deref(), *first, *rows)).map(|body| (Reply::Rows, body))
        }
        Request::Lists { path, dataset, member, first, rows } => {
            file(open, path).and_then(|f| f.lists(dataset, member.as_deref(), *first, *rows)).map(|lists| match lists {
                library::Lists::Whole(body) => (Reply::Lists, body),
                library::Lists::TooLarge(bytes) => (Reply::TooLarge(bytes), Vec::new()),
            })
        }
    };
    result.unwrap_or_else(|failure| match failure {
        Failure::Refused(reason) => (Reply::Refused(reason), Vec::new()),
        Failure::Machine(reason) => (Reply::Machine(reason), Vec::new()),
    })
}

fn version() -> String {
    let (major, minor, patch) = hdf5_metno::library_version();
    format!("{major}.{minor}.{patch}")
}

fn file<'a>(open: &'a mut Option<(String, library::File)>, path: &str) -> Result<&'a library::File, Failure> {
    if open.as_ref().is_some_and(|(known, _)| known != path) {
        *open = None;
    }
    match open {
        Some((_, file)) => Ok(file),
        None => Ok(&open.insert((path.to_owned(), library::File::open(path)?)).1),
    }
}
