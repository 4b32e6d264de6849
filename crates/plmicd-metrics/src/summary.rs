//! Every metric under the name that `metrics.json` gives it. An undefined value is left out.
//!
//! Names without suffix count every label and every note. The suffix `_edin` marks the variant of Edin et
//! al. 2023, on the labels and notes of [`Scope::present`]. Macro F1 has no plain name: each form says which
//! it is.

use std::collections::BTreeMap;

use crate::auc::{label_aucs, macro_auc, micro_auc};
use crate::counts::LabelCounts;
use crate::data::{Scope, Scored, Truth};
use crate::instance::InstanceMetrics;
use crate::predictions::{Predictions, Rule};
use crate::ranking::{Ranking, Ties};

/// The metrics that depend on the threshold.
pub fn at_threshold(scored: &Scored<'_>, threshold: f32) -> BTreeMap<String, f64> {
    of_decisions(&Predictions::new(scored, &Rule::Global(threshold)), scored.truth())
}

/// The metrics of decisions, however they were made.
pub fn of_decisions(predictions: &Predictions, truth: &Truth) -> BTreeMap<String, f64> {
    let (everything, present) = (Scope::everything(truth), Scope::present(truth));
    let mut metrics = of_counts(&LabelCounts::of(predictions, truth, &everything));
    let instance = InstanceMetrics::of(predictions, truth, &everything);
    insert(
        &mut metrics,
        [
            ("instance_precision", Some(instance.precision)),
            ("instance_recall", Some(instance.recall)),
            ("instance_f1", Some(instance.f1)),
            ("exact_match_ratio", Some(instance.exact_match_ratio)),
        ],
    );
    let counts = LabelCounts::of(predictions, truth, &present);
    let exact = InstanceMetrics::of(predictions, truth, &present).exact_match_ratio;
    insert(
        &mut metrics,
        [
            ("micro_precision_edin", counts.micro_precision()),
            ("micro_recall_edin", counts.micro_recall()),
            ("micro_f1_edin", counts.micro_f1()),
            ("micro_false_positive_rate_edin", counts.micro_false_positive_rate()),
            ("macro_precision_edin", Some(counts.macro_precision())),
            ("macro_recall_edin", Some(counts.macro_recall())),
            ("macro_f1_edin", Some(counts.macro_f1_edin())),
            ("macro_false_positive_rate_edin", Some(counts.macro_false_positive_rate())),
            ("exact_match_ratio_edin", Some(exact)),
        ],
    );
    metrics
}

/// The metrics that follow from counts per label alone.
pub fn of_counts(counts: &LabelCounts) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    insert(
        &mut metrics,
        [
            ("micro_precision", counts.micro_precision()),
            ("micro_recall", counts.micro_recall()),
            ("micro_f1", counts.micro_f1()),
            ("micro_accuracy", counts.micro_accuracy()),
            ("micro_false_positive_rate", counts.micro_false_positive_rate()),
            ("macro_precision", Some(counts.macro_precision())),
            ("macro_recall", Some(counts.macro_recall())),
            ("macro_accuracy", Some(counts.macro_accuracy())),
            ("macro_false_positive_rate", Some(counts.macro_false_positive_rate())),
            ("macro_f1_caml", Some(counts.macro_f1_caml())),
            ("macro_f1_all_labels", Some(counts.macro_f1_all_labels())),
            ("macro_f1_present_labels", Some(counts.macro_f1_present_labels())),
        ],
    );
    metrics
}

/// The metrics that depend on the scores' order alone: ranking at each `k`, and AUC. Also returns the AUC of
/// each label.
pub fn ranking_and_auc(scored: &Scored<'_>, ks: &[usize]) -> (BTreeMap<String, f64>, Vec<Option<f64>>) {
    let mut metrics = BTreeMap::new();
    let scopes = [("", Scope::everything(scored.truth())), ("_edin", Scope::present(scored.truth()))];
    for (suffix, scope) in scopes {
        let ranking = Ranking::new(scored, &scope).metrics(ks);
        metrics.extend(ranking.into_iter().map(|(name, value)| (format!("{name}{suffix}"), value)));
    }
    let areas = label_aucs(scored);
    let macro_area = macro_auc(&areas);
    insert(
        &mut metrics,
        [
            ("micro_auc", micro_auc(scored)),
            ("macro_auc", macro_area.map(|(area, _)| area)),
            ("macro_auc_labels", macro_area.map(|(_, labels)| labels as f64)),
        ],
    );
    (metrics, areas)
}

/// The lowest and the highest value that any order of labels of the same score allows, of each metric of the order of
/// scores for which they differ.
pub fn tie_bounds(scored: &Scored<'_>, ks: &[usize]) -> BTreeMap<String, [f64; 2]> {
    let mut bounds = BTreeMap::new();
    for (suffix, scope) in
        [("", Scope::everything(scored.truth())), ("_edin", Scope::present(scored.truth()))]
    {
        let metrics = |ties| Ranking::with_ties(scored, &scope, ties).metrics(ks);
        let ends = metrics(Ties::TrueLast).into_iter().zip(metrics(Ties::TrueFirst));
        let differing = ends.filter(|((_, low), (_, high))| low < high);
        bounds.extend(differing.map(|((name, low), (_, high))| (format!("{name}{suffix}"), [low, high])));
    }
    bounds
}

fn insert<const N: usize>(metrics: &mut BTreeMap<String, f64>, values: [(&str, Option<f64>); N]) {
    metrics.extend(values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}
