//! Sums in groups, exact: what a fold adds to, what the ledger keeps, what merges in any order to the same bytes.
//!
//! (skeleton of the interface that the engine uses; the inside belongs to the statistics)

/// Sums by key. Equal sums are equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {}

impl Sums {
    /// Adds what another worker or unit has summed. Exact, so the order does not matter.
    pub fn merge(&mut self, _other: &Self) {}
    /// True where nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
    /// Canonical bytes: keys in order, zero digits dropped.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Reads [`encode`](Self::encode)'s bytes.
    pub fn decode(_bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self::default())
    }
}
