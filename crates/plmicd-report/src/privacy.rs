//! What a report may show. Reports on restricted data hold aggregates only: no count of notes or patients
//! from 1 to 9, no extreme of a single note, nothing such counts could be worked out from.

/// The least count shown in a report on restricted data.
pub(crate) const LEAST_COUNT: u64 = 10;

/// The rules for one report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Privacy {
    /// Whether any input derives from data under a use agreement.
    pub restricted: bool,
}

impl Privacy {
    /// A count of notes, patients or rows, with thousands separators; `<10` where it must not be shown.
    pub fn count(self, count: u64) -> String {
        if self.shows(count) { thousands(count) } else { format!("<{LEAST_COUNT}") }
    }

    /// Whether a count may be shown.
    pub fn shows(self, count: u64) -> bool {
        !self.restricted || !(1..LEAST_COUNT).contains(&count)
    }

    /// Whether a figure may be shown that stands for a share of so many notes: on restricted data for ten at least.
    pub fn shows_share(self, notes: u64, share: f64) -> bool {
        !self.restricted || share * notes as f64 >= LEAST_COUNT as f64
    }

    /// A share of pairs, on restricted data with three decimals: all its digits would tell what it was counted from.
    pub fn share(self, share: f64) -> f64 {
        if self.restricted { (1000.0 * share).round() / 1000.0 } else { share }
    }

    /// The notes that a listed code must have.
    pub fn min_positives(self, wanted: u64) -> u64 {
        if self.restricted { wanted.max(LEAST_COUNT) } else { wanted }
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_counts_of_restricted_data_are_hidden() {
        let (open, closed) = (Privacy { restricted: false }, Privacy { restricted: true });
        assert_eq!([0, 9, 10, 1234].map(|n| open.count(n)), ["0", "9", "10", "1,234"]);
        assert_eq!([0, 1, 9, 10].map(|n| closed.count(n)), ["0", "<10", "<10", "10"]);
        assert_eq!((open.min_positives(3), closed.min_positives(3)), (3, 10));
        assert!(open.shows_share(6, 0.05) && closed.shows_share(200, 0.05) && !closed.shows_share(199, 0.05));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            [0, 999, 1_000, 123_456, 1_234_567].map(thousands),
            ["0", "999", "1,000", "123,456", "1,234,567"]
        );
    }
}
