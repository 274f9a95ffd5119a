//! A column of a batch, ready to be put into the buffer of an input: in the type in which the input is prepared, transformed.
//!
//! Invariants: a value of a column of integers that is not transformed becomes an integer of a model exactly, or the end of what that
//! holds. What is missing (null) or NaN is NaN where the model's type has one; where it has none, it is an error of the row that reads
//! it and never a number.

use super::feed::{Cells, Order, Part, What};
use super::norm::Real;
use anyhow::{Context, bail, ensure};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StructArray, make_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, UInt16Type, UInt32Type};
use std::cmp::Ordering;
use std::ops::Range;

/// A column, its values transformed.
#[derive(Debug)]
pub struct Ready<R: Real> {
    pub(super) form: Form<R>,
    pub(super) nulls: Option<NullBuffer>,
    nothing: R,
    /// In a type that has no NaN: the values that are none, and the type in words.
    gaps: Option<Gaps>,
}

/// A type of a model that has nothing to say that a value is missing.
#[derive(Debug)]
struct Gaps {
    /// In words.
    of: &'static str,
    /// The values that are missing or NaN; none where none is.
    at: Option<BooleanBuffer>,
}

impl Gaps {
    fn refuse(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "a value is missing or NaN, and the model takes {}, which can't say so; `keep` can cut such rows (`.. is not null`, \
             `not isnan(..)`), `derive` can give them a value (`case when .. is null then -1 else .. end`)",
            self.of
        )
    }
}

/// Where the entries of each row end, in values of which those before the first row are gone: the rows may be a slice of many.
#[derive(Debug, Clone)]
pub(super) struct Ends(OffsetBuffer<i32>);

impl Ends {
    pub fn of(&self, row: usize) -> Range<usize> {
        (self.0[row] - self.0[0]) as usize..(self.0[row + 1] - self.0[0]) as usize
    }

    /// The entries of all rows.
    fn slice(&self, values: &ArrayRef) -> ArrayRef {
        let first = self.0[0] as usize;
        values.slice(first, self.0[self.0.len() - 1] as usize - first)
    }
}

#[derive(Debug)]
pub(super) enum Form<R: Real> {
    /// So many values a row.
    Dense(usize, ScalarBuffer<R>),
    Narrow(Ends, ScalarBuffer<u16>, ScalarBuffer<R>),
    Wide(Ends, ScalarBuffer<u32>, ScalarBuffer<R>),
    List(Ends, ScalarBuffer<R>),
    Mask(Ends),
}

impl<R: Real> Ready<R> {
    /// `without_nan` is the model's type in words where it has no NaN.
    pub fn new(
        part: &Part,
        column: &ArrayRef,
        by: Option<(&Order, &ArrayRef)>,
        without_nan: Option<&'static str>,
    ) -> anyhow::Result<Self> {
        let mut ready = Self::unordered(part, column, without_nan)?;
        if let (Form::List(ends, values), Some((order, by))) = (&mut ready.form, by) {
            let places = places((ends, ready.nulls.as_ref()), order, by)?;
            *values = places.iter().map(|place| values[*place]).collect();
            if let Some(at) = ready.gaps.as_mut().and_then(|gaps| gaps.at.as_mut()) {
                *at = places.iter().map(|place| at.value(*place)).collect();
            }
        }
        Ok(ready)
    }

    fn unordered(part: &Part, column: &ArrayRef, without_nan: Option<&'static str>) -> anyhow::Result<Self> {
        let nothing = part.transform.of_nothing();
        let nulls = column.nulls().cloned();
        let mut gaps = None;
        let mut values = |column: &ArrayRef| {
            let (values, at) = values(column, part, without_nan.is_some())?;
            gaps = at;
            anyhow::Ok(values)
        };
        let form = match (column.data_type(), part.what) {
            (DataType::List(_), What::Mask) => Form::Mask(Ends(column.as_list::<i32>().offsets().clone())),
            (DataType::List(item), What::Value(value)) => {
                let list = column.as_list::<i32>();
                let ends = Ends(list.offsets().clone());
                let DataType::Struct(fields) = item.data_type() else {
                    let form = Form::List(ends.clone(), values(&ends.slice(list.values()))?);
                    return Ok(Self { form, nulls, nothing, gaps: without_nan.map(|of| Gaps { of, at: gaps }) });
                };
                let hits = list.values().as_struct();
                let hits_of_an_image = fields.first().is_some_and(|f| f.name() == crate::hits::CELL);
                let number = value + usize::from(hits_of_an_image);
                ensure!(number < hits.num_columns(), "value {value} of {}", hits.num_columns());
                let values = values(&ends.slice(&member(hits, number)?))?;
                let index = ends.slice(hits.column(0));
                match index.data_type() {
                    _ if !hits_of_an_image => Form::List(ends, values),
                    DataType::UInt16 => Form::Narrow(ends, index.as_primitive::<UInt16Type>().values().clone(), values),
                    DataType::UInt32 => Form::Wide(ends, index.as_primitive::<UInt32Type>().values().clone(), values),
                    other => bail!("cells of type {other}"),
                }
            }
            (DataType::FixedSizeList(..), _) => {
                let list = column.as_fixed_size_list();
                let width = usize::try_from(list.value_length())?;
                Form::Dense(width, values(list.values())?)
            }
            _ => Form::Dense(1, values(column)?),
        };
        Ok(Self { form, nulls, nothing, gaps: without_nan.map(|of| Gaps { of, at: gaps }) })
    }

    /// Refuses a row in which a value is missing that would be read, where the model's type can't say so.
    fn check(&self, row: usize, cells: &Cells) -> anyhow::Result<()> {
        let Some(gaps) = &self.gaps else { return Ok(()) };
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Err(gaps.refuse());
        }
        let Some(at) = &gaps.at else { return Ok(()) };
        let read = match &self.form {
            Form::Dense(width, _) => row * width..(row + 1) * width,
            Form::Narrow(ends, ..) | Form::Wide(ends, ..) => ends.of(row),
            Form::List(ends, _) => {
                let all = ends.of(row);
                let taken = all.len().min(cells.there(usize::MAX));
                all.start..all.start + taken
            }
            Form::Mask(_) => return Ok(()),
        };
        if at.slice(read.start, read.len()).count_set_bits() > 0 { Err(gaps.refuse()) } else { Ok(()) }
    }

    /// Puts row number `row` of the column into a row of the input, which is all 0.
    pub fn put(&self, row: usize, cells: &Cells, into: &mut [R]) -> anyhow::Result<()> {
        self.check(row, cells)?;
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return each(cells, into, |slot| *slot = R::of(f64::NAN));
        }
        match &self.form {
            Form::Dense(width, values) => {
                let values = &values[row * width..(row + 1) * width];
                if *cells == Cells::All {
                    ensure!(values.len() == into.len(), "a row has {width} values, not {}", into.len());
                    into.copy_from_slice(values);
                    return Ok(());
                }
                for (cell, value) in values.iter().enumerate() {
                    *slot(cells, cell, into)? = *value;
                }
                Ok(())
            }
            Form::Narrow(ends, index, values) => {
                let of_row = ends.of(row);
                scatter(&index[of_row.clone()], &values[of_row], self.nothing, cells, into)
            }
            Form::Wide(ends, index, values) => {
                let of_row = ends.of(row);
                scatter(&index[of_row.clone()], &values[of_row], self.nothing, cells, into)
            }
            Form::List(ends, values) => {
                for (cell, value) in values[ends.of(row)].iter().enumerate() {
                    let Some(slot) = cells.place(cell).and_then(|place| into.get_mut(place)) else { break };
                    *slot = *value;
                }
                Ok(())
            }
            Form::Mask(ends) => {
                for cell in 0..ends.of(row).len() {
                    let Some(slot) = cells.place(cell).and_then(|place| into.get_mut(place)) else { break };
                    *slot = R::of(1.0);
                }
                Ok(())
            }
        }
    }
}

/// For each entry of all rows, in order, its place in the list as it stands.
fn places((ends, nulls): (&Ends, Option<&NullBuffer>), order: &Order, by: &ArrayRef) -> anyhow::Result<Vec<usize>> {
    let list = by.as_list_opt::<i32>().with_context(|| format!("`{}`, by which it is ordered, is no list", order.column))?;
    let of_by = Ends(list.offsets().clone());
    let values = match list.values().as_struct_opt() {
        Some(records) => member(records, order.value)?,
        None => list.values().clone(),
    };
    let keys = cast(&of_by.slice(&values), &DataType::Float64)?;
    let keys = keys.as_primitive::<Float64Type>();
    let key = |place: usize| Some(keys.value(place)).filter(|key| keys.is_valid(place) && !key.is_nan());
    let rows = by.len();
    let mut all = Vec::with_capacity(if rows == 0 { 0 } else { ends.of(rows - 1).end });
    for row in 0..rows {
        let own = ends.of(row);
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            all.extend(own);
            continue;
        }
        let of_row = if by.is_null(row) { 0..0 } else { of_by.of(row) };
        ensure!(
            own.len() == of_row.len(),
            "a row has {} entries, and {} of `{}`, by which they are ordered",
            own.len(),
            of_row.len(),
            order.column
        );
        let key = |place: &usize| key(of_row.start + place - own.start);
        let from = all.len();
        all.extend(own.clone());
        all[from..].sort_by(|a, b| match (key(a), key(b)) {
            (Some(a), Some(b)) => {
                let rising = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                if order.falling { rising.reverse() } else { rising }
            }
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
    }
    Ok(all)
}

/// A member of the records of lists: missing where the whole record is.
fn member(records: &StructArray, number: usize) -> anyhow::Result<ArrayRef> {
    let member = records.column(number);
    let Some(nulls) = NullBuffer::union(records.nulls(), member.nulls()).filter(|_| records.null_count() > 0) else {
        return Ok(member.clone());
    };
    Ok(make_array(member.to_data().into_builder().nulls(Some(nulls)).build()?))
}

/// The values of a column in their type, transformed; without a copy where nothing changes. A missing one is NaN; where there is none,
/// also the places of what is missing or NaN.
fn values<R: Real>(column: &ArrayRef, part: &Part, gapless: bool) -> anyhow::Result<(ScalarBuffer<R>, Option<BooleanBuffer>)> {
    if !gapless {
        return Ok((reals(column, part)?, None));
    }
    let there_are = |at: BooleanBuffer| Some(at).filter(|at| at.count_set_bits() > 0);
    if part.transform.is_nothing()
        && let Some(whole) = R::whole(column)?
    {
        let gaps = whole.nulls().map(|nulls| !nulls.inner());
        return Ok((whole.values().clone(), gaps.and_then(there_are)));
    }
    // What is no integer, or is scaled, is computed as float64.
    let wide = reals::<f64>(column, part)?;
    let gaps = BooleanBuffer::from_iter(wide.iter().map(|v| v.is_nan()));
    Ok((wide.iter().map(|v| R::of(*v)).collect(), there_are(gaps)))
}

fn reals<R: Real>(column: &ArrayRef, part: &Part) -> anyhow::Result<ScalarBuffer<R>> {
    let cast = cast(column, &R::Arrow::DATA_TYPE)?;
    let array: &PrimitiveArray<R::Arrow> = cast.as_primitive();
    if array.null_count() == 0 && part.transform.is_nothing() {
        return Ok(array.values().clone());
    }
    let mut values: Vec<R> = array.values().to_vec();
    R::transform(&part.transform, &mut values);
    let missing = values.iter_mut().enumerate().filter(|(row, _)| array.is_null(*row));
    missing.for_each(|(_, value)| *value = R::of(f64::NAN));
    Ok(values.into())
}

fn slot<'a, R>(cells: &Cells, cell: usize, into: &'a mut [R]) -> anyhow::Result<&'a mut R> {
    let there = cells.there(into.len());
    let outside = || format!("a hit lies outside of the {there} cells");
    cells.place(cell).and_then(|place| into.get_mut(place)).with_context(outside)
}

fn each<R>(cells: &Cells, into: &mut [R], mut change: impl FnMut(&mut R)) -> anyhow::Result<()> {
    match cells {
        Cells::All => into.iter_mut().for_each(change),
        Cells::Strided { first, step, count } => into.iter_mut().skip(*first).step_by(*step).take(*count).for_each(change),
        Cells::Placed(of) => {
            for place in of {
                change(into.get_mut(*place as usize).context("a place within the row")?);
            }
        }
    }
    Ok(())
}

/// Hits into a row that is all 0.
fn scatter<R: Real, C: Copy + Into<u32>>(
    index: &[C],
    values: &[R],
    nothing: R,
    cells: &Cells,
    into: &mut [R],
) -> anyhow::Result<()> {
    if nothing != R::default() {
        each(cells, into, |slot| *slot = nothing)?;
    }
    if *cells != Cells::All {
        for (cell, value) in index.iter().zip(values) {
            *slot(cells, (*cell).into() as usize, into)? = *value;
        }
        return Ok(());
    }
    let mut inside = true;
    for (cell, value) in index.iter().zip(values) {
        let cell: u32 = (*cell).into();
        match into.get_mut(cell as usize) {
            Some(slot) => *slot = *value,
            None => inside = false,
        }
    }
    ensure!(inside, "a hit lies outside of the {} cells", into.len());
    Ok(())
}
