//! Axes: from values to places, and the round numbers that are written beside them.

/// A range of values along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) log: bool,
}

/// No axis goes further; twice widened it still has a ratio of ends that f64 holds.
const LARGEST: f64 = 1e40;

/// What is marked on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ticks {
    /// Values with their labels.
    pub(super) major: Vec<(f64, String)>,
    /// Values between them.
    pub(super) minor: Vec<f64>,
    /// The power of ten that the labels leave out.
    pub(super) exponent: i32,
}

/// The least and the greatest of the finite values; none where there is none.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    finite.fold(None, |found, v| Some(found.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v)))))
}

impl Axis {
    /// A linear axis that is never empty.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() { (low.min(high), low.max(high)) } else { (0.0, 1.0) };
        // Far from where a difference or a power of ten would leave what f64 holds.
        let (low, high) = (low.clamp(-LARGEST, LARGEST), high.clamp(-LARGEST, LARGEST));
        if high - low > (1e-12 * low.abs().max(high.abs())).max(1.0 / LARGEST) {
            return Self { low, high, log: false };
        }
        let half = if low.abs() < 1.0 / LARGEST { 1.0 } else { 0.1 * low.abs() };
        Self { low: low - half, high: high + half, log: false }
    }

    /// A logarithmic axis that is never empty; `low` and `high` are positive.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let (low, high) = if low > 0.0 && high >= low && high.is_finite() { (low, high) } else { (0.1, 1.0) };
        let (low, high) = (low.clamp(1.0 / LARGEST, LARGEST), high.clamp(1.0 / LARGEST, LARGEST));
        if high > low * 1.01 { Self { low, high, log: true } } else { Self { low: low / 2.0, high: high * 2.0, log: true } }
    }

    /// The same axis with this share of its length added at its ends.
    pub(super) fn padded(self, below: f64, above: f64) -> Self {
        if self.log {
            let decades = (self.high / self.low).log10();
            let grown = |by: f64| 10f64.powf(decades * by);
            return Self { low: self.low / grown(below), high: self.high * grown(above), log: true };
        }
        let length = self.high - self.low;
        Self { low: self.low - below * length, high: self.high + above * length, log: false }
    }

    /// The place of a value: 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.log {
            return if value > 0.0 { (value / self.low).ln() / (self.high / self.low).ln() } else { f64::NEG_INFINITY };
        }
        (value - self.low) / (self.high - self.low)
    }

    /// About `wanted` marks at round values.
    pub(super) fn ticks(&self, wanted: usize) -> Ticks {
        let decades = if self.log { (self.high / self.low).log10() } else { 0.0 };
        if self.log && decades >= 1.0 { self.decades(wanted, decades) } else { self.rounds(wanted) }
    }

    fn has(&self, value: f64) -> bool {
        let slack = 1e-9;
        (-slack..=1.0 + slack).contains(&self.place(value))
    }

    fn rounds(&self, wanted: usize) -> Ticks {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powi(rough.log10().floor() as i32);
        let (factor, parts) =
            [(1.0, 5), (2.0, 4), (5.0, 5), (10.0, 5)].into_iter().find(|(f, _)| f * power >= rough * 0.999).unwrap_or((10.0, 5));
        let step = factor * power;
        let largest = self.low.abs().max(self.high.abs());
        let exponent = if (0.01..1e5).contains(&largest) { 0 } else { (largest.log10() / 3.0).floor() as i32 * 3 };
        let shown = step / 10f64.powi(exponent);
        let decimals = usize::try_from(-(shown.log10() + 1e-9).floor() as i32).unwrap_or(0);
        let (first, last) = ((self.low / step).floor() as i64, (self.high / step).ceil() as i64);
        let label = |n: i64| {
            let value = n as f64 * step;
            (value, format!("{:.decimals$}", value / 10f64.powi(exponent)).replace('-', "−"))
        };
        let major = (first..=last).map(label).filter(|(v, _)| self.has(*v)).collect();
        let minor = (first * parts..=last * parts).filter(|n| n % parts != 0).map(|n| n as f64 * step / parts as f64);
        Ticks { major, minor: minor.filter(|v| self.has(*v)).collect(), exponent }
    }

    fn decades(&self, wanted: usize, decades: f64) -> Ticks {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let every = ((decades / wanted.max(1) as f64).ceil() as i32).max(1);
        let digits: &[f64] = if decades < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let (mut major, mut minor) = (Vec::new(), Vec::new());
        for power in first..=last {
            for digit in 1..10 {
                let (digit, decade) = (f64::from(digit), 10f64.powi(power));
                let value = digit * decade;
                if !self.has(value) {
                    continue;
                }
                if digits.contains(&digit) && power.rem_euclid(every) == 0 {
                    major.push((
                        value,
                        if decades < 2.0 || every == 1 && (-2..=3).contains(&power) && last - first <= 5 {
                            plain(value)
                        } else {
                            power_of_ten(power)
                        },
                    ));
                } else if every == 1 || digit == 1.0 {
                    minor.push(value);
                }
            }
        }
        Ticks { major, minor, exponent: 0 }
    }
}

/// A number without an exponent, as short as it can be.
fn plain(value: f64) -> String {
    let power = value.log10().floor() as i32;
    if (-4..5).contains(&power) {
        let decimals = usize::try_from(-power).unwrap_or(0);
        return format!("{value:.decimals$}");
    }
    let digit = (value / 10f64.powi(power)).round();
    if digit == 1.0 { power_of_ten(power) } else { format!("{digit}×{}", power_of_ten(power)) }
}

/// `10` with its power set high.
pub(super) fn power_of_ten(power: i32) -> String {
    let high = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32('⁰' as u32 + c.to_digit(10).unwrap_or(0)).unwrap_or(c),
    };
    format!("10{}", power.to_string().chars().map(high).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: Axis, wanted: usize) -> Vec<String> {
        axis.ticks(wanted).major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn round_numbers_are_marked() {
        assert_eq!(labels(Axis::linear(10.0, 510.0), 6), ["100", "200", "300", "400", "500"]);
        assert_eq!(labels(Axis::linear(-0.012, 0.051), 6), ["0.00", "0.02", "0.04"]);
        let large = Axis::linear(0.0, 250_000.0).ticks(6);
        assert_eq!((large.major.last().unwrap().1.as_str(), large.exponent), ("250", 3));
        assert_eq!(labels(Axis::log(0.5, 3e6), 6), ["10⁰", "10²", "10⁴", "10⁶"]);
        assert_eq!(labels(Axis::log(0.02, 0.9), 6), ["0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(labels(Axis::log(0.02, 0.03), 3), ["0.020", "0.025", "0.030"]);
    }

    proptest! {
        #[test]
        fn there_are_neither_too_few_nor_too_many(low in -1e9f64..1e9, length in 1e-6f64..1e9, log in any::<bool>(), wanted in 3usize..10) {
            let axis = if log { Axis::log(low.abs() + 1e-9, low.abs() + 1e-9 + length) } else { Axis::linear(low, low + length) };
            let ticks = axis.ticks(wanted);
            prop_assert!((1..=2 * wanted + 1).contains(&ticks.major.len()), "{:?}", ticks);
            for (value, _) in &ticks.major {
                prop_assert!((-1e-6..=1.000_001).contains(&axis.place(*value)), "{value} on {axis:?}");
            }
            let mut labels: Vec<_> = ticks.major.iter().map(|(_, label)| label).collect();
            labels.dedup();
            prop_assert!(labels.len() == ticks.major.len() || length < 1e-4 * low.abs(), "{:?}", ticks);
        }
    }
}
