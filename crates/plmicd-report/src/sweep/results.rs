//! The evaluations of a sweep, gathered by variant: means and deviations over seeds, differences from the baseline.

use std::collections::BTreeMap;

use plmicd_data::{DataError, DecisionRule, Evaluation, LabelSpace, NoteOutcomes, Split, TokenStats};
use plmicd_metrics::{NoteTable, compare_replicates, mean_and_deviation};
use plmicd_pipeline::{BadInput, Input, StageContext, StageError};

use super::config::{SweepReportConfig, variant_and_seed};
use crate::headline::shows_metric;
use crate::privacy::Privacy;

/// One evaluation.
pub(crate) struct Cell {
    /// Its name: variant and seed.
    pub name: String,
    /// Metrics of the split by name, those that may be shown.
    pub metrics: BTreeMap<String, f64>,
    /// The decision threshold, where one decides.
    pub threshold: Option<f64>,
    /// `None` where the cell has no seed of its own.
    seed: Option<u64>,
    /// Codes and notes; read only where variants are compared.
    labels: Option<LabelSpace>,
    outcomes: Option<NoteOutcomes>,
}

/// All cells of one variant.
pub(crate) struct Variant {
    /// As in the names of the cells.
    pub name: String,
    /// For people.
    pub title: String,
    /// Published figures, in percent.
    pub published: BTreeMap<String, f64>,
    /// One for each seed, ascending.
    pub cells: Vec<Cell>,
    /// Probability by metric of a difference from the baseline as large by chance.
    pub p_values: BTreeMap<String, f64>,
    /// Why it is not compared with the baseline.
    pub not_compared: Option<String>,
    /// Mean tokens that a word of the notes is broken into, where the sweep gives its token shards.
    pub fragmentation: Option<f64>,
}

impl Variant {
    /// Values of a metric over the seeds that have it: where a model predicts nothing, some are undefined.
    pub fn values(&self, metric: &str) -> Vec<f64> {
        self.by_seed(metric).into_iter().map(|(_, value)| value).collect()
    }

    /// The same with their seeds, ascending.
    fn by_seed(&self, metric: &str) -> Vec<(Option<u64>, f64)> {
        let value = |cell: &Cell| Some((cell.seed, *cell.metrics.get(metric)?));
        self.cells.iter().filter_map(value).collect()
    }

    /// Standard error of the difference between the means of a metric of two variants over seeds: of the mean of the
    /// differences by seed where both have the same seeds, else of means of independent runs. `None` where either has one
    /// seed only.
    pub fn difference_error(&self, other: &Self, metric: &str) -> Option<f64> {
        let (ours, theirs) = (self.by_seed(metric), other.by_seed(metric));
        let variance_of_mean = |values: &[f64]| {
            let (_, deviation) = mean_and_deviation(values).filter(|_| values.len() > 1)?;
            Some(deviation.powi(2) / values.len() as f64)
        };
        let values = |pairs: &[(Option<u64>, f64)]| pairs.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let same = ours.iter().map(|(seed, _)| seed).eq(theirs.iter().map(|(seed, _)| seed));
        let (ours, theirs) = (values(&ours), values(&theirs));
        let variance = if same {
            variance_of_mean(&ours.iter().zip(&theirs).map(|(a, b)| a - b).collect::<Vec<_>>())?
        } else {
            variance_of_mean(&ours)? + variance_of_mean(&theirs)?
        };
        Some(variance.sqrt())
    }
}

/// The variants in the order of the table.
pub(crate) struct Results {
    pub variants: Vec<Variant>,
    /// The place of the variant that the others are compared with.
    pub baseline: Option<usize>,
}

impl Results {
    pub fn read(config: &SweepReportConfig, context: &StageContext<'_>) -> Result<Self, StageError> {
        let mut variants: Vec<Variant> = config
            .rows
            .iter()
            .map(|row| Variant {
                name: row.variant.clone(),
                title: row.title.clone().unwrap_or_else(|| row.variant.clone()),
                published: row.published.clone(),
                cells: Vec::new(),
                p_values: BTreeMap::new(),
                not_compared: None,
                fragmentation: None,
            })
            .collect();
        for (member, input) in context.inputs_of(super::INPUT) {
            let (name, seed) = variant_and_seed(member);
            let privacy = Privacy { restricted: context.restricted() };
            let cell = read(config, member, seed, input, privacy)?;
            match variants.iter_mut().find(|variant| variant.name == name) {
                Some(variant) => variant.cells.push(cell),
                None => variants.push(Variant {
                    name: name.to_owned(),
                    title: name.to_owned(),
                    published: BTreeMap::new(),
                    cells: vec![cell],
                    p_values: BTreeMap::new(),
                    not_compared: None,
                    fragmentation: None,
                }),
            }
        }
        for (member, input) in context.inputs_of(super::SHARDS) {
            let (name, _) = variant_and_seed(member);
            if let Some(variant) = variants.iter_mut().find(|variant| variant.name == name) {
                let stats = TokenStats::read(&input.file(TokenStats::FILE)).map_err(reading)?;
                variant.fragmentation = stats.splits.get(&config.split).map(|split| split.fragmentation);
            }
        }
        // The check of the settings has found rows without cells, where the cells were known.
        variants.retain(|variant| !variant.cells.is_empty());
        variants.iter_mut().for_each(|variant| variant.cells.sort_by_key(|cell| cell.seed));
        let baseline = variants.iter().position(|variant| variant.name == config.baseline);
        let mut results = Self { variants, baseline };
        results.compare(config, context)?;
        Ok(results)
    }

    fn compare(&mut self, config: &SweepReportConfig, context: &StageContext<'_>) -> Result<(), StageError> {
        let Some(at) = self.baseline else { return Ok(()) };
        if config.trials == 0 {
            return Ok(());
        }
        let baseline = self.variants.remove(at);
        let all = self.variants.len() as u64;
        for (done, variant) in self.variants.iter_mut().enumerate() {
            context.check_interrupt()?;
            context.progress("comparing", done as u64, Some(all), "variants");
            match compare(config, &baseline, variant)? {
                Ok(p_values) => variant.p_values = p_values,
                Err(why) => variant.not_compared = Some(why),
            }
        }
        self.variants.insert(at, baseline);
        Ok(())
    }
}

fn read(
    config: &SweepReportConfig,
    name: &str,
    seed: Option<u64>,
    input: &Input,
    privacy: Privacy,
) -> Result<Cell, StageError> {
    let path = input.file(Evaluation::FILE);
    let mut evaluation = Evaluation::read(&path).map_err(reading)?;
    let Some(split) = evaluation.splits.remove(&config.split) else {
        let held: Vec<&str> = evaluation.splits.keys().map(|split| split.as_str()).collect();
        let message = format!("no results on {}; it holds {}", config.split, held.join(", "));
        return Err(BadInput::new(path, message).into());
    };
    let metrics =
        split.metrics.iter().filter(|(name, _)| shows_metric(privacy, name, &split.metrics, &split));
    let metrics = metrics.map(|(name, value)| (name.clone(), *value)).collect();
    let outcomes = input.file(&NoteOutcomes::file_name(config.split));
    let compared = config.trials > 0 && outcomes.is_file();
    Ok(Cell {
        name: name.to_owned(),
        metrics,
        threshold: match evaluation.rule {
            DecisionRule::TopK | DecisionRule::ExpectedCount => None,
            DecisionRule::Global | DecisionRule::PerCode | DecisionRule::UnseenApart => {
                Some(evaluation.threshold)
            }
        },
        seed,
        labels: if compared {
            Some(LabelSpace::read(&input.file(LabelSpace::FILE)).map_err(reading)?)
        } else {
            None
        },
        outcomes: if compared { Some(NoteOutcomes::read(&outcomes).map_err(reading)?) } else { None },
    })
}

/// P values of the metrics that decisions and ranks decide, or why the two cannot be compared note by note.
fn compare(
    config: &SweepReportConfig,
    baseline: &Variant,
    variant: &Variant,
) -> Result<Result<BTreeMap<String, f64>, String>, StageError> {
    let pairs: Vec<(&Cell, &Cell)> = baseline
        .cells
        .iter()
        .filter_map(|cell| Some((cell, variant.cells.iter().find(|other| other.seed == cell.seed)?)))
        .collect();
    let Some((anchor, _)) = pairs.first() else { return Ok(Err("no seed in common".to_owned())) };
    let (Some(labels), Some(notes)) = (&anchor.labels, &anchor.outcomes) else {
        return Ok(Err("no outcomes by note".to_owned()));
    };
    let mut tables: [Vec<NoteTable>; 2] = [Vec::new(), Vec::new()];
    for (first, second) in &pairs {
        for (cell, tables) in [first, second].into_iter().zip(&mut tables) {
            let (Some(own), Some(outcomes)) = (&cell.labels, &cell.outcomes) else {
                return Ok(Err("no outcomes by note".to_owned()));
            };
            if labels.first_difference(own).is_some() {
                return Ok(Err("other codes".to_owned()));
            }
            let Ok(ordered) = outcomes.in_order_of(notes) else { return Ok(Err("other notes".to_owned())) };
            let table =
                NoteTable::from_lists(labels.len(), &ordered.labels, &ordered.predicted, &ordered.ranks)
                    .map_err(|error| StageError::because("reading outcomes", error))?;
            tables.push(table);
        }
    }
    let [first, second] = tables;
    let (first, second): (Vec<&NoteTable>, Vec<&NoteTable>) =
        (first.iter().collect(), second.iter().collect());
    let found = compare_replicates(&first, &second, &config.ks(), config.trials as usize, config.seed);
    Ok(Ok(found.into_iter().map(|result| (result.metric, result.p_value)).collect()))
}

fn reading(error: DataError) -> StageError {
    StageError::because("reading what is to be reported", error)
}

/// The split for headings.
pub(crate) fn split_word(split: Split) -> String {
    crate::headline::split_title(split).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(values: &[(u64, f64)]) -> Variant {
        let cell = |(seed, value): &(u64, f64)| Cell {
            name: String::new(),
            metrics: BTreeMap::from([("micro_f1".to_owned(), *value)]),
            threshold: None,
            seed: Some(*seed),
            labels: None,
            outcomes: None,
        };
        Variant {
            name: String::new(),
            title: String::new(),
            published: BTreeMap::new(),
            cells: values.iter().map(cell).collect(),
            p_values: BTreeMap::new(),
            not_compared: None,
            fragmentation: None,
        }
    }

    #[test]
    fn differences_are_paired_where_seeds_pair() {
        let error = |a: &[(u64, f64)], b: &[(u64, f64)]| variant(a).difference_error(&variant(b), "micro_f1");
        let close = |found: Option<f64>, expected: f64| {
            assert!(
                found.is_some_and(|found| (found - expected).abs() < 1e-12),
                "{found:?}, expected {expected}"
            );
        };
        // Differences of 0.1 and 0.3: deviation 0.2 / sqrt 2, over two seeds.
        close(error(&[(1, 0.5), (2, 0.8)], &[(1, 0.4), (2, 0.5)]), 0.1);
        close(error(&[(1, 0.5), (2, 0.8)], &[(1, 0.3), (2, 0.6)]), 0.0);
        // Other seeds: variances 0.045 / 2 and 0.005 / 2.
        close(error(&[(1, 0.5), (2, 0.8)], &[(3, 0.4), (4, 0.5)]), 0.025f64.sqrt());
        assert_eq!(error(&[(1, 0.5)], &[(1, 0.4)]), None);
        assert_eq!(error(&[(1, 0.5)], &[(1, 0.4), (2, 0.5)]), None);
    }
}
