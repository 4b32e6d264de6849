//! Notes, shards and scores: round trips, determinism, and what happens to files that are not as expected.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use camino::{Utf8Path, Utf8PathBuf};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use plmicd_data::{
    DataError, Note, NoteReader, NoteWriter, ScoreWriter, Scores, ShardReader, ShardWriter, Split,
    TokenizedNote,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn temp() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

fn write_notes(path: &Utf8Path, notes: &[Note]) {
    let mut writer = NoteWriter::create(path).unwrap();
    for note in notes {
        writer.write(note).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), notes.len() as u64);
}

fn note(index: usize) -> Note {
    Note {
        note_id: format!("n{index}"),
        subject_id: format!("s{}", index / 2),
        split: Split::ALL[index % 3],
        text: format!("line {index}\nβ \"quoted\", {}", "word ".repeat(index % 50)),
        codes: (0..index % 4).map(|code| format!("{code}.{index}")).collect(),
    }
}

fn any_note() -> impl Strategy<Value = Note> {
    let split = prop_oneof![Just(Split::Train), Just(Split::Dev), Just(Split::Test)];
    (".{1,12}", ".{0,8}", split, "(?s).{0,400}", vec(".{0,8}", 0..6)).prop_map(
        |(note_id, subject_id, split, text, codes)| Note { note_id, subject_id, split, text, codes },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn notes_come_back(notes in vec(any_note(), 0..40)) {
        let (_guard, dir) = temp();
        let path = dir.join("notes.parquet");
        write_notes(&path, &notes);
        let reader = NoteReader::open(&path).unwrap();
        prop_assert_eq!(reader.num_notes(), notes.len() as u64);
        prop_assert!(reader.map(Result::unwrap).eq(notes));
    }

    #[test]
    fn shards_come_back(
        rows in vec((vec(0..100_000i32, 0..300), btree_set(0..9_000i32, 0..30), any::<u32>()), 0..30),
        notes_per_shard in 1..12usize,
    ) {
        let (_guard, dir) = temp();
        let notes: Vec<_> = rows.into_iter().enumerate().map(|(index, (tokens, labels, words))| TokenizedNote {
            note_id: index.to_string(), tokens, labels: labels.into_iter().collect(), words,
        }).collect();
        let mut writer = ShardWriter::create(&dir, Split::Dev, notes_per_shard).unwrap();
        for note in &notes {
            writer.write(note).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap(), notes.len() as u64);
        let files = std::fs::read_dir(&dir).unwrap().count();
        prop_assert_eq!(files, notes.len().div_ceil(notes_per_shard).max(1));
        let reader = ShardReader::open(&dir, Split::Dev).unwrap();
        prop_assert_eq!(reader.num_notes(), notes.len() as u64);
        prop_assert!(reader.map(Result::unwrap).eq(notes));
    }

    #[test]
    fn scores_come_back(
        rows in vec((vec(0.0..=1.0f32, 17), btree_set(0..17i32, 0..17)), 0..90),
    ) {
        let (_guard, dir) = temp();
        let path = dir.join("dev.parquet");
        let mut writer = ScoreWriter::create(&path, 17).unwrap();
        let mut expected = Scores { note_ids: vec![], num_labels: 17, scores: vec![], truth: vec![] };
        for (index, (scores, truth)) in rows.into_iter().enumerate() {
            let truth: Vec<i32> = truth.into_iter().collect();
            writer.write(&index.to_string(), &scores, &truth).unwrap();
            expected.note_ids.push(index.to_string());
            expected.scores.extend(scores);
            expected.truth.push(truth);
        }
        writer.finish().unwrap();
        prop_assert_eq!(Scores::read(&path).unwrap(), expected);
    }
}

#[test]
fn same_notes_same_bytes_over_several_row_groups() {
    let (_guard, dir) = temp();
    let notes: Vec<_> = (0..2_500).map(note).collect();
    let (first, second) = (dir.join("1.parquet"), dir.join("2.parquet"));
    write_notes(&first, &notes);
    write_notes(&second, &notes);
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    assert!(NoteReader::open(&first).unwrap().map(Result::unwrap).eq(notes));
}

#[test]
fn a_truncated_file_is_refused_by_name() {
    let (_guard, dir) = temp();
    let path = dir.join("notes.parquet");
    write_notes(&path, &(0..50).map(note).collect::<Vec<_>>());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let message = NoteReader::open(&path).err().unwrap().to_string();
    assert!(message.contains(path.as_str()) && message.contains("complete"), "{message}");
}

#[test]
fn damage_inside_names_the_row_and_shows_no_text() {
    let (_guard, dir) = temp();
    let path = dir.join("notes.parquet");
    write_notes(&path, &(0..2_500).map(note).collect::<Vec<_>>());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 400].fill(0xAB);
    std::fs::write(&path, bytes).unwrap();
    let error = NoteReader::open(&path).unwrap().find_map(Result::err).expect("the damage goes unseen");
    let message = error.to_string();
    assert!(message.contains("read row ") && message.contains(path.as_str()), "{message}");
    assert!(!format!("{error:?}").contains("quoted"));
}

/// Writes a one-row file with the metadata of a table and these columns.
fn write_raw(path: &Utf8Path, table: &str, version: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let metadata = [("plmicd.table", table), ("plmicd.schema", version)];
    let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(metadata.to_vec())).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn codes() -> ArrayRef {
    let mut builder = arrow_array::builder::ListBuilder::new(arrow_array::builder::StringBuilder::new());
    builder.append_value([Some("428.0")]);
    Arc::new(builder.finish())
}

fn open_raw(table: &str, version: &str, columns: Vec<(&str, ArrayRef)>) -> Result<Note, DataError> {
    let (_guard, dir) = temp();
    let path = dir.join("notes.parquet");
    write_raw(&path, table, version, columns);
    NoteReader::open(&path)?.next().expect("there is one row")
}

fn full(split: Option<&str>) -> Columns {
    vec![
        ("note_id", text(Some("7"))),
        ("subject_id", text(Some("8"))),
        ("split", text(split)),
        ("text", text(Some("PRIVATE"))),
        ("codes", codes()),
    ]
}

#[test]
fn files_of_other_writers_are_read_if_they_fit() {
    let note = open_raw("notes", "1", full(Some("test"))).unwrap();
    assert_eq!((note.note_id.as_str(), note.split), ("7", Split::Test));
    assert_eq!(note.codes, ["428.0"]);
}

type Columns = Vec<(&'static str, ArrayRef)>;

#[test]
fn schema_faults_name_what_was_expected() {
    let cases: Vec<(&str, &str, Columns, &[&str])> = vec![
        ("notes", "2", full(Some("dev")), &["`notes`, schema 2", "reads table `notes`, schema 1"]),
        ("scores", "1", full(Some("dev")), &["`scores`", "reads table `notes`"]),
        ("notes", "1", full(Some("dev"))[..4].to_vec(), &["no column `codes`", "List<Utf8>", "`text`"]),
        (
            "notes",
            "1",
            {
                let mut columns = full(Some("dev"));
                columns[0].1 = Arc::new(Int32Array::from(vec![7]));
                columns
            },
            &["column `note_id` is Int32, expected text"],
        ),
        ("notes", "1", full(Some("valid")), &["row 1", "`split`", "expected train, dev or test"]),
        ("notes", "1", full(None), &["row 1", "`split`", "missing"]),
    ];
    for (table, version, columns, expected) in cases {
        let message = open_raw(table, version, columns).unwrap_err().to_string();
        for part in expected {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(message.contains("notes.parquet") && !message.contains("PRIVATE"), "{message}");
    }
}

#[test]
fn missing_shards_are_reported() {
    let (_guard, dir) = temp();
    let message = ShardReader::open(&dir, Split::Test).err().unwrap().to_string();
    assert!(message.contains("test-00000.parquet") && message.contains(dir.as_str()), "{message}");
    let mut writer = ShardWriter::create(&dir, Split::Test, 1).unwrap();
    for note_id in ["1", "2", "3"] {
        let note = TokenizedNote { note_id: note_id.into(), tokens: vec![5], labels: vec![0], words: 1 };
        writer.write(&note).unwrap();
    }
    writer.finish().unwrap();
    std::fs::remove_file(dir.join("test-00001.parquet")).unwrap();
    let message = ShardReader::open(&dir, Split::Test).err().unwrap().to_string();
    assert!(message.contains("expected test-00001.parquet, found test-00002.parquet"), "{message}");
}

#[test]
fn bad_values_are_refused_on_writing() {
    let (_guard, dir) = temp();
    let mut shards = ShardWriter::create(&dir, Split::Train, 10).unwrap();
    let mut note = TokenizedNote { note_id: "1".into(), tokens: vec![1], labels: vec![4, 2], words: 1 };
    let message = shards.write(&note).unwrap_err().to_string();
    assert!(message.contains("row 1") && message.contains("4 before 2"), "{message}");
    note = TokenizedNote { labels: vec![2], tokens: vec![-1], ..note };
    assert!(shards.write(&note).unwrap_err().to_string().contains("-1 is negative"));

    let mut scores = ScoreWriter::create(dir.join("dev.parquet"), 2).unwrap();
    scores.write("a", &[0.0, 1.0], &[1]).unwrap();
    for (row, truth, expected) in [
        (&[0.5, f32::NAN][..], &[][..], "row 2, column `scores`: note b has score NaN for label 1"),
        (&[1.5, 0.5], &[], "score 1.5 for label 0"),
        (&[0.5], &[], "has 1 scores, expected 2"),
        (&[0.5, 0.5], &[2], "label id 2, expected ids below 2"),
    ] {
        let message = scores.write("b", row, truth).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_repeated_note_in_scores_is_found() {
    let (_guard, dir) = temp();
    let path = dir.join("dev.parquet");
    let mut writer = ScoreWriter::create(&path, 1).unwrap();
    for note_id in ["a", "b", "a"] {
        writer.write(note_id, &[0.5], &[]).unwrap();
    }
    writer.finish().unwrap();
    let message = Scores::read(&path).unwrap_err().to_string();
    assert!(message.contains("row 3") && message.contains("note a is also in row 1"), "{message}");
}

#[test]
fn debug_output_holds_no_text() {
    assert!(!format!("{:?}", note(3)).contains("quoted"));
    let note = TokenizedNote { note_id: "1".into(), tokens: vec![31337], labels: vec![], words: 1 };
    assert!(!format!("{note:?}").contains("31337"));
}
