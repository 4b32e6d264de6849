//! How often each label occurs in training.

use camino::Utf8Path;

use crate::error::DataError;
use crate::label::LabelSpace;
use crate::shards::ShardReader;
use crate::split::Split;

/// Train notes that have each label of `labels` (Y), from the token shards in the folder `shards`. `go_on` is told now
/// and then how many notes of how many are counted; where it says no, nothing is given.
///
/// # Errors
/// Besides those of the files: the shards have another label space. `labels_file` names the one of `labels` then.
pub fn train_label_counts(
    shards: &Utf8Path,
    labels: &LabelSpace,
    labels_file: &Utf8Path,
    mut go_on: impl FnMut(u64, u64) -> bool,
) -> Result<Option<Vec<u64>>, DataError> {
    let path = shards.join(LabelSpace::FILE);
    check_same(labels_file, labels, &path, &LabelSpace::read(&path)?)?;
    let reader = ShardReader::open(shards, Split::Train)?;
    let total = reader.num_notes();
    let mut counts = vec![0u64; labels.len()];
    for (done, note) in (0u64..).zip(reader) {
        if done % 256 == 0 && !go_on(done, total) {
            return Ok(None);
        }
        let note = note?;
        for label in note.labels {
            let count = usize::try_from(label).ok().and_then(|label| counts.get_mut(label));
            *count.ok_or_else(|| {
                let expected = labels.len();
                let message =
                    format!("note {} has label id {label}, expected ids below {expected}", note.note_id);
                DataError::file(shards, message)
            })? += 1;
        }
    }
    Ok(Some(counts))
}

/// Two label spaces give the same meaning to every id.
fn check_same(
    path: &Utf8Path,
    labels: &LabelSpace,
    other_path: &Utf8Path,
    other: &LabelSpace,
) -> Result<(), DataError> {
    let Some(index) = labels.first_difference(other) else { return Ok(()) };
    let name = |labels: &LabelSpace| {
        labels.labels().get(index).map_or_else(
            || format!("missing (it has {} labels)", labels.len()),
            |label| format!("`{}` ({})", label.code, label.system.title()),
        )
    };
    let message = format!(
        "label {index} is {}, but in {other_path} it is {}; take both from the same notes artifact",
        name(labels),
        name(other)
    );
    Err(DataError::file(path, message))
}
