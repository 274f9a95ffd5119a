//! Numbers as people read them: counts with their nouns, bytes, values with their errors.

/// Bytes in binary units, three significant digits: `1.46 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count with its thousands apart: `1,234,567`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count with its noun: `1 file`, `1,234 files`.
#[must_use]
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `18.32 ± 0.21`; the value alone, with four significant digits, where there is no error.
#[must_use]
pub fn with_error(value: f64, error: f64) -> String {
    if !(error.is_finite() && error > 0.0 && value.is_finite()) {
        return significant(value, 4);
    }
    // By the digits that are printed, so that 0.0996 counts as 0.10.
    let exponent: i32 = format!("{error:.1e}").split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or_default();
    if !(-9..=9).contains(&exponent) {
        return format!("{value:.3e} ± {error:.1e}");
    }
    let places = usize::try_from(1 - exponent).unwrap_or_default();
    format!("{value:.places$} ± {error:.places$}")
}

/// A value with the ends of its interval: `85.1 ± 0.4`, `12.1 +1.3 -1.0`, `100.0 -1.8`, `140 (> 97)`.
#[must_use]
pub fn with_ends(value: f64, ends: Option<(f64, Option<f64>)>) -> String {
    let Some((low, high)) = ends else { return significant(value, 4) };
    let (below, Some(above)) = (value - low, high.map(|high| high - value)) else {
        return format!("{} (> {})", significant(value, 3), significant(low, 3));
    };
    if (above - below).abs() <= 0.1 * above.max(below) {
        return with_error(value, f64::midpoint(below, above));
    }
    // As many places as the smaller error of two digits has, of those that are not 0.
    let least = [below, above].into_iter().filter(|e| *e > 0.0).fold(f64::INFINITY, f64::min);
    if !least.is_finite() {
        return significant(value, 4);
    }
    let places = usize::try_from(1 - least.log10().floor() as i64).unwrap_or_default().min(12);
    let end = |sign, error: f64| if error > 0.0 { format!(" {sign}{error:.places$}") } else { String::new() };
    format!("{value:.places$}{}{}", end('+', above), end('-', below))
}

/// A number with so many significant digits, without an exponent where it is of everyday size.
#[must_use]
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or_default();
    if !(-5..=9).contains(&exponent) {
        return scientific;
    }
    format!("{value:.*}", usize::try_from(digits as i32 - 1 - exponent).unwrap_or_default())
}

/// A number as people would write it: `0.1`, `510`, `1e-7`.
#[must_use]
pub fn plain(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e7).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_has_two_digits_and_the_value_as_many_places() {
        assert_eq!(with_error(18.3249, 0.2149), "18.32 ± 0.21");
        assert_eq!(with_error(0.7512, 0.0996), "0.75 ± 0.10");
        assert_eq!(with_error(13100.0, 230.0), "13100 ± 230");
        assert_eq!(with_error(0.987_654, 0.000_123), "0.98765 ± 0.00012");
        assert_eq!(with_error(3.0, f64::NAN), "3.000");
        assert_eq!(with_error(1e-14, 1e-15), "1.000e-14 ± 1.0e-15");
        assert_eq!(significant(123_456.7, 4), "123457");
        assert_eq!(significant(0.001_234_56, 3), "0.00123");
    }

    #[test]
    fn an_interval_is_shown_by_the_distances_of_its_ends() {
        assert_eq!(with_ends(85.1, Some((84.7, Some(85.5)))), "85.10 ± 0.40");
        assert_eq!(with_ends(12.1, Some((11.1, Some(13.4)))), "12.1 +1.3 -1.0");
        assert_eq!(with_ends(0.0, Some((0.0, Some(1.8)))), "0.0 +1.8");
        assert_eq!(with_ends(140.0, Some((97.0, None))), "140 (> 97.0)");
        assert_eq!(with_ends(0.25, None), "0.2500");
        assert_eq!(with_ends(1.0, Some((1.0, Some(1.0)))), "1.000");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1_536_000), "1.46 MiB");
        assert_eq!(bytes(1 << 32), "4.00 GiB");
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123_456), "123,456");
        assert_eq!(
            (counted(0, "row"), counted(1, "row"), counted(2000, "row")),
            ("0 rows".into(), "1 row".into(), "2,000 rows".into())
        );
    }
}
