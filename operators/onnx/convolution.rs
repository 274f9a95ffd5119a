//! A convolution of an image of hits, from the hits alone.
//!
//! Of a calorimeter's image some in a hundred cells hold something, so most of what a convolution multiplies are zeros. Here each hit
//! adds its value times the kernel to the outputs around it. A few filters at a time, their sums side by side in a buffer
//! that stays in the cache: so what a hit adds along the last axis is one run of memory. The largest of each window (max pooling) and the
//! activation follow while the sums are there.
//!
//! Sums are rounded as ONNX Runtime's own convolutions round them: products are added without being rounded before (fused multiply-add), in
//! its order and to its partial sums ([`super::summing`]), the bias last. So the result has its bits as a rule. On a processor without such an
//! instruction (x86 before 2013) it is right, but slow.
//!
//! Invariants: strides and dilations are 1, there is one group; images of one or two axes are images of three, whose first
//! are 1 long. An event's values depend on its hits alone.

use super::logarithm::ln;
use super::summing::{Order, Summing};
use super::tensor::FedHits;
use anyhow::{Context, ensure};
use multiversion::multiversion;

/// The longest kernel along the last axis.
pub const LONGEST: usize = 16;
/// The longest run of memory to which a hit adds.
const LONGEST_RUN: usize = 64;

/// What a value of an image becomes before it is convolved.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Step {
    Times(f32),
    Over(f32),
    Plus(f32),
    Relu,
    Sqrt,
    Log,
}

impl Step {
    fn of(self, value: f32) -> f32 {
        match self {
            Self::Times(by) => value * by,
            Self::Over(by) => value / by,
            Self::Plus(more) => value + more,
            Self::Relu => larger(0.0, value),
            Self::Sqrt => value.sqrt(),
            Self::Log => ln(value),
        }
    }
}

/// What becomes of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// What is negative becomes 0.
    Relu,
    /// What is negative is multiplied by this, which is not negative.
    Leaky(f32),
}

/// The windows of which the largest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Their extents.
    pub kernel: [usize; 3],
    /// From one to the next.
    pub strides: [usize; 3],
}

/// What a convolution is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// The axes that the image has in the model: 1 to 3.
    pub axes: usize,
    /// The channels of the image.
    pub channels: usize,
    /// Its extents.
    pub image: [usize; 3],
    /// For each cell of an event, as they are numbered, its number in (channel, image).
    pub cells: Vec<u32>,
    /// What its values become first, in order; of nothing it must make nothing.
    pub steps: Vec<Step>,
    /// The extents of the kernel.
    pub kernel: [usize; 3],
    /// Zeros in front of the image along each axis, and behind it.
    pub pads: [(usize, usize); 3],
    /// (filter, channel, kernel).
    pub weights: Vec<f32>,
    /// What is added, for each filter.
    pub bias: Vec<f32>,
    /// What becomes of the sums.
    pub activation: Activation,
    /// The windows, where there are some.
    pub pool: Option<Pool>,
}

impl Parts {
    fn become_of(&self, value: f32) -> f32 {
        self.steps.iter().fold(value, |value, step| step.of(value))
    }
}

/// A convolution that is ready.
#[derive(Debug, Clone)]
pub struct Convolution {
    parts: Parts,
    /// Extents of the sums.
    sums: [usize; 3],
    /// Extents of what comes out for each filter.
    out: [usize; 3],
    /// Places from one line of sums to the next: a line has room for what falls beside it.
    pitch: usize,
    /// Filters of a block: 4 or 8, of which the last ones may be nobody's.
    block: usize,
    /// (block, partial sum, channel, kernel, filter of the block), the last axis of the kernel backwards.
    lines: Vec<f32>,
    /// The partial sums, in order: the channels of each, and what stands in front of them in a block of `lines`.
    partial: Vec<(std::ops::Range<usize>, usize)>,
    /// How hits are put in order, where that is not the order of their cells.
    order: Option<Order>,
}

/// What is kept from batch to batch, so that its memory is.
#[derive(Debug, Default)]
pub struct Scratch {
    hits: Vec<Hit>,
    sorted: Vec<Hit>,
    sums: Vec<f32>,
    whole: Vec<f32>,
}

/// A hit of an event.
#[derive(Debug, Clone, Copy)]
struct Hit {
    value: f32,
    /// Its cell, as cells are numbered.
    cell: u32,
    /// Where the first line of its kernel goes, from which the others count backwards.
    at: u32,
    channel: u32,
    /// The lines of the kernel that fall on sums, along the first axis and the second.
    first: (u16, u16),
    second: (u16, u16),
}

/// Extents of windows of `kernel` that begin `stride` apart in `of`; none where there is no room for one.
fn windows(of: usize, kernel: usize, stride: usize) -> Option<usize> {
    (kernel > 0 && stride > 0).then_some(())?;
    Some(of.checked_sub(kernel)? / stride + 1)
}

impl Convolution {
    /// Of its parts.
    ///
    /// # Errors
    /// They do not fit together, or are larger than this can take.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { channels, image, kernel, pads, .. } = parts;
        ensure!(parts.become_of(0.0) == 0.0, "cells that hold nothing become something");
        let filters = parts.bias.len();
        let volume = |of: [usize; 3]| of.iter().product::<usize>();
        ensure!(
            filters > 0 && channels > 0 && parts.weights.len() == filters * channels * volume(kernel),
            "weights of another kernel"
        );
        ensure!(parts.cells.iter().all(|cell| (*cell as usize) < channels * volume(image)), "a cell beside the image");
        ensure!(kernel[2] <= LONGEST, "a line of {} weights", kernel[2]);
        ensure!(kernel.iter().all(|extent| u16::try_from(*extent).is_ok()), "a kernel of {kernel:?}");
        let mut sums = [0; 3];
        for axis in 0..3 {
            let (before, behind) = pads[axis];
            ensure!(before < kernel[axis] && behind < kernel[axis], "more padding than kernel");
            sums[axis] = windows(image[axis] + before + behind, kernel[axis], 1).context("a kernel larger than its image")?;
        }
        let mut out = sums;
        if let Some(Pool { kernel, strides }) = parts.pool {
            for axis in 0..3 {
                out[axis] = windows(sums[axis], kernel[axis], strides[axis]).context("a window larger than the sums")?;
            }
        }
        let block = if filters > 4 && 8 * kernel[2] <= LONGEST_RUN { 8 } else { 4 };
        let pitch = image[2] + kernel[2] - 1;
        ensure!(u32::try_from(sums[0] * sums[1] * pitch).is_ok(), "an image of more than 2^32 cells");
        let (of_channel, of_filter) = (volume(kernel), channels * volume(kernel));
        let summing = Summing::of(parts.axes, channels, of_channel, volume(sums));
        let (mut lines, mut partial) = (Vec::new(), Vec::new());
        for filters in parts.weights.chunks(block * of_filter) {
            let begin = lines.len();
            partial.clear();
            for places in summing.partial() {
                let channels = places.start / of_channel..places.end.div_ceil(of_channel);
                partial.push((channels.clone(), lines.len() - begin));
                for line in (channels.start * of_channel..channels.end * of_channel).step_by(kernel[2]) {
                    for place in (line..line + kernel[2]).rev() {
                        let end = lines.len() + block;
                        if places.contains(&place) {
                            lines.extend(filters.iter().skip(place).step_by(of_filter));
                        }
                        lines.resize(end, 0.0);
                    }
                }
            }
        }
        let order = summing.order(&parts.cells, image);
        Ok(Self { parts, sums, out, pitch, block, lines, partial, order })
    }

    /// The extents of what comes out of an event: (filter, image), the image with three axes.
    #[must_use]
    pub fn row(&self) -> [usize; 4] {
        [self.parts.bias.len(), self.out[0], self.out[1], self.out[2]]
    }

    /// How many values come out of an event.
    #[must_use]
    pub fn width(&self) -> usize {
        self.row().iter().product()
    }

    /// The values for each event: `into` is as long as there are events, times the width.
    ///
    /// # Errors
    /// A hit lies outside of the image.
    pub fn compute(&self, hits: FedHits<'_>, scratch: &mut Scratch, into: &mut [f32]) -> anyhow::Result<()> {
        ensure!(into.len() == self.width() * hits.ends.len().saturating_sub(1), "room for another number of events");
        scratch.sums.resize(self.sums[0] * self.sums[1] * self.pitch * self.block, 0.0);
        for (of, into) in hits.ends.windows(2).zip(into.chunks_exact_mut(self.width())) {
            let of = of[0]..of[1];
            self.place(&hits.cells[of.clone()], &hits.values[of], &mut scratch.hits)?;
            if let Some(order) = &self.order {
                order.sort(&mut scratch.hits, |hit| hit.cell, &mut scratch.sorted);
            }
            match self.block {
                4 => self.blocks::<4>(scratch, into),
                _ => self.blocks::<8>(scratch, into),
            }
        }
        Ok(())
    }

    /// Finds where the hits of an event fall.
    fn place(&self, cells: &[u32], values: &[f32], hits: &mut Vec<Hit>) -> anyhow::Result<()> {
        let Parts { image, kernel, pads, .. } = &self.parts;
        hits.clear();
        for (number, value) in cells.iter().zip(values) {
            let known = self.parts.cells.get(*number as usize);
            let cell = *known.with_context(|| format!("a hit lies outside of the {} cells", self.parts.cells.len()))? as usize;
            let (x, rest) = (cell % image[2], cell / image[2]);
            let (y, rest) = (rest % image[1], rest / image[1]);
            let (z, channel) = (rest % image[0], rest / image[0]);
            // The sum at `o` has the weight `place + pad - o` of the cell.
            let lines = |axis: usize, place: usize| {
                let last = place + pads[axis].0;
                ((last + 1).saturating_sub(self.sums[axis]) as u16, (last + 1).min(kernel[axis]) as u16)
            };
            hits.push(Hit {
                value: self.parts.become_of(*value),
                cell: *number,
                at: (((z + pads[0].0) * self.sums[1] + y + pads[1].0) * self.pitch + x) as u32,
                channel: channel as u32,
                first: lines(0, z),
                second: lines(1, y),
            });
        }
        Ok(())
    }

    /// All blocks of filters of an event.
    fn blocks<const BLOCK: usize>(&self, Scratch { hits, sums, whole, .. }: &mut Scratch, into: &mut [f32]) {
        let Parts { bias, kernel, pads, pool, activation, .. } = &self.parts;
        let begin = kernel[2] - 1 - pads[2].0;
        let lay = Lay { channel: 0, kernel: [kernel[0], kernel[1]], sums: self.sums[1], pitch: self.pitch, begin, block: BLOCK };
        let pool = pool.unwrap_or(Pool { kernel: [1; 3], strides: [1; 3] });
        let of_block = self.lines.len() / bias.len().div_ceil(BLOCK);
        let blocks = bias.chunks(BLOCK).zip(self.lines.chunks_exact(of_block));
        let of_filter = self.out.iter().product::<usize>();
        for ((bias, weights), into) in blocks.zip(into.chunks_mut(BLOCK * of_filter)) {
            macro_rules! add {
                ($($run:literal)*) => {
                    |lay: Lay, weights: &[f32], hits: &[Hit], sums: &mut [f32]| match BLOCK * kernel[2] {
                        $($run => add::<$run>(lay, weights, hits, sums),)*
                        run => debug_assert!(false, "a run of {run}"),
                    }
                };
            }
            let add = add!(4 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64);
            if let [(channels, _)] = &self.partial[..] {
                sums.fill(0.0);
                add(Lay { channel: channels.start, ..lay }, weights, hits, sums);
                largest::<BLOCK>(lay, sums, pool, self.out, into);
            } else {
                whole.clear();
                whole.resize(sums.len(), 0.0);
                for (channels, first) in &self.partial {
                    let at = |channel: usize| hits.partition_point(|hit| (hit.channel as usize) < channel);
                    let hits = &hits[at(channels.start)..at(channels.end)];
                    if !hits.is_empty() {
                        sums.fill(0.0);
                        add(Lay { channel: channels.start, ..lay }, &weights[*first..], hits, sums);
                        whole.iter_mut().zip(&*sums).for_each(|(whole, sum)| *whole += sum);
                    }
                }
                largest::<BLOCK>(lay, whole, pool, self.out, into);
            }
            // What is added keeps the order of values, rounded or not, and so do activations: they may follow the windows.
            for (bias, into) in bias.iter().zip(into.chunks_exact_mut(of_filter)) {
                into.iter_mut().for_each(|sum| *sum += bias);
            }
        }
        match *activation {
            Activation::None => {}
            Activation::Relu => into.iter_mut().for_each(|v| *v = larger(0.0, *v)),
            Activation::Leaky(by) => into.iter_mut().for_each(|v| *v = if *v < 0.0 { *v * by } else { *v }),
        }
    }
}

/// How a block of sums lies in memory.
#[derive(Debug, Clone, Copy)]
struct Lay {
    /// The first channel that has weights.
    channel: usize,
    /// Lines of a kernel along its first axis and its second.
    kernel: [usize; 2],
    /// Lines of sums along theirs.
    sums: usize,
    /// Places of a line.
    pitch: usize,
    /// Where in a line the sums begin: where the last weight of the kernel falls on the first cell of the padded image.
    begin: usize,
    /// Filters of a place.
    block: usize,
}

/// Adds the hits of an event times the kernels of a block of filters; along the last axis a kernel is `RUN` weights.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn add<const RUN: usize>(lay: Lay, weights: &[f32], hits: &[Hit], sums: &mut [f32]) {
    let weights = weights.as_chunks::<RUN>().0;
    for hit in hits {
        for k in usize::from(hit.first.0)..usize::from(hit.first.1) {
            let at = hit.at as usize - k * lay.sums * lay.pitch;
            let line = ((hit.channel as usize - lay.channel) * lay.kernel[0] + k) * lay.kernel[1];
            for k in usize::from(hit.second.0)..usize::from(hit.second.1) {
                let Some(to) = sums[(at - k * lay.pitch) * lay.block..].first_chunk_mut::<RUN>() else { continue };
                let weights = &weights[line + k];
                for i in 0..RUN {
                    to[i] = hit.value.mul_add(weights[i], to[i]);
                }
            }
        }
    }
}

/// The largest of each window of a block of filters, filter by filter.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn largest<const BLOCK: usize>(lay: Lay, sums: &[f32], Pool { kernel, strides }: Pool, out: [usize; 3], into: &mut [f32]) {
    let sums = sums.as_chunks::<BLOCK>().0;
    let windows = (0..out[0]).flat_map(|z| (0..out[1]).flat_map(move |y| (0..out[2]).map(move |x| (z, y, x))));
    for (place, (z, y, x)) in windows.enumerate() {
        let first = |k: usize, l: usize| {
            let line = (z * strides[0] + k) * lay.sums + y * strides[1] + l;
            line * lay.pitch + lay.begin + x * strides[2]
        };
        let mut most = [f32::NEG_INFINITY; BLOCK];
        for k in 0..kernel[0] {
            for l in 0..kernel[1] {
                for of in &sums[first(k, l)..][..kernel[2]] {
                    for i in 0..BLOCK {
                        most[i] = larger(of[i], most[i]);
                    }
                }
            }
        }
        // What is no number is passed over, as by ONNX Runtime; but of nothing else there is no largest.
        for (i, most) in most.iter_mut().enumerate().filter(|(_, most)| **most == f32::NEG_INFINITY) {
            let lines = (0..kernel[0]).flat_map(|k| (0..kernel[1]).map(move |l| (k, l)));
            let mut cells = lines.flat_map(|(k, l)| &sums[first(k, l)..][..kernel[2]]);
            if cells.any(|of| of[i].is_nan()) {
                *most = f32::NAN;
            }
        }
        into[place..].iter_mut().step_by(out.iter().product()).zip(most).for_each(|(into, most)| *into = most);
    }
}

/// The larger of two; the second where one of them is NaN, as vector instructions have it.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As its definition says, in f64, with the largest of each window of what the activation makes.
    fn slow(parts: &Parts, cells: &[u32], values: &[f32]) -> Vec<f64> {
        let Parts { channels, image, kernel, pads, .. } = parts;
        let mut dense = vec![0f64; channels * image.iter().product::<usize>()];
        for (cell, value) in cells.iter().zip(values) {
            dense[parts.cells[*cell as usize] as usize] = parts.steps.iter().fold(f64::from(*value), |v, step| match step {
                Step::Times(by) => v * f64::from(*by),
                Step::Over(by) => v / f64::from(*by),
                Step::Plus(more) => v + f64::from(*more),
                Step::Relu => v.max(0.0),
                Step::Sqrt => v.sqrt(),
                Step::Log => v.ln(),
            });
        }
        let at = |c: usize, place: [isize; 3]| {
            let inside = (0..3).all(|a| place[a] >= 0 && place[a] < image[a] as isize);
            if inside {
                dense[((c * image[0] + place[0] as usize) * image[1] + place[1] as usize) * image[2] + place[2] as usize]
            } else {
                0.0
            }
        };
        let all = |of: [usize; 3]| (0..of[0]).flat_map(move |z| (0..of[1]).flat_map(move |y| (0..of[2]).map(move |x| [z, y, x])));
        let sums: [usize; 3] = std::array::from_fn(|a| image[a] + pads[a].0 + pads[a].1 + 1 - kernel[a]);
        let mut out = Vec::new();
        for (f, bias) in parts.bias.iter().enumerate() {
            let sum = |o: [usize; 3]| {
                let mut sum = f64::from(*bias);
                for c in 0..*channels {
                    for (n, k) in all(*kernel).enumerate() {
                        let place = std::array::from_fn(|a| o[a] as isize + k[a] as isize - pads[a].0 as isize);
                        sum += at(c, place) * f64::from(parts.weights[(f * channels + c) * kernel.iter().product::<usize>() + n]);
                    }
                }
                match parts.activation {
                    Activation::None => sum,
                    Activation::Relu => sum.max(0.0),
                    Activation::Leaky(by) => {
                        if sum < 0.0 {
                            sum * f64::from(by)
                        } else {
                            sum
                        }
                    }
                }
            };
            match parts.pool {
                None => out.extend(all(sums).map(sum)),
                Some(Pool { kernel, strides }) => {
                    let count = std::array::from_fn(|a| (sums[a] - kernel[a]) / strides[a] + 1);
                    out.extend(all(count).map(|q| {
                        all(kernel)
                            .map(|k| sum(std::array::from_fn(|a| q[a] * strides[a] + k[a])))
                            .fold(f64::NEG_INFINITY, f64::max)
                    }));
                }
            }
        }
        out
    }

    fn any_parts() -> impl Strategy<Value = Parts> {
        let axis = |longest: usize| {
            (1..=longest).prop_flat_map(|kernel| (Just(kernel), kernel..kernel + 6, 0..kernel, 0..kernel, 1..4usize, 1..3usize))
        };
        let activation = prop_oneof![Just(Activation::None), Just(Activation::Relu), (0f32..2.0).prop_map(Activation::Leaky)];
        ((axis(4), axis(4), axis(LONGEST)), 1..4usize, 1..14usize, activation, any::<bool>(), any::<u32>()).prop_map(
            |((a, b, c), channels, filters, activation, pooled, seed)| {
                let number =
                    |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0;
                let axes = [a, b, c];
                let (kernel, image) = (axes.map(|a| a.0), axes.map(|a| a.1));
                let cells = (channels * image.iter().product::<usize>()) as u32;
                let pads = axes.map(|a| (a.2, a.3));
                let window = |a: usize| axes[a].4.min(image[a] + pads[a].0 + pads[a].1 + 1 - kernel[a]);
                let pool = Pool { kernel: [window(0), window(1), window(2)], strides: axes.map(|a| a.5) };
                Parts {
                    axes: 1 + seed as usize % 3,
                    channels,
                    image,
                    cells: (0..cells).map(|cell| (cell + seed % cells) % cells).collect(),
                    steps: match seed % 4 {
                        0 => vec![],
                        1 => vec![Step::Times(0.3), Step::Over(7.0)],
                        2 => vec![Step::Relu, Step::Sqrt],
                        _ => vec![Step::Relu, Step::Times(3.0), Step::Plus(1.0), Step::Log],
                    },
                    kernel,
                    pads,
                    weights: (0..filters * channels * kernel.iter().product::<usize>()).map(number).collect(),
                    bias: (0..filters).map(|f| number(99 * f + 7)).collect(),
                    activation,
                    pool: pooled.then_some(pool),
                }
            },
        )
    }

    proptest! {
        /// Also where an event has none; and an event gives the same bits with others beside it as alone.
        #[test]
        fn as_the_dense_sum(parts in any_parts(), images in prop::collection::vec(prop::collection::btree_map(0..10_000u32, -2.0..2f32, 0..60), 1..4)) {
            let convolution = Convolution::new(parts.clone()).unwrap();
            let there = parts.cells.len() as u32;
            let (mut ends, mut cells, mut values) = (vec![0], Vec::new(), Vec::new());
            for image in &images {
                let inside: std::collections::BTreeMap<u32, f32> = image.iter().map(|(cell, v)| (cell % there, *v)).collect();
                cells.extend(inside.keys());
                values.extend(inside.values());
                ends.push(cells.len());
            }
            let width = convolution.width();
            let mut scratch = Scratch::default();
            let mut said = vec![0.0; images.len() * width];
            convolution.compute(FedHits { ends: &ends, cells: &cells, values: &values }, &mut scratch, &mut said).unwrap();
            for (event, of) in ends.windows(2).enumerate() {
                let said = &said[event * width..(event + 1) * width];
                let wanted = slow(&parts, &cells[of[0]..of[1]], &values[of[0]..of[1]]);
                prop_assert_eq!(wanted.len(), width);
                for (a, b) in said.iter().zip(&wanted) {
                    prop_assert!((f64::from(*a) - b).abs() < 2e-5, "{} {}", a, b);
                }
                let mut alone = vec![0.0; width];
                convolution.compute(FedHits { ends: of, cells: &cells, values: &values }, &mut scratch, &mut alone).unwrap();
                prop_assert!(said.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    fn line() -> Parts {
        Parts {
            axes: 1,
            channels: 1,
            image: [1, 1, 8],
            cells: (0..8).collect(),
            steps: vec![],
            kernel: [1, 1, 3],
            pads: [(0, 0), (0, 0), (1, 1)],
            weights: vec![1.0, 2.0, 3.0],
            bias: vec![0.5],
            activation: Activation::None,
            pool: None,
        }
    }

    /// What is not finite reaches the outputs around it and no others.
    #[test]
    fn an_infinity_stays_where_it_is() {
        let convolution = Convolution::new(line()).unwrap();
        let mut said = vec![0.0; 8];
        let hits = FedHits { ends: &[0, 2], cells: &[0, 4], values: &[1.0, f32::INFINITY] };
        convolution.compute(hits, &mut Scratch::default(), &mut said).unwrap();
        assert_eq!(said, [2.5, 1.5, 0.5, f32::INFINITY, f32::INFINITY, f32::INFINITY, 0.5, 0.5]);
    }

    /// As ONNX Runtime has it; but where it says the lowest number there is, nothing is known.
    #[test]
    fn the_largest_passes_over_what_is_no_number() {
        let pool = Some(Pool { kernel: [1, 1, 3], strides: [1, 1, 3] });
        let parts = Parts {
            image: [1, 1, 9],
            cells: (0..9).collect(),
            kernel: [1, 1, 1],
            pads: [(0, 0); 3],
            weights: vec![1.0],
            bias: vec![0.0],
            pool,
            ..line()
        };
        let convolution = Convolution::new(parts).unwrap();
        let (mut said, nan) = (vec![0.0; 3], f32::NAN);
        let values = [5.0, nan, 3.0, nan, 2.0, 4.0, nan, nan, nan];
        let hits = FedHits { ends: &[0, 9], cells: &[0, 1, 2, 3, 4, 5, 6, 7, 8], values: &values };
        convolution.compute(hits, &mut Scratch::default(), &mut said).unwrap();
        assert_eq!(said[..2], [5.0, 4.0]);
        assert!(said[2].is_nan());
    }

    #[test]
    fn a_hit_outside_is_an_error() {
        let convolution = Convolution::new(line()).unwrap();
        let hits = FedHits { ends: &[0, 1], cells: &[8], values: &[1.0] };
        let error = convolution.compute(hits, &mut Scratch::default(), &mut [0.0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "a hit lies outside of the 8 cells");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let with = |change: &dyn Fn(&mut Parts)| {
            let mut parts = line();
            change(&mut parts);
            Convolution::new(parts).unwrap_err().to_string()
        };
        assert_eq!(with(&|p| p.weights.push(1.0)), "weights of another kernel");
        assert_eq!(with(&|p| (p.channels, p.weights) = (0, vec![])), "weights of another kernel");
        assert_eq!(with(&|p| p.cells[3] = 8), "a cell beside the image");
        assert_eq!(with(&|p| p.steps = vec![Step::Plus(0.5), Step::Log]), "cells that hold nothing become something");
        assert_eq!(with(&|p| p.pads[2].0 = 3), "more padding than kernel");
        assert_eq!(with(&|p| p.pool = Some(Pool { kernel: [1, 1, 9], strides: [1; 3] })), "a window larger than the sums");
    }
}
