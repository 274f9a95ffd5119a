//! Batches of rows, against `hits::to_dense` and plain picking.
