//! From all notes of a source to the corpus asked for: notes without a split or code fall out, rare codes too,
//! and the label space is what remains.

use plmicd_data::{CodeSystem, IcdCode, counted};
use plmicd_pipeline::StageError;

use crate::config::{Cohort, Compat, PreprocessConfig};
use crate::corpus::{CodeBook, CodeId, DraftNote, Exclusions};

/// Applies the config's code filters to the notes and returns the label space: codes in byte order.
///
/// # Errors
/// Nothing is left.
pub fn select(
    config: &PreprocessConfig,
    notes: &mut Vec<DraftNote>,
    codes: &CodeBook,
    exclusions: &mut Exclusions,
) -> Result<Vec<CodeId>, StageError> {
    drop_notes(notes, exclusions, "without a code", |note| !note.codes.is_empty());

    let frequency = note_frequency(notes, codes);
    let mut kept: Vec<CodeId> = (0..codes.len() as CodeId).filter(|&id| frequency[id as usize] > 0).collect();
    let before = kept.len();
    kept.retain(|&id| frequency[id as usize] >= config.min_code_frequency);
    exclusions.add((before - kept.len()) as u64, "codes", "on fewer notes than min_code_frequency");
    // With `compat = "caml"` the source has chosen them already, by CAML's own count.
    if config.cohort == Cohort::Top && config.compat == Compat::Corrected {
        kept.sort_by(|&a, &b| {
            frequency[b as usize].cmp(&frequency[a as usize]).then_with(|| codes.code(a).cmp(codes.code(b)))
        });
        let before = kept.len();
        kept.truncate(config.top_codes);
        exclusions.add((before - kept.len()) as u64, "codes", "not among the top_codes most frequent");
    }

    let mut keep = vec![false; codes.len()];
    for &id in &kept {
        keep[id as usize] = true;
    }
    for note in notes.iter_mut() {
        note.codes.retain(|&id| keep[id as usize]);
    }
    drop_notes(notes, exclusions, "without any of the codes kept", |note| !note.codes.is_empty());
    if notes.is_empty() {
        return Err(StageError::failed(format!("no note is left: {}", exclusions.sentence())));
    }
    kept.sort_by(|&a, &b| codes.code(a).cmp(codes.code(b)));
    Ok(kept)
}

/// What stands for no code in careless exports.
const PLACEHOLDERS: [&str; 7] = ["MISSING", "NA", "NAN", "NIL", "NONE", "NULL", "UNKNOWN"];

/// A warning of labels that cannot be codes of any edition of the ICD, which all have a digit. Only what is known to stand
/// for no code is shown of them: where a table's columns are taken for each other they are pieces of notes.
pub fn doubtful(labels: &[CodeId], codes: &CodeBook, column: &str) -> Option<String> {
    let has_digit = |code: &&str| code.bytes().any(|byte| byte.is_ascii_digit());
    let odd: Vec<CodeId> = labels.iter().copied().filter(|&id| !has_digit(&codes.code(id))).collect();
    let found: Vec<&str> = odd.iter().map(|&id| codes.code(id)).collect();
    let is_among = |wanted: &&&str| {
        let plain = |code: &&str| code.replace('.', "").eq_ignore_ascii_case(wanted);
        found.iter().any(plain)
    };
    let known: Vec<&str> = PLACEHOLDERS.iter().filter(is_among).copied().collect();
    let among = if known.is_empty() { String::new() } else { format!(", {} among them", known.join(", ")) };
    let has = if found.len() == 1 { "has" } else { "have" };
    let labels = counted(found.len() as u64, "labels");
    let first = first_place(&odd, codes, column);
    (!found.is_empty()).then(|| format!("{labels} {has} no digit, as every ICD code does{among}{first}"))
}

/// A warning of labels that do not have the form of their system's codes.
pub fn misshapen(labels: &[CodeId], codes: &CodeBook, column: &str) -> Option<String> {
    let is_odd = |id: &CodeId| {
        let system = codes.system(*id);
        system != CodeSystem::Other && IcdCode::parse(system, codes.code(*id)).is_err()
    };
    let odd: Vec<CodeId> = labels.iter().copied().filter(is_odd).collect();
    let system = codes.system(*odd.first()?).title();
    let do_not = if odd.len() == 1 { "does not" } else { "do not" };
    Some(format!(
        "{} of {} {do_not} have the form of {system} codes{}; is `table.separator` right, and `table.system`?",
        odd.len(),
        counted(labels.len() as u64, "labels"),
        first_place(&odd, codes, column)
    ))
}

/// Where the first of some codes stands, as the end of a sentence; nothing where that is not known.
fn first_place(ids: &[CodeId], codes: &CodeBook, column: &str) -> String {
    let first = ids.iter().filter_map(|&id| codes.place(id)).min();
    first.map_or_else(String::new, |place| format!("; first in {}, column {column}", place.words()))
}

/// Leaves out notes, counting them.
pub fn drop_notes(
    notes: &mut Vec<DraftNote>,
    exclusions: &mut Exclusions,
    reason: &str,
    keep: impl FnMut(&DraftNote) -> bool,
) {
    let before = notes.len();
    notes.retain(keep);
    exclusions.add((before - notes.len()) as u64, "notes", reason);
}

/// Number of notes that have each code.
fn note_frequency(notes: &[DraftNote], codes: &CodeBook) -> Vec<u64> {
    let mut frequency = vec![0; codes.len()];
    for &id in notes.iter().flat_map(|note| &note.codes) {
        frequency[id as usize] += 1;
    }
    frequency
}

#[cfg(test)]
mod tests {
    use plmicd_data::{CodeSystem, Split};

    use super::*;
    use crate::place::Place;

    fn corpus(rows: &[&[&str]]) -> (Vec<DraftNote>, CodeBook) {
        let mut book = CodeBook::default();
        let notes = rows
            .iter()
            .enumerate()
            .map(|(i, row)| DraftNote {
                note_id: i.to_string(),
                subject_id: i.to_string(),
                split: Some(Split::Train),
                codes: row.iter().map(|c| book.intern((*c).to_owned(), CodeSystem::Other)).collect(),
                pieces: Vec::new(),
                words: 1,
            })
            .collect();
        (notes, book)
    }

    fn run(config: &PreprocessConfig, rows: &[&[&str]]) -> (Vec<String>, Vec<String>, Vec<(u64, String)>) {
        let (mut notes, book) = corpus(rows);
        let mut exclusions = Exclusions::default();
        let labels = select(config, &mut notes, &book, &mut exclusions).unwrap();
        (
            labels.iter().map(|&id| book.code(id).to_owned()).collect(),
            notes.into_iter().map(|note| note.note_id).collect(),
            exclusions.as_slice().iter().map(|e| (e.count, e.unit.clone())).collect(),
        )
    }

    const ROWS: &[&[&str]] = &[&["V1", "9", "E8"], &["9", "V1"], &[], &["10"], &["9", "E8"]];

    #[test]
    fn full_keeps_all_codes_in_byte_order() {
        let (labels, notes, exclusions) = run(&PreprocessConfig::default(), ROWS);
        assert_eq!(labels, ["10", "9", "E8", "V1"]);
        assert_eq!(notes, ["0", "1", "3", "4"]);
        assert_eq!(exclusions, [(1, "notes".to_owned())]);
    }

    #[test]
    fn top_takes_the_most_frequent_and_breaks_ties_by_code() {
        let config = PreprocessConfig { cohort: Cohort::Top, top_codes: 2, ..PreprocessConfig::default() };
        let (labels, notes, exclusions) = run(&config, ROWS);
        assert_eq!(labels, ["9", "E8"], "E8 and V1 are both on two notes");
        assert_eq!(notes, ["0", "1", "4"]);
        assert_eq!(exclusions, [(1, "notes".to_owned()), (2, "codes".to_owned()), (1, "notes".to_owned())]);
    }

    #[test]
    fn rare_codes_fall_out() {
        let config = PreprocessConfig { min_code_frequency: 3, ..PreprocessConfig::default() };
        assert_eq!(run(&config, ROWS).0, ["9"]);
    }

    #[test]
    fn words_for_no_code_are_doubtful() {
        let (_, mut book) = corpus(&[&["V1", "NULL", "00.5", "JANE ROE"]]);
        let doubtful = |ids: &[CodeId], book: &CodeBook| super::doubtful(ids, book, "icd");
        let warning = doubtful(&[0, 1, 2, 3], &book).expect("a warning");
        assert_eq!(warning, "2 labels have no digit, as every ICD code does, NULL among them");
        let warning = doubtful(&[0, 3], &book).expect("a warning");
        assert_eq!(warning, "1 label has no digit, as every ICD code does");
        assert_eq!(doubtful(&[0, 2], &book), None);
        for (id, line) in [(3, 9), (1, 12), (3, 4)] {
            book.stands_at(id, Place::Line(line));
        }
        let warning = doubtful(&[1, 3], &book).expect("a warning");
        assert_eq!(
            warning,
            "2 labels have no digit, as every ICD code does, NULL among them; first in line 9, column icd"
        );
    }

    #[test]
    fn nothing_left_says_what_was_left_out() {
        let (mut notes, book) = corpus(&[&["1"]]);
        let config = PreprocessConfig { min_code_frequency: 2, ..PreprocessConfig::default() };
        let error = select(&config, &mut notes, &book, &mut Exclusions::default()).unwrap_err().to_string();
        assert!(error.contains("1 code on fewer notes than min_code_frequency"), "{error}");
    }
}
