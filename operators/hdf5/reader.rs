//! `calostream-reader`: the only process that calls the HDF5 library on files that nobody has checked.

fn main() -> std::process::ExitCode {
    calostream_operators::hdf5::serve::main()
}
