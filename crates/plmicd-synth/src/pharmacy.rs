//! Drugs and laboratory values.

use crate::error::SynthError;
use crate::grammar::push_number;
use crate::random::Stream;
use crate::tsv;

/// A drug and how it is prescribed.
pub(crate) struct Drug {
    pub(crate) name: &'static str,
    pub(crate) doses: Vec<&'static str>,
    pub(crate) unit: &'static str,
    pub(crate) form: &'static str,
    pub(crate) schedules: Vec<&'static str>,
}

/// An analyte with its normal range, in units of its last decimal.
pub(crate) struct Analyte {
    pub(crate) name: &'static str,
    pub(crate) panel: &'static str,
    low: i64,
    high: i64,
    decimals: u32,
}

/// A range of an analyte that a code brings about, in units of its last decimal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shift {
    /// Place in [`Pharmacy::analytes`].
    pub(crate) analyte: u16,
    low: i64,
    high: i64,
}

/// All drugs and analytes.
pub(crate) struct Pharmacy {
    /// First those that hint at codes, then the others.
    pub(crate) drugs: Vec<Drug>,
    /// Drugs from here on hint at no code.
    pub(crate) first_neutral: usize,
    pub(crate) analytes: Vec<Analyte>,
    /// Names of the panels, each with the range of its analytes.
    pub(crate) panels: Vec<std::ops::Range<usize>>,
}

/// The first drug of the file that hints at no code.
const FIRST_NEUTRAL: &str = "docusate sodium";

impl Pharmacy {
    /// Reads the built-in tables.
    pub(crate) fn load() -> Result<Self, SynthError> {
        let mut drugs = Vec::new();
        for row in tsv::rows("drugs.tsv", include_str!("../data/drugs.tsv"), 5)? {
            drugs.push(Drug {
                name: row.text(0),
                doses: row.text(1).split('|').collect(),
                unit: row.text(2),
                form: row.text(3),
                schedules: row.text(4).split('|').collect(),
            });
        }
        let first_neutral = drugs.iter().position(|d| d.name == FIRST_NEUTRAL).unwrap_or(0);
        let mut analytes: Vec<Analyte> = Vec::new();
        let mut panels: Vec<std::ops::Range<usize>> = Vec::new();
        for row in tsv::rows("labs.tsv", include_str!("../data/labs.tsv"), 5)? {
            let decimals: u32 = row.number(4)?;
            let bound =
                |column| scaled(row.text(column), decimals).ok_or_else(|| row.bad("expected a number"));
            let (place, panel) = (analytes.len(), row.text(1));
            match panels.last_mut() {
                Some(range) if analytes[range.start].panel == panel => range.end = place + 1,
                _ => panels.push(place..place + 1),
            }
            analytes.push(Analyte { name: row.text(0), panel, low: bound(2)?, high: bound(3)?, decimals });
        }
        Ok(Self { drugs, first_neutral, analytes, panels })
    }

    /// The place of a drug.
    pub(crate) fn drug(&self, name: &str) -> Option<u16> {
        self.drugs.iter().position(|drug| drug.name == name).map(|place| place as u16)
    }

    /// Reads `Creat:2.1-5.2`.
    pub(crate) fn shift(&self, text: &str) -> Option<Shift> {
        let (name, range) = text.split_once(':')?;
        let place = self.analytes.iter().position(|a| a.name == name)?;
        let decimals = self.analytes[place].decimals;
        let (low, high) = range.split_once('-')?;
        Some(Shift { analyte: place as u16, low: scaled(low, decimals)?, high: scaled(high, decimals)? })
    }

    /// Appends `Creat-3.1`, with a star behind values out of the normal range, as MIMIC prints them.
    pub(crate) fn push_value(
        &self,
        analyte: usize,
        shift: Option<Shift>,
        stream: &mut Stream,
        out: &mut String,
    ) {
        let analyte = &self.analytes[analyte];
        let value = match shift {
            Some(shift) => stream.between(shift.low, shift.high),
            // A few values are off in anyone.
            None if stream.chance(0.05) => {
                let width = (analyte.high - analyte.low).max(2);
                if stream.chance(0.5) {
                    analyte.high + 1 + stream.below(width as usize) as i64 / 2
                } else {
                    (analyte.low - 1 - stream.below(width as usize) as i64 / 4).max(0)
                }
            }
            None => stream.between(analyte.low, analyte.high),
        };
        out.push_str(analyte.name);
        out.push('-');
        push_number(out, value, analyte.decimals);
        if value < analyte.low || value > analyte.high {
            out.push('*');
        }
    }
}

/// `2.15` with one decimal is 21: the number in units of its last decimal.
fn scaled(text: &str, decimals: u32) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits = whole.to_owned();
    for place in 0..decimals as usize {
        digits.push(fraction.chars().nth(place).unwrap_or('0'));
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn values_stay_in_their_range() {
        let pharmacy = Pharmacy::load().unwrap();
        let shift = pharmacy.shift("Creat:2.1-5.2").unwrap();
        assert_eq!((shift.low, shift.high), (21, 52));
        assert!(pharmacy.shift("Creat:high").is_none() && pharmacy.shift("Nothing:1-2").is_none());
        let mut stream = Stream::new(1, Purpose::Report, 0);
        for _ in 0..100 {
            let mut out = String::new();
            pharmacy.push_value(usize::from(shift.analyte), Some(shift), &mut stream, &mut out);
            let value: f64 = out.trim_start_matches("Creat-").trim_end_matches('*').parse().unwrap();
            assert!((2.1..=5.2).contains(&value) && out.ends_with('*'), "{out}");
        }
        assert_eq!(scaled("0.05", 2), Some(5));
        assert!(pharmacy.first_neutral > 50 && pharmacy.panels.len() >= 7);
    }
}
