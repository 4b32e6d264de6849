//! What the page holds, and what it must never hold.

use plmicd_data::Thresholds;
use plmicd_pipeline::Stage;
use plmicd_report::{Report, ReportConfig};

use crate::inputs::{Inputs, blake3_of};

/// The specifications of the page's figures.
fn figures(page: &str) -> Vec<serde_json::Value> {
    page.split("<script type=\"application/json\"")
        .skip(1)
        .map(|rest| {
            let text = &rest[rest.find('>').unwrap() + 1..rest.find("</script>").unwrap()];
            serde_json::from_str(text).unwrap()
        })
        .collect()
}

/// The page without the plotting library, which is nobody's to check here.
fn without_library(page: &str) -> String {
    let start = page.find("<script>").unwrap();
    let end = start + page[start..].find("</script>").unwrap();
    assert!(end - start > 1_000_000);
    format!("{}{}", &page[..start], &page[end..])
}

#[test]
fn a_published_result_stands_beside_ours() {
    let inputs = Inputs::new();
    let config =
        ReportConfig { published: Some("plm-icd/mimic3-full".to_owned()), ..ReportConfig::default() };
    assert!(Report::check(&config, &[]).is_empty());
    inputs.run_with(&config, &["evaluation", "thresholds"]).unwrap();
    let page = inputs.read("report.html");
    assert!(page.contains("Beside PLM-ICD, MIMIC-III full") && page.contains("Huang et al. 2022"));
    assert!(page.contains("<td>0.598</td><td>+0.0563</td>"), "0.6543 beside 0.598");
    let none = ReportConfig { published: Some(String::new()), ..ReportConfig::default() };
    assert!(Report::check(&none, &[]).is_empty());
    inputs.run_with(&none, &["evaluation", "thresholds"]).unwrap();
    assert!(!inputs.read("report.html").contains("Beside "));
    let unknown = ReportConfig { published: Some("plm-icd/mimic9".to_owned()), ..ReportConfig::default() };
    let issues = Report::check(&unknown, &[]);
    assert!(issues[0].path == "published" && issues[0].message.contains("plm-icd/mimic3-full"));
}

#[test]
fn tables_are_there_for_papers_and_spreadsheets() {
    let inputs = Inputs::new();
    inputs.run();
    let csv = inputs.read("report.csv");
    let mut lines = csv.lines();
    let names = "dev_model,dev_model_low,dev_model_high,dev_model_ties_low,dev_model_ties_high,test_model,";
    assert!(lines.next().unwrap().starts_with(&format!("metric,{names}")));
    assert!(csv.contains("\nmicro_f1,0.6789,0.64,0.67,,,0.6543,0.64,0.67,,,0.2468,,,,\n"), "{csv}");
    let latex = inputs.read("report.tex");
    assert!(latex.contains("Micro F1 & 67.9 & 65.4 & 24.7 \\\\\n"), "{latex}");
    assert!(latex.contains("\\begin{tabular}{lrrr}") && latex.contains("\\{\\{ 7"), "{latex}");
}

#[test]
fn the_page_holds_the_results() {
    let inputs = Inputs::new();
    let page = inputs.run();
    for part in [
        "0.6543",
        "0.6789",
        "0.2468",
        "chosen: F1 0.680 at 0.370",
        "kept: epoch 11",
        "123,456,789",
        "stopped early",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(
        page.contains(&blake3_of("model")) && page.contains("30,522") && page.contains("Condition number 38")
    );
    // Loss, learning rate, dev metrics, threshold, precision over recall, frequency, calibration, codes.
    assert_eq!(figures(&page).len(), 8);
    for part in
        ["[0.6400, 0.6700]", "0.6400 to 0.6700", "average precision 0.700", "over 100", "Brier score 0.0100"]
    {
        assert!(page.contains(part), "no {part}");
    }
    // Of 36 codes with enough notes, the 15 best and the 15 worst; none of those with 5 notes.
    assert!(page.contains("004.4") && page.contains("039.9") && !page.contains("003.3"));
    assert!(page.contains("40 of 40 codes occur in test; 0 of these"));
}

#[test]
fn markup_in_data_is_harmless() {
    let inputs = Inputs::new();
    let page = inputs.run();
    assert!(page.contains("&lt;script&gt;alert(1)"));
    for part in ["<script>alert", "<img", "49 | pipe"] {
        assert!(!page.contains(part), "{part} came through");
    }
    // Every script element is one of ours: a specification each, the library, and what draws.
    assert_eq!(page.matches("<script").count(), figures(&page).len() + 2);
    let markdown = inputs.read("report.md");
    assert!(!markdown.contains("<script") && !markdown.contains("} | pipe"), "{markdown}");
}

#[test]
fn the_page_loads_nothing() {
    // The library names addresses that it would use for maps; the page's policy lets it connect to nothing.
    let page = without_library(&Inputs::new().run());
    for part in ["http://", "https://", "src=\"", "@import", "url(", "<link"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_report_on_restricted_data_shows_no_small_count() {
    let mut inputs = Inputs::new();
    let open = inputs.run();
    assert!(open.contains("97,531") && open.contains("<td>6</td>") && open.contains("<td>8</td>"));
    assert!(open.contains("Precision</th>") && !open.contains("Restricted"));
    assert!(open.contains("Diseases 390-459") && open.contains("Diseases 460-519"));
    inputs.restricted = true;
    let closed = inputs.run();
    assert!(closed.contains("Restricted") && closed.contains("&lt;10"));
    assert!(closed.contains("Diseases 390-459") && !closed.contains("Diseases 460-519"));
    for part in ["<td>6</td>", "<td>8</td>", "97,531", "Precision</th>", "Predicted</th>"] {
        assert!(!closed.contains(part), "{part}");
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let inputs = Inputs::new();
    let first = inputs.run();
    assert_eq!(first, inputs.run());
}

#[test]
fn optional_inputs_may_be_absent() {
    let inputs = Inputs::new();
    inputs.run_with(&ReportConfig::default(), &["evaluation", "thresholds"]).unwrap();
    let page = inputs.read("report.html");
    assert_eq!(figures(&page).len(), 5);
    assert!(!page.contains("Data set") && !page.contains("#data") && !page.contains("Seed"));
}

#[test]
fn the_headline_is_there_for_programs_and_terminals() {
    let inputs = Inputs::new();
    inputs.run();
    let json: serde_json::Value = serde_json::from_str(&inputs.read("headline.json")).unwrap();
    assert_eq!(json["schema"], 4);
    assert_eq!(json["rows"][0]["intervals"][1], serde_json::json!([0.64, 0.67]));
    assert_eq!(json["columns"][2]["of"], "frequent_codes");
    assert_eq!(json["rows"][0]["name"], "micro_f1");
    assert_eq!(json["rows"][0]["values"], serde_json::json!([0.6789, 0.6543, 0.2468]));
    let names: Vec<_> =
        json["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let at: Vec<_> = names.iter().filter(|name| name.starts_with("precision")).collect();
    assert_eq!(at, [&"precision_at_5", &"precision_at_8", &"precision_at_15"]);
    let text = inputs.read("headline.txt");
    assert!(text.starts_with("metric"), "{text}");
    let line = text.lines().find(|line| line.starts_with("Micro F1")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Micro", "F1", "0.6789", "0.6543", "0.2468"]);
    assert!(inputs.read("report.md").contains("| Micro F1 | 0.6789 | 0.6543 | 0.2468 |"));
}

#[test]
fn thresholds_of_another_evaluation_are_refused() {
    let inputs = Inputs::new();
    let path = inputs.dir.join("thresholds").join(Thresholds::FILE);
    let thresholds = Thresholds { threshold: 0.4, ..Thresholds::read(&path).unwrap() };
    thresholds.write(&path).unwrap();
    let error = inputs.run_with(&ReportConfig::default(), &["evaluation", "thresholds"]).unwrap_err();
    assert!(error.to_string().contains("threshold 0.4, but the metrics were computed at 0.37"), "{error}");
    assert!(!inputs.dir.join("out/report.html").exists());
}
