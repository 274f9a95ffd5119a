//! Everything that knows HDF5: headers, the chunk index, own decoding, and the library behind its seam.
//!
//! libhdf5 can crash or hang on bad bytes, so this process never calls it on a file that it has not written itself. A process
//! of its own ([`serve`], started by [`process`]) takes headers and chunk indices, and reads what the own path does not
//! claim; the values of everything usual (contiguous or chunked, gzip, shuffle, blosc, ...) are read here with `pread` and decoded
//! by [`decode`], several times as fast as by the library and on as many threads as there are. Nothing is memory-mapped.

mod blosc;
mod blosc2;
pub mod cache;
pub mod chunk_file;
pub mod chunk_list;
mod codec;
pub mod decode;
pub mod element;
mod ffi;
pub mod fingerprint;
pub mod header;
pub mod images;
pub mod index;
mod library;
pub mod merge;
pub mod opened;
pub mod own;
pub mod probe;
pub mod process;
pub mod propose;
mod protocol;
pub mod rows;
pub mod scan;
pub mod serve;
mod shuffle;
mod types;
pub mod write;

pub use probe::{probe, probe_all};
