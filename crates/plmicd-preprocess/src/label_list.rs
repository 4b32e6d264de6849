//! A label space given as a list: three lists of "the 50 codes" are in circulation, and a published checkpoint's labels
//! are those of its own list, in its order.

use std::collections::HashSet;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_pipeline::{BadInput, StageError};

use crate::cohort::drop_notes;
use crate::corpus::{CodeBook, CodeId, DraftNote, Exclusions};

/// The one list in the folder: `.txt` or `.csv`, a code a line.
///
/// # Errors
/// None or several.
pub fn find(dir: &Utf8Path) -> Result<Utf8PathBuf, BadInput> {
    let entries =
        dir.read_dir_utf8().map_err(|error| BadInput::new(dir, format!("cannot be listed: {error}")))?;
    let mut found: Vec<Utf8PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().to_owned()))
        .filter(|path| matches!(path.extension(), Some("txt" | "csv")))
        .collect();
    found.sort();
    match found.as_slice() {
        [path] => Ok(path.clone()),
        all => {
            Err(BadInput::new(dir, format!("{} files .txt or .csv; expected one, a code a line", all.len())))
        }
    }
}

/// The codes of a list, sorted and each once.
///
/// # Errors
/// It is empty.
pub fn read(dir: &Utf8Path) -> Result<Vec<String>, StageError> {
    let path = find(dir)?;
    let text = fs_err::read_to_string(&path)?;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
    let mut codes: Vec<String> =
        lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if let Some(odd) = codes.iter().position(|code| code.contains([',', ';', '\t', ' '])) {
        return Err(BadInput::new(&path, "expected one code a line, without a header")
            .line(odd as u64 + 1)
            .into());
    }
    codes.sort_unstable();
    codes.dedup();
    if codes.is_empty() {
        return Err(BadInput::new(path, "the list is empty; expected a code a line").into());
    }
    Ok(codes)
}

/// Makes the list the label space: other codes and notes without any of these are left out. Codes of the list that no
/// note has stay labels. Gives their ids in the order of the list, and how many no note has.
pub fn apply(
    list: &[String],
    notes: &mut Vec<DraftNote>,
    codes: &mut CodeBook,
    exclusions: &mut Exclusions,
) -> (Vec<CodeId>, usize) {
    drop_notes(notes, exclusions, "without a code", |note| !note.codes.is_empty());
    let ids: Vec<CodeId> = list.iter().map(|code| codes.intern_any(code)).collect();
    let wanted: HashSet<CodeId> = ids.iter().copied().collect();
    let mut left_out: HashSet<CodeId> = HashSet::new();
    let mut present: HashSet<CodeId> = HashSet::new();
    for note in notes.iter_mut() {
        note.codes.retain(|id| {
            let keep = wanted.contains(id);
            if keep {
                present.insert(*id)
            } else {
                left_out.insert(*id)
            };
            keep
        });
    }
    exclusions.add(left_out.len() as u64, "codes", "not in the list of labels");
    drop_notes(notes, exclusions, "without any of the listed codes", |note| !note.codes.is_empty());
    (ids, wanted.len() - present.len())
}
