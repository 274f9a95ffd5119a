//! Numbers and tables as text for people.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A number with so many significant digits, without zeros at the end.
#[must_use]
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    // Rounded first, so that 9.9999 is counted as a number of two digits before the point.
    let scientific = format!("{value:.*e}", usize::try_from(digits - 1).unwrap_or(0));
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    if !(-4..=9).contains(&power) {
        let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        return format!("{mantissa}e{power}");
    }
    let text = format!("{value:.*}", usize::try_from(digits - 1 - power).unwrap_or(0));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The first `rows` cells of a column as text; numbers that are no integers with five digits.
pub fn cells(column: &ArrayRef, rows: usize) -> Vec<String> {
    let column = column.slice(0, rows.min(column.len()));
    if column.data_type().is_floating()
        && let Ok(values) = cast(&column, &DataType::Float64)
    {
        return values.as_primitive::<Float64Type>().iter().map(|v| v.map_or_else(String::new, |v| significant(v, 5))).collect();
    }
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(&column, &options) {
        Ok(formatter) => (0..column.len()).map(|row| formatter.value(row).to_string()).collect(),
        Err(_) => vec!["?".into(); column.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn numbers_are_short() {
        let said =
            [0.0, 1.0, 12.345_678, 99_999.96, 0.000_123_456, 1.5e-7, -2e12, 123_456.7, f64::NAN].map(|v| significant(v, 5));
        assert_eq!(said, ["0", "1", "12.346", "100000", "0.00012346", "1.5e-7", "-2e12", "123457", "NaN"]);
        assert_eq!(significant(9.999_99, 3), "10");
    }
}
