//! The HDF5 library, as far as the reader process needs it: what is in a file, where its chunks are, rows by the library.
//!
//! Invariants: nothing here runs in the main process; no allocation is larger than a number that was checked before, and no
//! list is longer than a file of its size can hold (each link and each chunk takes at least a byte).

#![allow(unsafe_code)]

mod attributes;
mod lists;

pub use lists::Lists;

use super::chunk_list::ChunkList;
use super::element::Element;
use super::ffi::{Failure, Handle, Result, ask, c_string, call, checked, handle, refused};
use super::header::{Attribute, Dataset, Filter, Header, Layout};
use super::protocol::PIECE;
use super::types::{element, memory_type};
use hdf5_metno_sys::{h5, h5a, h5d, h5e, h5f, h5i, h5l, h5o, h5p, h5s, h5t, h5z};
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A longer chunk index is asked for when it is needed, and does not travel with the header: small files are read without
/// the library, and the headers of thousands of large ones stay small.
const CARRIED_CHUNKS: usize = 256;
/// `H5D_CHUNK_IDX_EARRAY` of `H5Dpublic.h`.
const EXTENSIBLE_ARRAY: h5d::H5D_chunk_index_t = 4;

/// An open file.
pub struct File {
    file: Handle,
    path: PathBuf,
    bytes: u64,
}

impl File {
    /// Opens a file for reading.
    pub fn open(path: &str) -> Result<Self> {
        let bytes = std::fs::metadata(path).map_err(|e| Failure::Machine(e.to_string()))?.len();
        let name = c_string(path)?;
        // What stays open of a file is found again by its inode when another file is opened; so nothing may stay open.
        let access = handle(call!(h5p::H5Pcreate(*h5p::H5P_CLS_FILE_ACCESS)))?;
        call!(h5p::H5Pset_fclose_degree(access.0, h5f::H5F_close_degree_t::H5F_CLOSE_STRONG))?;
        // Locks fail on many shared file systems, and linger in a child between its fork and its exec; nobody writes here.
        call!(h5p::H5Pset_file_locking(access.0, 0, 1))?;
        let file = handle(call!(h5f::H5Fopen(name.as_ptr(), h5f::H5F_ACC_RDONLY, access.0)))?;
        Ok(Self { file, path: path.into(), bytes })
    }

    /// Everything that can be said of the datasets; `progress` is called after each.
    pub fn header(&self, progress: &mut dyn FnMut()) -> Result<Header> {
        let mut header = Header::default();
        header.attributes.extend(attributes::of(&self.file, ""));
        for path in self.links(progress)? {
            match self.describe(&path, &mut header.attributes, progress) {
                Ok(Some(dataset)) => header.datasets.push(dataset),
                Ok(None) => {}
                Err(Failure::Refused(reason)) => header.unreadable.push((path, reason)),
                Err(machine) => return Err(machine),
            }
            progress();
        }
        header.datasets.sort_by(|a, b| a.path.cmp(&b.path));
        header.check(self.bytes);
        header.unreadable.sort();
        Ok(header)
    }

    /// The paths of all hard links.
    fn links(&self, progress: &mut dyn FnMut()) -> Result<Vec<String>> {
        struct Into<'a> {
            names: Vec<String>,
            left: u64,
            progress: &'a mut dyn FnMut(),
        }
        unsafe extern "C" fn each(_: i64, name: *const c_char, info: *const h5l::H5L_info2_t, into: *mut c_void) -> c_int {
            // SAFETY: the library hands a valid record, whose first field is the link's type as a C int (0: a hard link), and a C
            // string; `into` is the record below.
            let (kind, name, into) = unsafe { (*info.cast::<c_int>(), CStr::from_ptr(name), &mut *into.cast::<Into<'_>>()) };
            // A path is as long as all the groups that it goes through, and takes as much memory.
            let Some(left) = into.left.checked_sub(name.count_bytes() as u64 + 1) else { return 1 };
            into.left = left;
            (into.progress)();
            if kind == 0
                && let Ok(name) = name.to_str()
            {
                into.names.push(name.to_owned());
            }
            0
        }
        let mut into = Into { names: Vec::new(), left: self.bytes.saturating_mul(16), progress };
        let stopped = call!(h5l::H5Lvisit2(self.file.0, h5::H5_INDEX_NAME, h5::H5_ITER_INC, Some(each), (&raw mut into).cast()))?;
        if stopped > 0 { refused("more links than a file of its size can hold") } else { Ok(into.names) }
    }

    fn dataset(&self, path: &str) -> Result<Handle> {
        let name = c_string(path)?;
        handle(call!(h5d::H5Dopen2(self.file.0, name.as_ptr(), h5p::H5P_DEFAULT)))
    }

    fn describe(&self, path: &str, found: &mut Vec<Attribute>, progress: &mut dyn FnMut()) -> Result<Option<Dataset>> {
        let name = c_string(path)?;
        let object = handle(call!(h5o::H5Oopen(self.file.0, name.as_ptr(), h5p::H5P_DEFAULT)))?;
        found.extend(attributes::of(&object, path));
        if !matches!(ask!(h5i::H5Iget_type(object.0)), h5i::H5I_type_t::H5I_DATASET) {
            return Ok(None);
        }
        let (null, shape, max_shape) = self.space(&object)?;
        let kind = handle(call!(h5d::H5Dget_type(object.0)))?;
        let element = element(&kind)?;
        let plist = handle(call!(h5d::H5Dget_create_plist(object.0)))?;
        let layout = self.layout(&object, &plist, &max_shape)?;
        let stored = ask!(h5d::H5Dget_storage_size(object.0));
        let (mut index_hash, mut chunks) = (0, None);
        match &layout {
            // The index of a dataset without rows or with a broken index is looked at when it is read.
            Layout::Chunked { chunk, .. } => {
                let (rank, mut hash, mut records) = (chunk.len(), Xxh3::new(), Vec::new());
                let all = self.chunks(&object, rank, &mut |record| {
                    record.iter().for_each(|entry| hash.update(&entry.to_le_bytes()));
                    if records.len() <= CARRIED_CHUNKS * record.len() {
                        records.extend_from_slice(record);
                    }
                    progress();
                    true
                });
                if all.is_ok() {
                    index_hash = hash.digest();
                    chunks = (records.len() <= CARRIED_CHUNKS * (rank + 3)).then(|| ChunkList::pack(rank, &records));
                }
            }
            Layout::Contiguous { address: Some(address) } => index_hash = xxh3_64(&address.to_le_bytes()),
            _ => {}
        }
        Ok(Some(Dataset {
            path: path.to_owned(),
            shape,
            max_shape,
            null,
            fill: fill(&plist, &kind, &element)?,
            element,
            elsewhere: self.elsewhere(&layout, &plist)?,
            layout,
            filters: filters(&plist)?,
            stored,
            unit: unit(&object),
            index_hash,
            chunks,
        }))
    }

    /// Bytes of the other files that a virtual or external dataset takes its values from, as far as they are there.
    fn elsewhere(&self, layout: &Layout, plist: &Handle) -> Result<u64> {
        let mut names = BTreeSet::new();
        let mut name = [0 as c_char; 4096];
        let length = name.len() - 1;
        match layout {
            Layout::Virtual => {
                let mut count = 0;
                call!(h5p::H5Pget_virtual_count(plist.0, &raw mut count))?;
                // A mapping takes more than a byte.
                for i in 0..count.min(usize::try_from(self.bytes).unwrap_or(usize::MAX)) {
                    if ask!(h5p::H5Pget_virtual_filename(plist.0, i, name.as_mut_ptr(), length)) > 0 {
                        // SAFETY: the library ends what it writes with a zero, and the last byte of the buffer is out of its reach.
                        names.insert(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned());
                    }
                }
            }
            Layout::External => {
                for i in 0..call!(h5p::H5Pget_external_count(plist.0))?.unsigned_abs() {
                    let (text, no) = (name.as_mut_ptr(), std::ptr::null_mut());
                    call!(h5p::H5Pget_external(plist.0, i, length, text, no, std::ptr::null_mut()))?;
                    // SAFETY: as above.
                    names.insert(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned());
                }
            }
            _ => return Ok(0),
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let size = |name: &String| {
            // Numbered files (`%b`): whatever is there of them, or will be, is not looked for.
            if name.contains("%b") {
                return 1 << 30;
            }
            let found = std::fs::metadata(folder.join(name)).or_else(|_| std::fs::metadata(name));
            found.map_or(0, |f| f.len())
        };
        Ok(names.iter().filter(|n| *n != ".").map(size).fold(0, u64::saturating_add))
    }

    fn space(&self, object: &Handle) -> Result<(bool, Vec<u64>, Vec<Option<u64>>)> {
        let space = handle(call!(h5d::H5Dget_space(object.0)))?;
        match ask!(h5s::H5Sget_simple_extent_type(space.0)) {
            h5s::H5S_class_t::H5S_NULL => return Ok((true, Vec::new(), Vec::new())),
            h5s::H5S_class_t::H5S_SCALAR => return Ok((false, Vec::new(), Vec::new())),
            _ => {}
        }
        let rank = call!(h5s::H5Sget_simple_extent_ndims(space.0))?.unsigned_abs() as usize;
        let (mut shape, mut most) = (vec![0u64; rank], vec![0u64; rank]);
        call!(h5s::H5Sget_simple_extent_dims(space.0, shape.as_mut_ptr(), most.as_mut_ptr()))?;
        Ok((false, shape, most.into_iter().map(|n| (n != u64::MAX).then_some(n)).collect()))
    }

    fn layout(&self, object: &Handle, plist: &Handle, max_shape: &[Option<u64>]) -> Result<Layout> {
        let rank = max_shape.len();
        Ok(match ask!(h5p::H5Pget_layout(plist.0)) {
            h5d::H5D_layout_t::H5D_COMPACT => Layout::Compact,
            h5d::H5D_layout_t::H5D_CONTIGUOUS => {
                if call!(h5p::H5Pget_external_count(plist.0))? > 0 {
                    return Ok(Layout::External);
                }
                let address = ask!(h5d::H5Dget_offset(object.0));
                Layout::Contiguous { address: (address != u64::MAX).then_some(address) }
            }
            h5d::H5D_layout_t::H5D_CHUNKED => {
                let mut chunk = vec![0u64; rank];
                let limit = c_int::try_from(rank).unwrap_or(0);
                let found = call!(h5p::H5Pget_chunk(plist.0, limit, chunk.as_mut_ptr()))?;
                if found != limit {
                    return refused(format!("chunks of {found} axes in a dataset of {rank}"));
                }
                let mut options: c_uint = 0;
                call!(h5p::H5Pget_chunk_opts(plist.0, &raw mut options))?;
                let mut index = 0;
                call!(h5d::H5Dget_chunk_index_type(object.0, &raw mut index))?;
                let turned = index == EXTENSIBLE_ARRAY && max_shape.first().is_some_and(Option::is_some);
                Layout::Chunked { chunk, bare_edges: options != 0, turned }
            }
            h5d::H5D_layout_t::H5D_VIRTUAL => Layout::Virtual,
            _ => return refused("a layout that the HDF5 library does not know"),
        })
    }

    /// The chunks as u64 (offsets, address, size, filter mask): `piece` takes them as they are found and says whether to go on;
    /// what comes back is the rest.
    pub fn index(&self, path: &str, piece: &mut dyn FnMut(&[u8]) -> bool) -> Result<Vec<u8>> {
        let object = self.dataset(path)?;
        let (_, shape, _) = self.space(&object)?;
        let (mut bytes, mut sent) = (Vec::with_capacity(PIECE), Instant::now());
        self.chunks(&object, shape.len(), &mut |record| {
            bytes.extend(record.iter().flat_map(|entry| entry.to_le_bytes()));
            if bytes.len() < PIECE - 8 * record.len() && sent.elapsed() < Duration::from_secs(1) {
                return true;
            }
            let more = piece(&bytes);
            bytes.clear();
            sent = Instant::now();
            more
        })?;
        Ok(bytes)
    }

    /// Calls `each` with offsets, address, size and mask of every chunk of an open dataset of this rank, until it says no.
    fn chunks(&self, object: &Handle, rank: usize, each: &mut dyn FnMut(&[u64]) -> bool) -> Result<()> {
        struct Into<'a> {
            record: Vec<u64>,
            left: u64,
            each: &'a mut dyn FnMut(&[u64]) -> bool,
        }
        unsafe extern "C" fn one(offset: *const u64, mask: c_uint, address: u64, size: u64, into: *mut c_void) -> c_int {
            // SAFETY: `into` is the record below; the library hands one offset for each axis.
            let (into, offset) = unsafe {
                let into = &mut *into.cast::<Into<'_>>();
                let rank = into.record.len() - 3;
                (into, std::slice::from_raw_parts(offset, rank))
            };
            let Some(left) = into.left.checked_sub(1) else { return 1 };
            into.left = left;
            into.record[..offset.len()].copy_from_slice(offset);
            into.record[offset.len()..].copy_from_slice(&[address, size, u64::from(mask)]);
            if (into.each)(&into.record) { 0 } else { 2 }
        }
        let mut into = Into { record: vec![0; rank + 3], left: self.bytes, each };
        match call!(h5d::H5Dchunk_iter(object.0, h5p::H5P_DEFAULT, Some(one), (&raw mut into).cast()))? {
            0 => Ok(()),
            1 => refused("more chunks than a file of its size can hold"),
            _ => refused("nobody wants more chunks"),
        }
    }

    /// Rows as little-endian numbers in C order, converted by the library.
    pub fn rows(&self, path: &str, member: Option<&str>, first: u64, rows: u64) -> Result<Vec<u8>> {
        let object = self.dataset(path)?;
        let (null, shape, _) = self.space(&object)?;
        if null {
            return Ok(Vec::new());
        }
        let kind = handle(call!(h5d::H5Dget_type(object.0)))?;
        let described = Dataset {
            path: path.to_owned(),
            element: element(&kind)?,
            shape: shape.clone(),
            max_shape: Vec::new(),
            null,
            layout: Layout::Compact,
            filters: Vec::new(),
            fill: None,
            stored: 0,
            unit: None,
            index_hash: 0,
            chunks: None,
            elsewhere: 0,
        };
        let numbers = described.numbers(member).map_err(Failure::Refused)?;
        if first.checked_add(rows).is_none_or(|end| end > shape.first().copied().unwrap_or(1)) {
            return refused(format!("rows {first} to {} of {}", first.saturating_add(rows), shape.first().copied().unwrap_or(1)));
        }
        let per_row =
            shape.iter().skip(1).chain(&numbers.shape).try_fold(u64::from(numbers.number.bytes), |n, m| n.checked_mul(*m));
        let Some(bytes) = per_row.and_then(|n| n.checked_mul(rows)).filter(|n| *n <= super::process::MOST_BODY) else {
            return refused(format!("{rows} rows of {} are too large to be read at once", described.describe()));
        };
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let length = usize::try_from(bytes).map_err(|e| Failure::Refused(e.to_string()))?;
        let mut values = Vec::new();
        if values.try_reserve_exact(length).is_err() {
            return refused(format!(
                "{bytes} bytes of {} are more memory than the reader process may take",
                described.describe()
            ));
        }
        values.resize(length, 0u8);
        let memory_type = memory_type(&kind, member, &numbers)?;
        let (file_space, memory_space) = select(&object, &shape, first, rows)?;
        call!(h5d::H5Dread(object.0, memory_type.0, memory_space.0, file_space.0, h5p::H5P_DEFAULT, values.as_mut_ptr().cast()))?;
        Ok(values)
    }
}

/// Rows of a dataset of this shape, as they stand in the file and in memory.
fn select(object: &Handle, shape: &[u64], first: u64, rows: u64) -> Result<(Handle, Handle)> {
    let file_space = handle(call!(h5d::H5Dget_space(object.0)))?;
    let memory_space = if shape.is_empty() {
        handle(call!(h5s::H5Screate(h5s::H5S_class_t::H5S_SCALAR)))?
    } else {
        let mut start = vec![0u64; shape.len()];
        let mut count = shape.to_vec();
        (start[0], count[0]) = (first, rows);
        let (from, no) = (start.as_ptr(), std::ptr::null());
        call!(h5s::H5Sselect_hyperslab(file_space.0, h5s::H5S_seloper_t::H5S_SELECT_SET, from, no, count.as_ptr(), no))?;
        let rank = c_int::try_from(count.len()).unwrap_or(0);
        handle(call!(h5s::H5Screate_simple(rank, count.as_ptr(), no)))?
    };
    Ok((file_space, memory_space))
}

fn filters(plist: &Handle) -> Result<Vec<Filter>> {
    let count = call!(h5p::H5Pget_nfilters(plist.0))?;
    (0..count.unsigned_abs())
        .map(|i| {
            let (mut flags, mut config, mut n) = (0, 0, 32usize);
            let (mut values, mut name) = ([0 as c_uint; 32], [0 as c_char; 64]);
            let (v, text) = (values.as_mut_ptr(), name.as_mut_ptr());
            let id = call!(h5p::H5Pget_filter2(plist.0, i, &raw mut flags, &raw mut n, v, 63, text, &raw mut config))?;
            // SAFETY: 64 bytes, of which the library was told 63 and the last is zero.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
            let available = ask!(h5z::H5Zfilter_avail(id)) > 0;
            ask!(h5e::H5Eclear2(h5e::H5E_DEFAULT));
            Ok(Filter { id: id.unsigned_abs(), name, values: values[..n.min(32)].to_vec(), available })
        })
        .collect()
}

/// The fill value as the bytes of one element in the file; none where it is zero.
fn fill(plist: &Handle, kind: &Handle, element: &Element) -> Result<Option<Vec<u8>>> {
    let mut status = h5d::H5D_fill_value_t::H5D_FILL_VALUE_UNDEFINED;
    call!(h5p::H5Pfill_value_defined(plist.0, &raw mut status))?;
    let user = matches!(status, h5d::H5D_fill_value_t::H5D_FILL_VALUE_USER_DEFINED);
    // Text of variable length and references would be pointers.
    if !user || !element.is_fixed() || element.bytes() > 1 << 20 {
        return Ok(None);
    }
    let mut bytes = vec![0u8; usize::try_from(element.bytes()).unwrap_or(0)];
    call!(h5p::H5Pget_fill_value(plist.0, kind.0, bytes.as_mut_ptr().cast()))?;
    Ok(bytes.iter().any(|b| *b != 0).then_some(bytes))
}

/// The unit of a dataset, where a short text attribute of a usual name says it.
fn unit(object: &Handle) -> Option<String> {
    [c"unit", c"units", c"Unit", c"Units"].into_iter().find_map(|name| {
        if ask!(h5a::H5Aexists(object.0, name.as_ptr())) <= 0 {
            return None;
        }
        let attribute = handle(call!(h5a::H5Aopen(object.0, name.as_ptr(), h5p::H5P_DEFAULT))).ok()?;
        let kind = handle(call!(h5a::H5Aget_type(attribute.0))).ok()?;
        let space = handle(call!(h5a::H5Aget_space(attribute.0))).ok()?;
        let text = matches!(ask!(h5t::H5Tget_class(kind.0)), h5t::H5T_class_t::H5T_STRING);
        if !text || ask!(h5s::H5Sget_simple_extent_npoints(space.0)) != 1 {
            return None;
        }
        if call!(h5t::H5Tis_variable_str(kind.0)).ok()? > 0 {
            let mut pointer: *mut c_char = std::ptr::null_mut();
            call!(h5a::H5Aread(attribute.0, kind.0, (&raw mut pointer).cast())).ok()?;
            if pointer.is_null() {
                return None;
            }
            // SAFETY: the library has allocated a C string and hands it over.
            let text = unsafe { CStr::from_ptr(pointer) }.to_str().ok().map(str::to_owned);
            ask!(h5::H5free_memory(pointer.cast()));
            return text;
        }
        let size = ask!(h5t::H5Tget_size(kind.0));
        if size == 0 || size > 256 {
            return None;
        }
        let mut bytes = vec![0u8; size];
        call!(h5a::H5Aread(attribute.0, kind.0, bytes.as_mut_ptr().cast())).ok()?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(size);
        std::str::from_utf8(&bytes[..end]).ok().map(|s| s.trim_end().to_owned())
    })
}
