//! The product of hits with the weights of first layers, of several models at once.
//!
//! The layers that read the same stand side by side as one wide matrix, laid out in strips of [`STRIP`] columns: within a strip the
//! weights of a cell are one run of memory, and the sums of an event stay in registers while its hits go by. A value depends on the hits of its event
//! and on nothing else: neither on the batch nor on the other models.
//!
//! Sums are rounded as ONNX Runtime's own product rounds them (MLAS, `MLAS_SGEMM_PACKED_STRIDEK`): products are added without being
//! rounded before (fused multiply-add) to the sum of [`CELLS`] cells, and those sums to the whole, each in the order of the cells. So the
//! result has its bits as a rule, however full the image is; and on every processor the same, if slowly on one without such an
//! instruction (x86 before 2013).

use super::first_layer::{self, FirstLayer};
use super::model::{self, ModelFacts};
use super::session::Input;
use super::tensor::{Element, Fed};
use anyhow::{Context, bail, ensure};
use multiversion::multiversion;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Columns of a strip: as many sums as fit into the registers of AVX2 twice.
const STRIP: usize = 64;
/// Cells whose products are summed by themselves.
const CELLS: u32 = 256;

/// Layers that read the same.
#[derive(Debug)]
pub struct Joined {
    /// The width of each layer.
    widths: Vec<usize>,
    /// For each input its first row.
    offsets: Vec<usize>,
    /// Rows of the matrix.
    rows: usize,
    /// Strip by strip, row by row.
    strips: Vec<[f32; STRIP]>,
    biases: Vec<[f32; STRIP]>,
}

/// The hits of a batch as the product takes them; kept, so that its memory is.
#[derive(Debug, Default)]
pub struct Hits {
    ends: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
}

/// A layer: its width, its weights (a row a cell), and what is added.
type Layer<'a> = (usize, &'a [f32], Option<&'a [f32]>);

/// The layers of several models, and what of each stands behind its layer: its input, and its bytes.
pub type Opened = (Joined, Vec<(Input, Vec<u8>)>);

/// What the workers of this process share, by the models' hashes.
static OPENED: Mutex<Vec<(String, Weak<Opened>)>> = Mutex::new(Vec::new());

impl Joined {
    /// Of models that read the same inputs, each with its path and facts, which must still be true. The workers of a process share
    /// them.
    ///
    /// # Errors
    /// A file is gone or has changed.
    pub fn open(models: &[(&str, &ModelFacts)], inputs: &[Input]) -> anyhow::Result<Arc<Opened>> {
        let names = inputs.iter().map(|input| input.name.as_str());
        let key: Vec<&str> = models.iter().map(|(_, facts)| facts.sha256.as_str()).chain(names).collect();
        let key = key.join(",");
        let mut known = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, opened)| opened.strong_count() > 0);
        if let Some(opened) = known.iter().find(|(other, _)| *other == key).and_then(|(_, opened)| opened.upgrade()) {
            return Ok(opened);
        }
        let opened = Arc::new(Self::read(models, inputs)?);
        known.push((key, Arc::downgrade(&opened)));
        Ok(opened)
    }

    fn read(models: &[(&str, &ModelFacts)], inputs: &[Input]) -> anyhow::Result<Opened> {
        let inputs: Vec<(&str, &[usize])> = inputs.iter().map(|i| (i.name.as_str(), i.row.as_slice())).collect();
        let mut layers = Vec::new();
        for (path, facts) in models {
            let layer = first_layer::find(&model::read_again(path, facts)?, &inputs)?;
            layers.push(layer.with_context(|| format!("`{path}` has no first layer"))?);
        }
        let offsets = layers.first().map(|layer| layer.offsets.clone()).unwrap_or_default();
        ensure!(layers.iter().all(|layer| layer.offsets == offsets), "layers of several orders of inputs");
        let parts: Vec<_> = layers.iter().map(|l| (l.width, l.weights.as_slice(), l.bias.as_deref())).collect();
        let joined = Self::new(offsets, &parts)?;
        let rest = |layer: FirstLayer| {
            let input = Input { name: layer.name, row: vec![layer.width], element: Element::F32, hits: false };
            (input, layer.rest)
        };
        Ok((joined, layers.into_iter().map(rest).collect()))
    }

    /// Of layers, each with its width, its weights (a row a cell) and its bias.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn new(offsets: Vec<usize>, layers: &[Layer<'_>]) -> anyhow::Result<Self> {
        let widths: Vec<usize> = layers.iter().map(|(width, ..)| *width).collect();
        let rows = layers.first().map_or(0, |(width, weights, _)| weights.len() / (*width).max(1));
        ensure!(layers.iter().all(|(width, weights, _)| weights.len() == rows * width), "layers of several heights");
        ensure!(u32::try_from(rows).is_ok(), "a layer of {rows} cells");
        let strips = widths.iter().sum::<usize>().div_ceil(STRIP);
        let mut joined =
            Self { offsets, rows, strips: vec![[0.0; STRIP]; strips * rows], biases: vec![[0.0; STRIP]; strips], widths };
        let mut column = 0;
        for (width, weights, bias) in layers {
            let (mut from, end) = (column, column + width);
            while from < end {
                let (strip, at) = (from / STRIP, from % STRIP);
                let count = (STRIP - at).min(end - from);
                let first = from - column;
                for (row, into) in joined.strips[strip * rows..(strip + 1) * rows].iter_mut().enumerate() {
                    into[at..at + count].copy_from_slice(&weights[row * width + first..][..count]);
                }
                if let Some(bias) = bias {
                    joined.biases[strip][at..at + count].copy_from_slice(&bias[first..first + count]);
                }
                from += count;
            }
            column = end;
        }
        Ok(joined)
    }

    /// The values of the layers for each of `events`, layer by layer, from the hits of each input.
    ///
    /// # Errors
    /// An input is no hits, or one lies outside.
    pub fn multiply(&self, inputs: &[Fed<'_>], events: usize, hits: &mut Hits, into: &mut [Vec<f32>]) -> anyhow::Result<()> {
        hits.take(inputs, &self.offsets, events, self.rows)?;
        for (layer, width) in into.iter_mut().zip(&self.widths) {
            layer.resize(events * width, 0.0);
        }
        let mut sums = vec![[0f32; STRIP]; events];
        for (strip, bias) in self.biases.iter().enumerate() {
            let weights = &self.strips[strip * self.rows..(strip + 1) * self.rows];
            times(hits, weights, bias, &mut sums);
            let mut column = 0;
            for (layer, width) in into.iter_mut().zip(&self.widths) {
                let (from, to) = (column.max(strip * STRIP), (column + width).min((strip + 1) * STRIP));
                if from < to {
                    for (event, sums) in sums.iter().enumerate() {
                        layer[event * width + from - column..event * width + to - column]
                            .copy_from_slice(&sums[from - strip * STRIP..to - strip * STRIP]);
                    }
                }
                column += width;
            }
        }
        Ok(())
    }
}

impl Hits {
    /// The hits of all inputs, event by event, by their rows in the matrix.
    fn take(&mut self, inputs: &[Fed<'_>], offsets: &[usize], events: usize, rows: usize) -> anyhow::Result<()> {
        self.ends.clear();
        self.rows.clear();
        self.values.clear();
        for event in 0..events {
            for (input, offset) in inputs.iter().zip(offsets) {
                let Fed::Hits(fed) = input else { bail!("a first layer of what is no hits") };
                let of = *fed.ends.get(event).context("an event")?..*fed.ends.get(event + 1).context("an event")?;
                self.rows.extend(fed.cells[of.clone()].iter().map(|cell| cell + *offset as u32));
                self.values.extend_from_slice(&fed.values[of]);
            }
            self.ends.push(self.rows.len());
        }
        ensure!(self.rows.iter().all(|row| (*row as usize) < rows), "a hit lies outside of the {rows} cells");
        Ok(())
    }
}

/// One strip of the product, for each event, with the widest vectors that are here.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn times(hits: &Hits, weights: &[[f32; STRIP]], bias: &[f32; STRIP], sums: &mut [[f32; STRIP]]) {
    let mut from = 0;
    for (to, sum) in hits.ends.iter().zip(sums) {
        *sum = *bias;
        let (mut block, mut part) = (0, [0f32; STRIP]);
        for (row, value) in hits.rows[from..*to].iter().zip(&hits.values[from..*to]) {
            if row / CELLS != block {
                (0..STRIP).for_each(|i| sum[i] += part[i]);
                (block, part) = (row / CELLS, [0f32; STRIP]);
            }
            let weights = &weights[*row as usize];
            (0..STRIP).for_each(|i| part[i] = value.mul_add(weights[i], part[i]));
        }
        (0..STRIP).for_each(|i| sum[i] += part[i]);
        from = *to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor::FedHits;
    use proptest::prelude::*;

    proptest! {
        /// Beside the whole product, in f64; and a layer gives the same bits with others beside it as alone.
        #[test]
        fn as_the_dense_product(
            widths in prop::collection::vec(1..150usize, 1..4),
            images in prop::collection::vec(prop::collection::btree_map(0..40u32, -2.0..2f32, 0..40), 1..5),
            seed in any::<u32>(),
        ) {
            let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let weights: Vec<Vec<f32>> = widths.iter().map(|w| (0..40 * w).map(|i| number(i + w)).collect()).collect();
            let biases: Vec<Vec<f32>> = widths.iter().map(|w| (0..*w).map(|i| number(7 * i)).collect()).collect();
            let layers: Vec<Layer<'_>> = widths.iter().zip(weights.iter().zip(&biases)).map(|(w, (m, b))| (*w, &m[..], Some(&b[..]))).collect();
            let (mut ends, mut cells, mut values) = (vec![0], Vec::new(), Vec::new());
            for image in &images {
                cells.extend(image.keys());
                values.extend(image.values());
                ends.push(cells.len());
            }
            let fed = [Fed::Hits(FedHits { ends: &ends, cells: &cells, values: &values })];
            let said = |layers: &[Layer<'_>]| {
                let mut into = vec![Vec::new(); layers.len()];
                Joined::new(vec![0], layers).unwrap().multiply(&fed, images.len(), &mut Hits::default(), &mut into).unwrap();
                into
            };
            let all = said(&layers);
            for ((layer, said_of_all), (weights, bias)) in layers.iter().zip(&all).zip(weights.iter().zip(&biases)) {
                prop_assert_eq!(&said(std::slice::from_ref(layer))[0], said_of_all);
                let width = layer.0;
                for (event, image) in images.iter().enumerate() {
                    for column in 0..width {
                        let terms = image.iter().map(|(cell, v)| f64::from(*v) * f64::from(weights[*cell as usize * width + column]));
                        let wanted = terms.sum::<f64>() + f64::from(bias[column]);
                        prop_assert!((f64::from(said_of_all[event * width + column]) - wanted).abs() < 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn a_hit_outside_is_an_error() {
        let joined = Joined::new(vec![0], &[(2, &[0.0; 8], None)]).unwrap();
        let fed = [Fed::Hits(FedHits { ends: &[0, 1], cells: &[4], values: &[1.0] })];
        let error = joined.multiply(&fed, 1, &mut Hits::default(), &mut [Vec::new()]).unwrap_err();
        assert_eq!(error.to_string(), "a hit lies outside of the 4 cells");
    }
}
