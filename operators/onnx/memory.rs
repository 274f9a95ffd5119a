//! Where the values lie that a model reads: in ordinary memory, or, for a GPU, in pages that it reads by itself (pinned).
//!
//! Why: of ordinary memory a GPU's driver makes a copy first, while the thread that asked waits; from locked pages the GPU
//! copies alone. Invariant: what is computed does not depend on where values lie, so where a machine gives no locked pages, ordinary
//! memory takes their place, which is said: slower, never wrong.

use super::norm::Real;
use arrow::buffer::MutableBuffer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{PrimitiveTensorElementType, Tensor};
use std::fmt::Debug;
use std::marker::PhantomData;

/// Gives memory that a device reads by itself.
#[derive(Debug)]
pub struct Pinned(Allocator);

impl Pinned {
    /// That of the device on which a session computes.
    pub(super) fn of(session: &Session, device: AllocationDevice<'_>, number: i32) -> ort::Result<Self> {
        let info = MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::CPUInput)?;
        Ok(Self(Allocator::new(session, info)?))
    }

    fn tensor<T: PrimitiveTensorElementType + Debug>(&self, shape: &[usize]) -> Option<Tensor<T>> {
        let made = Tensor::new(&self.0, shape.to_vec());
        made.inspect_err(|e| tracing::warn!("no pinned memory for {shape:?} values, ordinary memory takes its place: {e}")).ok()
    }
}

/// A tensor of these values, which must be as many as its shape says.
pub(super) fn tensor<T: PrimitiveTensorElementType + Debug + Clone + 'static>(
    shape: Vec<usize>,
    values: impl Iterator<Item = T>,
    pinned: Option<&Pinned>,
) -> ort::Result<Tensor<T>> {
    if let Some(mut tensor) = pinned.and_then(|pinned| pinned.tensor(&shape)) {
        tensor.extract_tensor_mut().1.iter_mut().zip(values).for_each(|(into, value)| *into = value);
        return Ok(tensor);
    }
    Tensor::from_array((shape, values.collect::<Vec<_>>()))
}

/// Room for values of one type, aligned to 64 bytes at least.
#[derive(Debug)]
pub(super) enum Room<T: Real + PrimitiveTensorElementType> {
    Own(MutableBuffer, PhantomData<T>),
    Pinned(Tensor<T>),
}

impl<T: Real + PrimitiveTensorElementType> Room<T> {
    /// For so many, which are 0.
    pub fn zeros(length: usize, pinned: Option<&Pinned>) -> Self {
        let Some(mut tensor) = pinned.filter(|_| length > 0).and_then(|pinned| pinned.tensor(&[length])) else {
            return Self::Own(MutableBuffer::from_len_zeroed(length * size_of::<T>()), PhantomData);
        };
        tensor.extract_tensor_mut().1.fill(T::default());
        Self::Pinned(tensor)
    }

    pub fn all(&self) -> &[T] {
        match self {
            Self::Own(buffer, _) => buffer.typed_data(),
            Self::Pinned(tensor) => tensor.extract_tensor().1,
        }
    }

    pub fn all_mut(&mut self) -> &mut [T] {
        match self {
            Self::Own(buffer, _) => buffer.typed_data_mut(),
            Self::Pinned(tensor) => tensor.extract_tensor_mut().1,
        }
    }
}
