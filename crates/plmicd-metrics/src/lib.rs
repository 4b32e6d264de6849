//! Metrics of multi-label coding, as pure functions on scores and truth.
//!
//! Every function is deterministic for any number of threads: parallel parts count integers or fill slots of
//! their own, and floating-point sums run in label or note order.
//!
//! | module | what |
//! |---|---|
//! | [`data`] | [`Truth`], [`Scored`], [`Scope`]: what metrics are computed on |
//! | [`counts`] | [`LabelCounts`]: micro and macro precision, recall, F1 from counts per label |
//! | [`instance`] | metrics per note: instance F1, exact match |
//! | [`ranking`] | P@k, R@k, MAP, R-precision |
//! | [`auc`] | areas under the ROC curve |
//! | [`threshold`] | exact search for the best threshold, threshold curves |
//! | [`predictions`], [`rules`] | decisions by threshold, per label, top k; how those are chosen |
//! | [`precision_recall`] | average precision, the curve |
//! | [`calibration`] | reliability curve, expected calibration error, Brier score |
//! | [`groups`] | the same at coarser levels of the classification |
//! | [`note_table`], [`resample`], [`auc_bootstrap`] | bootstrap standard errors and intervals, paired randomisation test |
//! | [`summary`] | all of it under documented names |
//!
//! A label is predicted when its score is **strictly greater than** the threshold, both as `f32`.

pub mod auc;
pub mod auc_bootstrap;
pub mod calibration;
pub mod counts;
pub mod data;
pub mod groups;
pub mod instance;
mod macro_search;
pub mod note_table;
mod positives;
pub mod precision_recall;
pub mod predictions;
pub mod ranking;
pub mod resample;
pub mod rules;
pub mod summary;
pub mod threshold;

pub use auc::{label_aucs, macro_auc, micro_auc};
pub use auc_bootstrap::bootstrap_areas;
pub use calibration::{Calibration, ReliabilityBin};
pub use counts::LabelCounts;
pub use data::{MetricsError, Scope, Scored, Truth};
pub use instance::InstanceMetrics;
pub use note_table::{NoteTable, Tally};
pub use precision_recall::{
    PrecisionRecall, label_average_precisions, micro_average_precision, precision_recall_curve,
};
pub use predictions::{Predictions, Rule};
pub use ranking::{Ranking, Ties};
pub use resample::{Comparison, Interval, bootstrap, compare, compare_replicates, holm, mean_and_deviation};
pub use summary::{at_threshold, ranking_and_auc, tie_bounds};
pub use threshold::{BestThreshold, CurvePoint, best_macro_f1, best_micro_f1, curve, curve_thresholds};
