//! How sure are the numbers? Bootstrap standard errors over notes and the intervals they give, and a paired randomisation
//! test of two systems.
//!
//! Everything random follows from the seed and the number of the resample by counters, so results do not depend on
//! the number of threads.

use rayon::prelude::*;

use crate::note_table::{NoteTable, Tally};

/// Above so many standard deviations lie 2.5 % of a normal distribution.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Standard deviation over resamples.
    pub standard_error: f64,
}

impl Interval {
    /// The standard normal interval (Efron and Tibshirani 1993, chapter 13; Davison and Hinkley 1997, section 5.2) of a
    /// metric from 0 to 1: the value plus and minus 1.96 bootstrap standard errors, cut at these bounds.
    ///
    /// Percentiles of the resamples would not do. A resample lacks about 37 % of the notes, and with them labels of one or
    /// two notes, which then count as F1 0: the macro figures of all resamples lie below that of the notes, and so would
    /// their percentiles. That shift is made by drawing notes twice, fresh notes do not show it: so it is no bias to
    /// be taken off either, as the basic interval would. How far resamples scatter is free of it.
    pub fn around(value: f64, standard_error: f64) -> Self {
        let reach = NORMAL_QUANTILE * standard_error;
        // An area may be above 1 in the last place.
        let [low, high] = [(value - reach).max(0.0).min(value), (value + reach).min(1.0).max(value)];
        Self { low, high, standard_error }
    }

    /// From the 2.5th to the 97.5th percentile of a sample of values: for what is chosen anew in each resample and has
    /// no value of its own. `None` without values.
    pub(crate) fn of_percentiles(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let standard_error = standard_error(&values)?;
        Some(Self { low: quantile(&values, 0.025), high: quantile(&values, 0.975), standard_error })
    }
}

/// Bootstrap standard errors (Efron and Tibshirani 1993, chapter 6) over notes of every metric of the table, in the order
/// of [`NoteTable::names`]. Resamples in which a metric is undefined are left out; `None` where it is in all of them. Empty
/// without notes or resamples.
pub fn bootstrap(table: &NoteTable, ks: &[usize], resamples: usize, seed: u64) -> Vec<Option<f64>> {
    let notes = table.num_notes();
    if notes == 0 || resamples == 0 {
        return Vec::new();
    }
    let samples: Vec<Vec<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map_init(
            || (Tally::new(table, ks), vec![0u32; notes]),
            |(tally, times), resample| {
                tally.clear();
                draw(times, seed, resample);
                times.iter().enumerate().for_each(|(note, times)| tally.add(table, note, *times));
                tally.values_or(f64::NAN)
            },
        )
        .collect();
    (0..samples[0].len())
        .map(|metric| {
            let defined = samples.iter().map(|sample| sample[metric]).filter(|value| !value.is_nan());
            standard_error(&defined.collect::<Vec<f64>>())
        })
        .collect()
}

/// How often each note is drawn when as many are drawn, with replacement, as there are.
pub(crate) fn draw(times: &mut [u32], seed: u64, resample: u64) {
    times.fill(0);
    let notes = times.len() as u64;
    let mut random = Random::new(seed, resample);
    for _ in 0..notes {
        times[random.below(notes) as usize] += 1;
    }
}

/// The standard deviation over resamples; `None` without any.
pub(crate) fn standard_error(values: &[f64]) -> Option<f64> {
    mean_and_deviation(values).map(|(_, deviation)| deviation)
}

/// The quantile of ascending values, linear between neighbours.
fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    values[below] + (values[above] - values[below]) * (place - below as f64)
}

/// One metric of two systems on the same notes.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Name of the metric.
    pub metric: String,
    /// Value of the first.
    pub first: f64,
    /// Value of the second.
    pub second: f64,
    /// Probability of a difference at least as large if the two were the same, two-sided.
    pub p_value: f64,
}

/// [`compare_replicates`] for one run of each system.
///
/// # Panics
/// If the tables are not of the same notes and labels; the caller compares their ids.
pub fn compare(
    first: &NoteTable,
    second: &NoteTable,
    ks: &[usize],
    trials: usize,
    seed: u64,
) -> Vec<Comparison> {
    compare_replicates(&[first], &[second], ks, trials, seed)
}

/// Paired approximate randomisation (Noreen 1989; Yeh 2000) of the means over replicates: in each trial the systems'
/// outputs for a note, those of all replicates together, are exchanged with probability 1/2. `p = (n + 1) / (trials +
/// 1)`, where `n` trials differ at least as much as the systems do. Empty without replicates.
///
/// # Panics
/// If there are not as many of one as of the other, or if the tables are not of the same notes and labels; the
/// caller compares their ids.
pub fn compare_replicates(
    first: &[&NoteTable],
    second: &[&NoteTable],
    ks: &[usize],
    trials: usize,
    seed: u64,
) -> Vec<Comparison> {
    assert_eq!(first.len(), second.len(), "pairs of replicates");
    let tables = || first.iter().chain(second).copied();
    let Some(one) = tables().next() else { return Vec::new() };
    for other in tables() {
        assert_eq!(one.num_notes(), other.num_notes(), "the same notes");
        assert_eq!(one.truth().num_labels(), other.truth().num_labels(), "the same labels");
    }
    // What all of them have: tables without scores lack the ranked metrics, which come last.
    let names = tables().map(|table| table.names(ks)).min_by_key(Vec::len).unwrap_or_default();
    let mean = |tables: &[&NoteTable]| mean_of(tables.iter().map(|table| table.values(ks)));
    let (a, b) = (mean(first), mean(second));
    // Equal differences computed in another order may differ in the last place.
    const SLACK: f64 = 1e-12;
    let zero = || vec![0u64; names.len()];
    let tallies = |tables: &[&NoteTable]| tables.iter().map(|t| Tally::new(t, ks)).collect::<Vec<_>>();
    let counts = (0..trials as u64)
        .into_par_iter()
        .fold(
            || (zero(), tallies(first), tallies(second)),
            |(mut counts, mut ones, mut others), trial| {
                ones.iter_mut().chain(&mut others).for_each(Tally::clear);
                let mut random = Random::new(seed, trial);
                let mut bits = 0;
                for note in 0..one.num_notes() {
                    if note % 64 == 0 {
                        bits = random.next();
                    }
                    let exchange = bits >> (note % 64) & 1 == 1;
                    let (x, y) = if exchange { (second, first) } else { (first, second) };
                    x.iter().zip(&mut ones).for_each(|(table, tally)| tally.add(table, note, 1));
                    y.iter().zip(&mut others).for_each(|(table, tally)| tally.add(table, note, 1));
                }
                let x = mean_of(ones.iter_mut().map(Tally::values));
                let y = mean_of(others.iter_mut().map(Tally::values));
                for ((count, (x, y)), (a, b)) in counts.iter_mut().zip(x.iter().zip(&y)).zip(a.iter().zip(&b))
                {
                    *count += u64::from((x - y).abs() >= (a - b).abs() - SLACK);
                }
                (counts, ones, others)
            },
        )
        .map(|(counts, ..)| counts)
        .reduce(zero, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
    names
        .into_iter()
        .zip(counts)
        .zip(a.iter().zip(&b))
        .map(|((metric, count), (a, b))| Comparison {
            metric,
            first: *a,
            second: *b,
            p_value: (count + 1) as f64 / (trials + 1) as f64,
        })
        .collect()
}

/// P values adjusted for being several (Holm 1979), in their order: the smallest times their number, the next times one
/// less, each at least the one before. Calling those below a bound significant errs anywhere among them with at
/// most that probability, however they depend on each other.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0f64;
    for (done, at) in order.into_iter().enumerate() {
        let left = (p_values.len() - done) as f64;
        least = least.max((left * p_values[at]).min(1.0));
        adjusted[at] = least;
    }
    adjusted
}

/// The mean of lists, place by place, as long as the shortest.
fn mean_of(lists: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
    let mut count = 0.0f64;
    let mut sums: Vec<f64> = Vec::new();
    for list in lists {
        if count == 0.0 {
            sums = list;
        } else {
            sums.truncate(list.len());
            sums.iter_mut().zip(list).for_each(|(sum, value)| *sum += value);
        }
        count += 1.0;
    }
    sums.iter_mut().for_each(|sum| *sum /= count);
    sums
}

/// Mean and standard deviation (of the sample: divided by n - 1; 0 for one value). `None` without values.
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (!values.is_empty()).then(|| (mean, (squares / (count - 1.0).max(1.0)).sqrt()))
}

/// SplitMix64 (Steele et al. 2014), one stream per seed and number.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ 0x6a09_e667_f3bc_c909);
        random.0 = random.next() ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        random.0 = random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 to below `bound`; the bias is below 2^-32 for a bound below 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
