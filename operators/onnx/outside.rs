//! Weights that lie in files beside a model (ONNX calls them external data), put into it.
//!
//! What comes out is the model as if it had been saved as one file, so everything behind knows one kind of model. Only files within the
//! model's own folder are read, as ONNX Runtime has it. ONNX Runtime takes no more than 2 GiB from memory; what is larger is refused.

use super::wire::{Field, fields, put};
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path};

/// The most bytes of a message of protocol buffers.
const MOST: usize = i32::MAX as usize;

/// A file of which a model is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path, as the model or who named the model says it.
    pub path: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub bytes: u64,
}

/// A model with all of its weights, and the files in which they were.
pub(super) type Together = (Vec<u8>, Vec<File>);

/// The SHA-256 of some bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The model at `path` with all of its weights, and the files in which they were; nothing where it has all of them already.
///
/// # Errors
/// A sentence: a file that is not there, or is not what the model says.
pub(super) fn put_in(bytes: &[u8], path: &str) -> Result<Option<Together>, String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut beside = Beside { folder, files: BTreeMap::new(), all: bytes.len() };
    let whole = match beside.rewrite(bytes, Of::Model) {
        Ok(whole) => whole,
        // What is damaged is refused by ONNX Runtime, which says more.
        Err(error) => return error.downcast::<Said>().map_or(Ok(None), |Said(what)| Err(what)),
    };
    let files = beside.files.into_iter();
    let files = files.map(|(path, of)| File { path, sha256: sha256(&of), bytes: of.len() as u64 }).collect();
    Ok(whole.map(|whole| (whole, files)))
}

/// What is wrong with the files, in words; all other errors are of a damaged model.
#[derive(Debug)]
struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// The messages in which there may be weights.
#[derive(Clone, Copy)]
enum Of {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Of {
    /// What is in a field of it, by the numbers of `onnx.proto3`.
    fn within(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            _ => return None,
        })
    }
}

/// The files beside a model.
struct Beside<'a> {
    folder: &'a Path,
    files: BTreeMap<String, Vec<u8>>,
    /// Bytes of the whole model.
    all: usize,
}

impl Beside<'_> {
    /// A message with the weights within it; nothing where it stays as it is.
    fn rewrite(&mut self, message: &[u8], of: Of) -> anyhow::Result<Option<Vec<u8>>> {
        if matches!(of, Of::Tensor) {
            return self.tensor(message);
        }
        let mut changed = Vec::new();
        let all = fields(message)?;
        for (number, field) in all.iter().enumerate() {
            if let Some(within) = of.within(field.number)
                && let Some(new) = self.rewrite(field.bytes()?, within)?
            {
                changed.push((number, new));
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let mut new = Vec::with_capacity(message.len() + changed.iter().map(|(_, new)| new.len()).sum::<usize>());
        let mut changed = changed.into_iter().peekable();
        for (number, field) in all.iter().enumerate() {
            match changed.next_if(|(of, _)| *of == number) {
                Some((_, within)) => put(&mut new, field.number, &within),
                None => new.extend_from_slice(field.whole),
            }
        }
        Ok(Some(new))
    }

    fn tensor(&mut self, message: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let all = fields(message)?;
        let number = |field: &Field<'_>| {
            let mut numbers = Vec::new();
            field.numbers(&mut numbers).map(|()| numbers.first().copied().unwrap_or(0))
        };
        if !all.iter().any(|field| field.number == 14 && number(field).is_ok_and(|n| n == 1)) {
            return Ok(None);
        }
        let (mut dims, mut element, mut said) = (Vec::new(), 0, BTreeMap::new());
        for field in &all {
            match field.number {
                1 => field.numbers(&mut dims)?,
                2 => element = number(field)?,
                13 => {
                    let entry = fields(field.bytes()?)?;
                    let text = |number| entry.iter().find(|f| f.number == number).map_or(Ok(""), Field::text);
                    said.insert(text(1)?, text(2)?);
                }
                _ => {}
            }
        }
        let location = *said.get("location").context("a weight in another file, which is not named")?;
        let place = |key: &str| {
            let place = said.get(key).map(|text| text.parse::<usize>());
            place.transpose().with_context(|| format!("a weight in `{location}`: its {key} is no number"))
        };
        let (from, length) = (place("offset")?.unwrap_or(0), place("length")?.or_else(|| size(&dims, element)));
        let file = self.file(location)?;
        let to = length.map_or(Some(file.len()), |length| from.checked_add(length));
        let Some(values) = to.and_then(|to| file.get(from..to)) else {
            bail!(Said(format!(
                "its weights are in `{location}`, which is too short: it has {} bytes (was it copied whole?)",
                file.len()
            )));
        };
        let mut new = Vec::with_capacity(message.len() + values.len());
        put(&mut new, 9, values);
        let added = values.len();
        all.iter().filter(|field| !matches!(field.number, 9 | 13 | 14)).for_each(|field| new.extend_from_slice(field.whole));
        self.all += added;
        let too_much = || Said("with its weights it has more than 2 GiB, and ONNX Runtime takes no more from memory".into());
        ensure!(self.all <= MOST, too_much());
        Ok(Some(new))
    }

    fn file(&mut self, location: &str) -> anyhow::Result<&[u8]> {
        if !self.files.contains_key(location) {
            let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            let outside =
                || Said(format!("its weights are in `{location}`, and only files within the model's own folder are read"));
            ensure!(inside, outside());
            let path = self.folder.join(location);
            let read = std::fs::read(&path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Said(format!(
                    "its weights are in `{location}`, and there is no {}: they stay beside the model",
                    path.display()
                )),
                _ => Said(format!("its weights are in {}, which can't be read: {error}", path.display())),
            });
            self.files.insert(location.to_owned(), read?);
        }
        Ok(self.files.get(location).map_or(&[], Vec::as_slice))
    }
}

/// The bytes of a tensor of these extents; none of a type whose values are not whole bytes.
fn size(dims: &[i64], element: i64) -> Option<usize> {
    let bytes = match element {
        2 | 3 | 9 | 17..=20 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 | 14 => 8,
        15 => 16,
        _ => return None,
    };
    dims.iter().try_fold(bytes, |size: usize, n| size.checked_mul(usize::try_from(*n).ok()?))
}
