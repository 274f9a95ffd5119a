//! numpy's archives of arrays (`.npz`), described as if they were HDF5 files, so that everything that reads those reads them.
//!
//! An array of an archive is a dataset: in one piece where `np.savez` has stored it, in one packed chunk where
//! `np.savez_compressed` has. What is packed is unpacked once, as a stream into a temporary file, and its checksum is verified.
//!
//! Invariant: no size that an archive says is believed before as many bytes have come out of it.

use crate::Fault;
use crate::hdf5::element::{Element, Kind, Number, Pad};
use crate::hdf5::header::{Dataset, Filter, Header, Layout};
use crate::hdf5::rows::Opened;
use anyhow::Context;
use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, ErrorKind, FileReader, ZipArchive, ZipArchiveEntryWayfinder};
use std::fs::File;
use std::io::{self, Read, Write};
use tempfile::NamedTempFile;

/// The text before the values is not longer than this.
const MOST_TEXT: usize = 1 << 16;
/// More arrays are not looked at.
const MOST_ARRAYS: usize = 10_000;
/// What is packed in an archive, as the filter of a dataset: gzip is the same method.
const DEFLATE: u32 = 1;

/// An array that was found in an archive.
struct Found {
    name: String,
    packed: bool,
    bytes: u64,
    place: ZipArchiveEntryWayfinder,
}

/// True where the file begins as an archive does.
pub fn is_npz(opened: &Opened) -> bool {
    let mut magic = [0; 4];
    opened.bytes >= 22 && opened.read(&mut magic, 0).is_ok() && (&magic == b"PK\x03\x04" || &magic == b"PK\x05\x06")
}

/// The arrays of an archive as datasets.
pub fn header(path: &str) -> Result<Header, Fault> {
    let (archive, arrays) = open(path)?;
    let mut header = Header::default();
    for array in arrays {
        match describe(&archive, &array) {
            Ok(dataset) => header.datasets.push(dataset),
            Err(Fault::Content(reason)) => header.unreadable.push((array.name, reason)),
            Err(machine) => return Err(machine),
        }
    }
    header.datasets.sort_by(|a, b| a.path.cmp(&b.path));
    header.unreadable.sort();
    let bytes = std::fs::metadata(path)?.len();
    header.check(bytes);
    Ok(header)
}

/// The values of these arrays where they stand in one piece: a header for the file itself, or for a temporary one that holds
/// what was packed in it.
pub fn unpacked(path: &str, header: &Header, wanted: &[&str]) -> Result<(Option<NamedTempFile>, Header), Fault> {
    let mut header = header.clone();
    let packed = |d: &Dataset| wanted.contains(&d.path.as_str()) && !d.filters.is_empty();
    if !header.datasets.iter().any(packed) {
        return Ok((None, header));
    }
    let (archive, arrays) = open(path)?;
    let mut file = NamedTempFile::new().context("a temporary file for what is packed in an archive")?;
    let mut address = 0;
    // The temporary file has all that is wanted, also what is not packed: one file is read.
    for dataset in header.datasets.iter_mut().filter(|d| wanted.contains(&d.path.as_str())) {
        let array = arrays.iter().find(|a| a.name == dataset.path);
        let array = array.ok_or_else(|| Fault::content(format!("no array `{}`", dataset.path)))?;
        let lengths = dataset.shape.iter().copied();
        let bytes = lengths.fold(dataset.element.bytes(), u64::saturating_mul);
        copy(&archive, array, bytes, &mut file).map_err(|fault| at(&array.name, fault))?;
        dataset.layout = Layout::Contiguous { address: Some(address) };
        dataset.filters.clear();
        address += bytes;
    }
    file.flush()?;
    Ok((Some(file), header))
}

fn at(name: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Content(reason) => Fault::Content(format!("`{name}`: {reason}")),
        machine @ Fault::Machine(_) => machine,
    }
}

/// What is wrong with an archive is wrong with the data, unless it is the disk's fault.
fn fault(error: &rawzip::Error) -> Fault {
    match error.kind() {
        ErrorKind::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            let again = error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error);
            Fault::Machine(again.into())
        }
        _ => Fault::content(format!("not a readable archive: {error}")),
    }
}

/// A stream that is wrong in itself is the data's fault.
fn stream_fault(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            Fault::content(format!("what is packed cannot be unpacked: {error}"))
        }
        _ => error.into(),
    }
}

fn open(path: &str) -> Result<(ZipArchive<FileReader>, Vec<Found>), Fault> {
    let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(File::open(path)?, &mut buffer).map_err(|e| fault(&e))?;
    let mut arrays = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(|e| fault(&e))? {
        let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
        let Some(name) = name.strip_suffix(".npy") else { continue };
        let packed = match entry.compression_method() {
            CompressionMethod::Store => false,
            CompressionMethod::Deflate => true,
            other => return Err(Fault::content(format!("`{name}` is packed by {other:?}, which numpy does not do"))),
        };
        let bytes = entry.compressed_size_hint();
        arrays.push(Found { name: name.to_owned(), packed, bytes, place: entry.wayfinder() });
        if arrays.len() > MOST_ARRAYS {
            return Err(Fault::content("more arrays than anybody has a use for"));
        }
    }
    Ok((archive, arrays))
}

/// The stream of an array from its first byte on, and where that stands in the file.
fn stream<'a>(archive: &'a ZipArchive<FileReader>, array: &Found) -> Result<(Box<dyn Read + 'a>, u64), Fault> {
    let entry = archive.get_entry(array.place).map_err(|e| fault(&e))?;
    let (begin, _) = entry.compressed_data_range();
    if array.packed {
        Ok((Box::new(entry.verifying_reader(DeflateDecoder::new(entry.reader()))), begin))
    } else {
        Ok((Box::new(entry.verifying_reader(entry.reader())), begin))
    }
}

fn describe(archive: &ZipArchive<FileReader>, array: &Found) -> Result<Dataset, Fault> {
    let (mut from, begin) = stream(archive, array)?;
    let (text, before) = text(&mut from)?;
    let (element, shape) = parse(&text).map_err(Fault::Content)?;
    let layout = if array.packed {
        // One chunk of the whole array.
        Layout::Chunked { chunk: shape.iter().map(|n| (*n).max(1)).collect(), bare_edges: false, turned: false }
    } else {
        Layout::Contiguous { address: Some(begin + before) }
    };
    let filter = Filter { id: DEFLATE, name: "deflate".to_owned(), values: Vec::new(), available: true };
    Ok(Dataset {
        path: array.name.clone(),
        max_shape: shape.iter().map(|n| Some(*n)).collect(),
        shape,
        null: false,
        element,
        layout,
        filters: if array.packed { vec![filter] } else { Vec::new() },
        fill: None,
        stored: array.bytes,
        unit: None,
        index_hash: 0,
        chunks: None,
        elsewhere: 0,
    })
}

/// The text at the beginning of an array (numpy's `lib.format`), and the bytes before the values.
fn text(from: &mut dyn Read) -> Result<(String, u64), Fault> {
    let mut head = [0; 8];
    from.read_exact(&mut head).map_err(stream_fault)?;
    if &head[..6] != b"\x93NUMPY" {
        return Err(Fault::content("no array of numpy"));
    }
    let wide = if head[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    from.read_exact(&mut length[..wide]).map_err(stream_fault)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST_TEXT {
        return Err(Fault::content("the text before its values is too long"));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text).map_err(stream_fault)?;
    Ok((String::from_utf8_lossy(&text).into_owned(), (8 + wide + length) as u64))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (300, 15, 29), }`.
fn parse(text: &str) -> Result<(Element, Vec<u64>), String> {
    let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([':', ' ']));
    let (Some(kind), Some(order), Some(shape)) = (after("'descr'"), after("'fortran_order'"), after("'shape'")) else {
        return Err("no array of numpy: its text says no type and shape".into());
    };
    let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let lengths = shape.ok_or("its shape cannot be read")?.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<u64> =
        lengths.map(|n| n.parse().map_err(|_| format!("its shape has a length `{n}`"))).collect::<Result<_, _>>()?;
    if order.starts_with("True") && shape.iter().filter(|n| **n > 1).count() > 1 {
        return Err("its axes are in the order of Fortran; save it with np.ascontiguousarray".into());
    }
    let kind = kind.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(inside, _)| inside);
    let kind = kind.ok_or("it holds records, which are not read from archives")?;
    element(kind).map(|element| (element, shape)).ok_or_else(|| format!("it holds `{kind}`, no numbers and no bytes"))
}

/// The element that numpy calls `<f4`, `|u1`, `|S8` and so on.
fn element(kind: &str) -> Option<Element> {
    let (order, rest) = kind.split_at_checked(1)?;
    let (letter, bytes) = rest.split_at_checked(1)?;
    let bytes: u64 = bytes.parse().ok()?;
    let number = |kind| Number { kind, bytes: bytes as u8, stored: bytes, big_endian: order == ">", plain: true };
    match (letter, bytes) {
        ("f", 2 | 4 | 8) => Some(Element::Number(number(Kind::Float))),
        ("i", 1 | 2 | 4 | 8) => Some(Element::Number(number(Kind::Signed))),
        ("u", 1 | 2 | 4 | 8) => Some(Element::Number(number(Kind::Unsigned))),
        ("b", 1) => Some(Element::Number(number(Kind::Boolean))),
        ("S", 1..=65536) => Some(Element::Text { bytes, variable: false, pad: Pad::Zeros }),
        _ => None,
    }
}

/// Copies the values of an array, which are so many bytes.
fn copy(archive: &ZipArchive<FileReader>, array: &Found, bytes: u64, to: &mut impl Write) -> Result<(), Fault> {
    let (mut from, _) = stream(archive, array)?;
    text(&mut from)?;
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(stream_fault(error)),
        };
        done += count as u64;
        if done > bytes {
            return Err(Fault::content(format!("more than the {bytes} bytes that its shape says")));
        }
        to.write_all(&buffer[..count])?;
    }
    if done < bytes {
        return Err(Fault::content(format!("{done} bytes of the {bytes} that its shape says")));
    }
    Ok(())
}
