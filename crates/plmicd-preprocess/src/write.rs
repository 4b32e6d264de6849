//! The `notes` artifact: `notes.parquet`, `labels.json`, `stats.json`, `text.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::mpsc::sync_channel;

use plmicd_data::{
    CorpusStats, Label, LabelSpace, Note, NoteWriter, PublishedCount, Split, SplitStats, Summary, counted,
};
use plmicd_pipeline::{StageContext, StageError};

use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote};
use crate::descriptions::Descriptions;
use crate::spill::Spill;
use crate::splits::leaking_subjects;
use crate::text::{TextCleaning, TextRules, count_words};

/// Counts the words anew of notes that are not the sum of their texts.
pub fn count_joined(
    corpus: &mut Corpus,
    rules: TextRules,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    if rules.cleaning != TextCleaning::Edin {
        return Ok(());
    }
    for note in corpus.notes.iter_mut().filter(|note| note.pieces.len() > 1) {
        context.check_interrupt()?;
        note.words = count_words(&rules.joined(corpus.spill.join(&note.pieces)?, note.pieces.len()));
    }
    Ok(())
}

/// Writes the artifact; `labels` are the codes of the label space in its order, `rules` those that the texts were
/// written by.
///
/// `published` gives the counts of published studies that belong beside the corpus's own.
pub fn write(
    corpus: Corpus,
    labels: &[CodeId],
    rules: TextRules,
    published: impl FnOnce(&CorpusStats) -> Vec<PublishedCount>,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let dir = context.output_dir();
    let data = |e| StageError::because("writing the notes", e);
    rules.form().write(dir).map_err(data)?;
    let space = label_space(&corpus, labels, context)?;
    space.write(&dir.join(LabelSpace::FILE)).map_err(data)?;
    let mut stats = stats(&corpus, &space);
    stats.published = published(&stats);
    for count in stats.published.iter().filter(|count| count.published != count.found) {
        context.warn(format!("{}: {} published, {} found", count.quantity, count.published, count.found));
    }
    stats.write(&dir.join(CorpusStats::FILE)).map_err(data)?;

    let mut writer = NoteWriter::create(dir.join(NoteWriter::FILE)).map_err(data)?;
    let Corpus { notes, codes, spill, .. } = corpus;
    let total = notes.len() as u64;
    // Texts come from disk while earlier ones are compressed.
    let (sender, receiver) = sync_channel::<Result<Vec<Note>, StageError>>(2);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for drafts in notes.chunks(BATCH_NOTES) {
                let batch = drafts.iter().map(|draft| note(draft, rules, &codes, &spill)).collect();
                // The other side has stopped and says why.
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        let mut done = 0;
        for batch in receiver {
            context.check_interrupt()?;
            context.progress("writing notes", done, Some(total), "notes");
            for note in batch? {
                writer.write(&note).map_err(data)?;
                done += 1;
            }
        }
        writer.finish().map_err(data)?;
        context.progress("writing notes", total, Some(total), "notes");
        Ok(())
    })
}

/// Notes handed over at a time.
const BATCH_NOTES: usize = 256;

fn note(draft: &DraftNote, rules: TextRules, codes: &CodeBook, spill: &Spill) -> Result<Note, StageError> {
    Ok(Note {
        note_id: draft.note_id.clone(),
        subject_id: draft.subject_id.clone(),
        split: split_of(draft)?,
        text: rules.joined(spill.join(&draft.pieces)?, draft.pieces.len()),
        codes: draft.codes.iter().map(|&id| codes.code(id).to_owned()).collect(),
    })
}

fn split_of(note: &DraftNote) -> Result<Split, StageError> {
    note.split.ok_or_else(|| StageError::failed(format!("note {} is in no split", note.note_id)))
}

fn label_space(
    corpus: &Corpus,
    labels: &[CodeId],
    context: &StageContext<'_>,
) -> Result<LabelSpace, StageError> {
    let mut descriptions: Vec<Label> = Vec::with_capacity(labels.len());
    for &id in labels {
        let (code, system) = (corpus.codes.code(id), corpus.codes.system(id));
        if let Some(last) = descriptions.last()
            && last.code == code
        {
            // Sorted, so the same text under two systems is adjacent; the label space has room for one.
            return Err(StageError::failed(format!(
                "code {code} occurs both as {} and as {}; choose one with `codes`",
                last.system.title(),
                system.title()
            )));
        }
        descriptions.push(corpus.descriptions.label(code, system));
    }
    report_descriptions(&descriptions, &corpus.descriptions, context);
    LabelSpace::new(descriptions).map_err(|e| StageError::because("making the label space", e))
}

fn report_descriptions(labels: &[Label], descriptions: &Descriptions, context: &StageContext<'_>) {
    if labels.is_empty() {
        return;
    }
    let of_other = labels.iter().filter(|label| label.description_of.is_some()).count();
    let none = labels.iter().filter(|label| label.description.is_none()).count();
    context.note(format!(
        "descriptions: their own for {}, that of a related code for {of_other}, none for {none} ({} known)",
        counted((labels.len() - of_other - none) as u64, "labels"),
        descriptions.len()
    ));
}

fn stats(corpus: &Corpus, space: &LabelSpace) -> CorpusStats {
    let mut splits = BTreeMap::new();
    let of_train = corpus.notes.iter().filter(|note| note.split == Some(Split::Train));
    let in_train: BTreeSet<CodeId> = of_train.flat_map(|note| note.codes.iter().copied()).collect();
    for split in Split::ALL {
        let notes: Vec<&DraftNote> = corpus.notes.iter().filter(|note| note.split == Some(split)).collect();
        let subjects: HashSet<&str> = notes.iter().map(|note| note.subject_id.as_str()).collect();
        let present: BTreeSet<CodeId> = notes.iter().flat_map(|note| note.codes.iter().copied()).collect();
        let seen = |ids: &[CodeId]| ids.iter().filter(|id| in_train.contains(id)).count() as u64;
        splits.insert(
            split,
            SplitStats {
                notes: notes.len() as u64,
                subjects: subjects.len() as u64,
                words: Summary::of(notes.iter().map(|note| note.words).collect()),
                codes: Summary::of(notes.iter().map(|note| note.codes.len() as u64).collect()),
                labels_seen_in_train: present.intersection(&in_train).count() as u64,
                codes_seen_in_train: notes.iter().map(|note| seen(&note.codes)).sum(),
                labels_present: present.len() as u64,
            },
        );
    }
    let mut labels_by_system = BTreeMap::new();
    for label in space.labels() {
        *labels_by_system.entry(label.system).or_default() += 1;
    }
    CorpusStats {
        source: corpus.source.to_owned(),
        splits,
        labels: space.len() as u64,
        labels_by_system,
        labels_without_description: space.labels().iter().filter(|l| l.description.is_none()).count() as u64,
        labels_described_by_relative: space.labels().iter().filter(|l| l.description_of.is_some()).count()
            as u64,
        leaking_subjects: leaking_subjects(&corpus.notes) as u64,
        exclusions: corpus.exclusions.as_slice().to_vec(),
        published: Vec::new(),
    }
}
