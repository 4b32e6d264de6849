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

    /// Whether a share of so many things may be shown: neither those that it counts nor the others may be from 1 to 9.
    pub fn shows_part(self, whole: u64, share: f64) -> bool {
        let part = (share * whole as f64).round() as u64;
        self.shows(part) && self.shows(whole.saturating_sub(part))
    }

    /// Which of several sums may be shown that add up, with `others`, to a total that may be known. What is left of a sum
    /// without the parts that are told elsewhere must not be from 1 to 9, nor must what is left of all hidden ones
    /// together: further sums are hidden then, the smallest first.
    pub fn shown_sums(self, sums: &[Sum], others: Sum) -> Vec<bool> {
        let mut shown: Vec<bool> =
            sums.iter().map(|sum| self.shows(sum.total) && self.shows(sum.left())).collect();
        loop {
            let hidden = sums.iter().zip(&shown).filter(|(_, shown)| !**shown).map(|(sum, _)| sum.left());
            if self.shows(others.left() + hidden.sum::<u64>()) {
                return shown;
            }
            // One of which nothing is left hides nothing.
            let next = (0..sums.len()).filter(|at| shown[*at] && sums[*at].left() > 0);
            let Some(next) = next.min_by_key(|at| sums[*at].left()) else { return shown };
            shown[next] = false;
        }
    }

    /// An F1 that stands beside a count: on restricted data with two decimals, with all its digits it would tell how
    /// many hits it was computed from.
    pub fn f1(self, value: f64) -> f64 {
        if self.restricted { (100.0 * value).round() / 100.0 } else { value }
    }

    /// [`Self::f1`] with so many decimals at most.
    pub fn f1_text(self, value: f64, decimals: usize) -> String {
        let decimals = if self.restricted { decimals.min(2) } else { decimals };
        format!("{value:.decimals$}")
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

/// A sum of counts, and what its parts that are told elsewhere add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub total: u64,
    pub told: u64,
}

impl Sum {
    fn left(self) -> u64 {
        self.total.saturating_sub(self.told)
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
    fn what_is_left_of_a_whole_is_hidden_too() {
        let closed = Privacy { restricted: true };
        let shares = [0.0, 0.04, 0.05, 0.5, 0.95, 0.96, 1.0];
        assert_eq!(
            shares.map(|share| closed.shows_part(200, share)),
            [true, false, true, true, true, false, true]
        );
        assert!(Privacy { restricted: false }.shows_part(200, 0.04));
        assert_eq!([0.126, 1.0].map(|f1| closed.f1_text(f1, 3)), ["0.13", "1.00"]);
        assert_eq!(Privacy { restricted: false }.f1_text(0.126, 3), "0.126");
    }

    #[test]
    fn sums_do_not_tell_their_small_parts() {
        let closed = Privacy { restricted: true };
        let sums = |pairs: &[(u64, u64)]| -> Vec<Sum> {
            pairs.iter().map(|(total, told)| Sum { total: *total, told: *told }).collect()
        };
        let shown = |pairs: &[(u64, u64)], others| closed.shown_sums(&sums(pairs), others);
        let none = Sum::default();
        assert_eq!(shown(&[(100, 0), (40, 40), (30, 20)], none), [true, true, true]);
        // 49 without the 40 that are told is 9. The total would tell it if nothing else were hidden.
        assert_eq!(shown(&[(100, 0), (49, 40), (50, 10)], none), [true, false, false]);
        assert_eq!(shown(&[(100, 0), (30, 0), (7, 0)], none), [true, false, false]);
        assert_eq!(shown(&[(100, 0), (8, 0), (7, 0)], none), [true, false, false]);
        // So would it tell what belongs to no sum.
        assert_eq!(shown(&[(100, 0), (30, 0)], Sum { total: 5, told: 0 }), [true, false]);
        assert_eq!(shown(&[(40, 40)], Sum { total: 5, told: 0 }), [true]);
        let open = Privacy { restricted: false };
        assert_eq!(open.shown_sums(&sums(&[(49, 40), (7, 0)]), none), [true, true]);
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            [0, 999, 1_000, 123_456, 1_234_567].map(thousands),
            ["0", "999", "1,000", "123,456", "1,234,567"]
        );
    }
}
