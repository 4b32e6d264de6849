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
//! | [`summary`] | all of it under documented names |
//!
//! A label is predicted when its score is **strictly greater than** the threshold, both as `f32`.

pub mod auc;
pub mod counts;
pub mod data;
pub mod instance;
mod macro_search;
mod positives;
pub mod ranking;
pub mod summary;
pub mod threshold;

pub use auc::{label_aucs, macro_auc, micro_auc};
pub use counts::LabelCounts;
pub use data::{MetricsError, Scope, Scored, Truth};
pub use instance::InstanceMetrics;
pub use ranking::Ranking;
pub use summary::{at_threshold, ranking_and_auc};
pub use threshold::{BestThreshold, CurvePoint, best_macro_f1, best_micro_f1, curve, curve_thresholds};
