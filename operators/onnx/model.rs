//! What a model wants and gives, as data.
//!
//! A model is known by the hash of its file (of its files, where weights lie beside it): `probe` reads it once, and the sessions that
//! are opened later are made of bytes with the same hash or not at all. So what was checked is what runs, and a run can say which
//! network it used.

use super::outside::{self, File, sha256};
use anyhow::{anyhow, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;

/// The inputs and outputs of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// What it wants, in its own order.
    pub inputs: Vec<Tensor>,
    /// What it gives, in its own order.
    pub outputs: Vec<Tensor>,
    /// The SHA-256 of the file, in hexadecimal; of the hashes of all `files`, where there are such.
    pub sha256: String,
    /// Bytes of the whole.
    pub bytes: u64,
    /// Where weights lie beside the model: its own file and theirs.
    pub files: Vec<File>,
    /// Why it can't be cut open to put something in front of it or to take its first layer out; none where it can.
    pub closed: Option<String>,
    /// The width of its first layer, where that is a product with all of its inputs ([`super::first_layer`]).
    pub first_layer: Option<usize>,
    /// The inputs of which convolutions can be taken out ([`super::first_convolution`]).
    pub convolved: Vec<Convolved>,
    /// What it says of itself: `producer`, `opset`, `description`, `metadata.<key>` and the like.
    pub about: BTreeMap<String, String>,
}

/// An input that is convolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolved {
    /// Its number among the inputs.
    pub input: usize,
    /// How many values come out of all its first convolutions, for an event.
    pub width: usize,
    /// True where the rest of the model reads it, too.
    pub read_again: bool,
}

/// An input or output of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements as ONNX and numpy call it (`float32`, `int64`), or what else it is (`a sequence`).
    pub element: String,
    /// Its extents, the batch axis first.
    pub dims: Vec<Extent>,
}

/// The length of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Always this.
    Fixed(usize),
    /// Free, under this name (empty where it has none).
    Free(String),
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Free(name) if name.is_empty() => f.write_str("?"),
            Self::Free(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}(", self.name, self.element)?;
        for (i, extent) in self.dims.iter().enumerate() {
            write!(f, "{}{extent}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl Tensor {
    /// The extents behind the batch axis.
    #[must_use]
    pub fn behind_batch(&self) -> &[Extent] {
        self.dims.get(1..).unwrap_or_default()
    }

    /// The extents of a row; none where an axis is free.
    #[must_use]
    pub fn row(&self) -> Option<Vec<usize>> {
        let extent = |extent: &Extent| match extent {
            Extent::Fixed(n) => Some(*n),
            Extent::Free(_) => None,
        };
        self.behind_batch().iter().map(extent).collect()
    }

    /// The number of values in a row; none where an axis is free.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        self.behind_batch().iter().try_fold(1, |product, extent| match extent {
            Extent::Fixed(n) => Some(product * n),
            Extent::Free(_) => None,
        })
    }
}

/// The bytes of the model at `path`, which must still be the one of `facts`.
pub(super) fn read_again(path: &str, facts: &ModelFacts) -> anyhow::Result<Vec<u8>> {
    let Whole { bytes, sha256, .. } = read(path).map_err(|e| anyhow!(e))?;
    ensure!(
        sha256 == facts.sha256,
        "the model `{path}` has changed since the pipeline was planned (SHA-256 {sha256}, it was {}); run again",
        facts.sha256
    );
    Ok(bytes)
}

/// A model, read.
pub(super) struct Whole {
    /// With all of its weights.
    pub bytes: Vec<u8>,
    pub sha256: String,
    pub files: Vec<File>,
}

/// Reads a model file, and those of its weights.
pub(super) fn read(path: &str) -> Result<Whole, String> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no model `{path}`"),
        _ => format!("the model `{path}` can't be read: {error}"),
    })?;
    let own = sha256(&bytes);
    match outside::put_in(&bytes, path) {
        Ok(Some((whole, beside))) => {
            let mut files = vec![File { path: path.to_owned(), sha256: own, bytes: bytes.len() as u64 }];
            files.extend(beside);
            let hashes: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
            Ok(Whole { bytes: whole, sha256: sha256(hashes.join(" ").as_bytes()), files })
        }
        Ok(None) => Ok(Whole { bytes, sha256: own, files: Vec::new() }),
        Err(what) => Err(format!("`{path}` can't be used: {what}")),
    }
}
