//! Published results, to stand beside ours: figures in percent as their papers print them.

use crate::data_set::{Row, Table};
use crate::headline::{Headline, metric_title};

/// A published row.
pub(crate) struct Published {
    /// Name for the setting `published`.
    pub name: &'static str,
    /// System and data set, for people.
    pub title: &'static str,
    /// Where it stands.
    pub source: &'static str,
    /// Names of metrics as in `metrics.json`, and values in percent.
    pub values: &'static [(&'static str, f64)],
}

const HUANG: &str = "Huang et al. 2022, PLM-ICD";
const EDIN: &str = "Edin et al. 2023, Automated Medical Coding on MIMIC-III and MIMIC-IV";

macro_rules! caml_row {
    ($name:literal, $title:literal, $source:expr, $macro_auc:literal, $micro_auc:literal, $macro_f1:literal, $micro_f1:literal
     $(, $at:literal = $value:literal)*) => {
        Published {
            name: $name,
            title: $title,
            source: $source,
            values: &[
                ("micro_f1", $micro_f1),
                ("macro_f1_caml", $macro_f1),
                ("micro_auc", $micro_auc),
                ("macro_auc", $macro_auc),
                $(($at, $value),)*
            ],
        }
    };
}

/// Every row that can be named.
pub(crate) const PUBLISHED: &[Published] = &[
    caml_row!(
        "plm-icd/mimic3-full",
        "PLM-ICD, MIMIC-III full",
        HUANG,
        92.6,
        98.9,
        10.4,
        59.8,
        "precision_at_5" = 84.4,
        "precision_at_8" = 77.1,
        "precision_at_15" = 61.3
    ),
    caml_row!(
        "laat/mimic3-full",
        "LAAT, MIMIC-III full",
        HUANG,
        91.9,
        98.8,
        9.9,
        57.5,
        "precision_at_5" = 81.3,
        "precision_at_8" = 73.8,
        "precision_at_15" = 59.1
    ),
    caml_row!(
        "joint-laat/mimic3-full",
        "JointLAAT, MIMIC-III full",
        HUANG,
        92.1,
        98.8,
        10.7,
        57.5,
        "precision_at_5" = 80.6,
        "precision_at_8" = 73.5,
        "precision_at_15" = 59.0
    ),
    caml_row!(
        "caml/mimic3-full",
        "CAML, MIMIC-III full",
        HUANG,
        89.5,
        98.6,
        8.8,
        53.9,
        "precision_at_8" = 70.9,
        "precision_at_15" = 56.1
    ),
    caml_row!(
        "dr-caml/mimic3-full",
        "DR-CAML, MIMIC-III full",
        HUANG,
        89.7,
        98.5,
        8.6,
        52.9,
        "precision_at_8" = 69.0,
        "precision_at_15" = 54.8
    ),
    caml_row!(
        "multirescnn/mimic3-full",
        "MultiResCNN, MIMIC-III full",
        HUANG,
        91.0,
        98.6,
        8.5,
        55.2,
        "precision_at_8" = 73.4,
        "precision_at_15" = 58.4
    ),
    caml_row!(
        "plm-icd/mimic3-50",
        "PLM-ICD, MIMIC-III 50",
        "as compiled by later papers on the 50 codes",
        91.0,
        93.4,
        66.3,
        71.9,
        "precision_at_5" = 66.0
    ),
    caml_row!(
        "plm-ca/mimic3-50",
        "PLM-CA, MIMIC-III 50",
        "as compiled by later papers on the 50 codes",
        91.6,
        93.6,
        67.1,
        71.0,
        "precision_at_5" = 66.4
    ),
    caml_row!(
        "plm-icd/mimic2",
        "PLM-ICD, MIMIC-II",
        HUANG,
        86.8,
        97.3,
        6.1,
        50.4,
        "precision_at_5" = 67.3,
        "precision_at_8" = 56.1,
        "precision_at_15" = 39.9
    ),
    caml_row!(
        "laat/mimic2",
        "LAAT, MIMIC-II",
        HUANG,
        86.8,
        97.3,
        5.9,
        48.6,
        "precision_at_5" = 64.9,
        "precision_at_8" = 55.0,
        "precision_at_15" = 39.7
    ),
    Published {
        name: "plm-icd/mimic4-icd10",
        title: "PLM-ICD, MIMIC-IV ICD-10",
        source: EDIN,
        values: &[
            ("micro_f1_edin", 58.5),
            ("macro_f1_edin", 21.1),
            ("exact_match_ratio_edin", 0.4),
            ("precision_at_8_edin", 69.9),
            ("precision_at_15_edin", 55.0),
            ("r_precision_edin", 57.9),
            ("mean_average_precision_edin", 61.9),
            ("micro_auc", 99.2),
            ("macro_auc", 96.6),
        ],
    },
    Published {
        name: "laat/mimic4-icd10",
        title: "LAAT, MIMIC-IV ICD-10",
        source: EDIN,
        values: &[
            ("micro_f1_edin", 57.9),
            ("macro_f1_edin", 20.3),
            ("exact_match_ratio_edin", 0.4),
            ("precision_at_8_edin", 68.9),
            ("precision_at_15_edin", 54.3),
            ("r_precision_edin", 57.2),
            ("mean_average_precision_edin", 60.6),
            ("micro_auc", 99.0),
            ("macro_auc", 95.4),
        ],
    },
];

/// The row of this name.
pub(crate) fn find(name: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|row| row.name == name)
}

/// A published row beside ours, on the last split; metrics that we have not are left out.
pub(crate) fn table(row: &Published, headline: &Headline) -> Table {
    let at = headline.last_model_column();
    let rows = row.values.iter().filter_map(|(name, published)| {
        let (at, row) = (at?, headline.all_rows.iter().find(|row| row.name == *name)?);
        let ours = row.values.get(at).copied()??;
        let published = published / 100.0;
        let difference = match row.tie_bounds[at] {
            Some(_) => "–".to_owned(),
            None => format!("{:+.4}", ours - published),
        };
        Some(Row {
            title: metric_title(name),
            cells: vec![row.shown(at), format!("{published:.3}"), difference],
        })
    });
    Table {
        caption: format!("Beside {}", row.title),
        columns: ["Ours", "Published", "Difference"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_values_are_percentages() {
        for (at, row) in PUBLISHED.iter().enumerate() {
            assert!(PUBLISHED[..at].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(row.values.iter().all(|(_, value)| (0.1..100.0).contains(value)), "{}", row.name);
        }
        assert!(find("plm-icd/mimic3-full").is_some() && find("nobody").is_none());
    }
}
