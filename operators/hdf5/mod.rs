//! Everything that knows HDF5: headers, the chunk index, own decoding, and the library behind its seam.
pub mod header;
pub mod write;
