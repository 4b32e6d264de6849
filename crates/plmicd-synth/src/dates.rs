//! Calendar dates as MIMIC writes them, without a clock: days counted from 1970-01-01.

use std::fmt::{self, Write as _};

/// A day. In the corpus all lie between 2020 and 2210, as de-identified dates do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub(crate) i64);

impl Day {
    /// Year, month, day of the proleptic Gregorian calendar (Howard Hinnant's `civil_from_days`).
    pub(crate) fn civil(self) -> (i64, i64, i64) {
        let z = self.0 + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
    }

    /// `days` later.
    pub(crate) fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Appends the form used inside notes: `[**2119-3-4**]`.
    pub(crate) fn write_bracketed(self, out: &mut String) {
        let (year, month, day) = self.civil();
        // Writing into a String cannot fail.
        let _ = write!(out, "[**{year}-{month}-{day}**]");
    }
}

/// The form used in columns: `2119-03-04`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        assert_eq!(Day(0).to_string(), "1970-01-01");
        assert_eq!(Day(11_016).to_string(), "2000-02-29");
        assert_eq!(Day(11_016 + 36_525).to_string(), "2100-03-01");
        let mut text = String::new();
        Day(11_016).plus(5).write_bracketed(&mut text);
        assert_eq!(text, "[**2000-3-5**]");
    }
}
