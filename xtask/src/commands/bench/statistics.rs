//! What is said of repeated measurements.

use std::time::Duration;

/// The median, in milliseconds; of an even number, the mean of the two in the middle.
pub(super) fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => milliseconds(sorted[middle]),
        _ => (milliseconds(sorted[middle - 1]) + milliseconds(sorted[middle])) / 2.0,
    }
}

/// The median of figures; of an even number, the upper one of the two in the middle.
pub(super) fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The shortest and the longest, in milliseconds.
pub(super) fn extremes(times: &[Duration]) -> (f64, f64) {
    let of = |time: Option<&Duration>| time.map_or(f64::NAN, |time| milliseconds(*time));
    (of(times.iter().min()), of(times.iter().max()))
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_middle_of_odd_and_even_numbers_of_runs() {
        let times = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(median(&times(&[9, 1, 5])), 5.0);
        assert_eq!(median(&times(&[9, 1, 5, 7])), 6.0);
        assert_eq!(extremes(&times(&[9, 1, 5])), (1.0, 9.0));
        assert!(median(&[]).is_nan());
    }
}
