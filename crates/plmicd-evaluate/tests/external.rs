//! Other people's predictions: what is taken, and what is refused.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use plmicd_data::{CodeSystem, Label, LabelSpace, Note, NoteWriter, Scores, Split, kind};
use plmicd_evaluate::external::{UnknownCodes, prediction_files};
use plmicd_evaluate::{ImportScores, ImportScoresConfig};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};

struct World {
    _guard: tempfile::TempDir,
    dir: Utf8PathBuf,
    notes: bool,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        for name in ["in", "notes", "out"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(dir.join("in").join(name), text).unwrap();
        }
        Self { _guard: guard, dir, notes: false }
    }

    fn with_notes(mut self) -> Self {
        let codes = ["428.0", "250.00"];
        let label = |code: &&str| Label {
            code: (*code).to_owned(),
            system: CodeSystem::Icd9Diagnosis,
            description: None,
            description_of: None,
        };
        let labels = LabelSpace::new(codes.iter().map(label).collect()).unwrap();
        labels.write(&self.dir.join("notes").join(LabelSpace::FILE)).unwrap();
        let mut writer = NoteWriter::create(self.dir.join("notes").join(NoteWriter::FILE)).unwrap();
        for (id, split, codes) in [
            ("1", Split::Train, vec!["428.0"]),
            ("2", Split::Test, vec!["250.00", "428.0"]),
            ("3", Split::Test, vec!["250.00"]),
        ] {
            let note = Note {
                note_id: id.to_owned(),
                subject_id: id.to_owned(),
                split,
                text: "seen by nobody".to_owned(),
                codes: codes.into_iter().map(str::to_owned).collect(),
            };
            writer.write(&note).unwrap();
        }
        writer.finish().unwrap();
        self.notes = true;
        self
    }

    fn run(&self, config: &ImportScoresConfig) -> Result<(), StageError> {
        let input = |name: &str, kind: &str| Input {
            kind: kind.to_owned(),
            digest: "0".repeat(64).parse().unwrap(),
            dir: self.dir.join(name),
            restricted: false,
        };
        let mut inputs = BTreeMap::from([("predictions".to_owned(), input("in", kind::PREDICTIONS))]);
        if self.notes {
            inputs.insert("notes".to_owned(), input("notes", kind::NOTES));
        }
        let out = self.dir.join("out");
        let context =
            StageContext::new(inputs, &out, &out, Runtime::default(), &NoEvents, Interrupt::default());
        ImportScores::run(config, &context)
    }

    fn scores(&self, split: Split) -> Scores {
        self.run(&ImportScoresConfig::default()).unwrap();
        Scores::read(self.dir.join("out").join(Scores::file_name(split))).unwrap()
    }

    fn complaint(&self) -> String {
        self.run(&ImportScoresConfig::default()).unwrap_err().to_string()
    }
}

const TRUTH: &str = "id,codes,split\n7,A;B,test\n8,,dev\n9,C,train\n";

#[test]
fn lists_of_codes_score_one() {
    let world = World::new(&[("truth.csv", TRUTH), ("predictions.csv", "id,codes\n8,A\n7,\" B ; D\"\n")]);
    let test = world.scores(Split::Test);
    let labels = LabelSpace::read(&world.dir.join("out").join(LabelSpace::FILE)).unwrap();
    let codes: Vec<&str> = labels.labels().iter().map(|label| label.code.as_str()).collect();
    assert_eq!(codes, ["A", "B", "C", "D"]);
    assert_eq!((test.note_ids[0].as_str(), test.row(0)), ("7", &[0.0, 1.0, 0.0, 1.0][..]));
    assert_eq!(test.truth, [vec![0, 1]]);
    let dev = world.scores(Split::Dev);
    assert_eq!((dev.row(0), dev.truth[0].len()), (&[1.0, 0.0, 0.0, 0.0][..], 0));
}

#[test]
fn a_row_a_code_carries_its_score() {
    let rows = "score,code,id\n0.25,428.0,2\n0.75,250.00,2\n";
    let world = World::new(&[("predictions.csv", rows)]).with_notes();
    let test = world.scores(Split::Test);
    assert_eq!(test.note_ids, ["2", "3"]);
    assert_eq!((test.row(0), test.row(1)), (&[0.25, 0.75][..], &[0.0, 0.0][..]));
    assert_eq!(test.truth, [vec![0, 1], vec![1]]);
    assert!(!world.dir.join("out/dev.parquet").exists());
}

#[test]
fn only_what_was_predicted_is_scored() {
    let truth = "id,codes,split\n6,A,train\n7,A,test\n8,B,dev\n9,,dev\n";
    for predictions in ["id,codes\n7,A\n6,B\n", "id,code\n7,A\n6,B\n"] {
        let world = World::new(&[("predictions.csv", predictions), ("truth.csv", truth)]);
        let test = world.scores(Split::Test);
        assert_eq!((test.note_ids, test.scores), (vec!["7".to_owned()], vec![1.0, 0.0]));
        assert!(!world.dir.join("out/dev.parquet").exists());
    }
    // A split that was predicted is held against all of its notes.
    let world = World::new(&[("predictions.csv", "id,code\n7,A\n8,B\n"), ("truth.csv", truth)]);
    assert_eq!(world.scores(Split::Dev).scores, [0.0, 1.0, 0.0, 0.0]);
    let world = World::new(&[("predictions.csv", "id,codes\n7,A\n8,B\n"), ("truth.csv", truth)]);
    assert!(world.complaint().contains("note 9 of "));
}

#[test]
fn parquet_is_read_as_well() {
    use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let world = World::new(&[]).with_notes();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![2, 3]))),
        ("code", Arc::new(StringArray::from(vec!["428.0", "250.00"]))),
        ("score", Arc::new(Float64Array::from(vec![0.5, 1.0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(world.dir.join("in/predictions.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert_eq!(world.scores(Split::Test).scores, [0.5, 0.0, 0.0, 1.0]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_line() {
    let complain =
        |predictions: &str| World::new(&[("predictions.csv", predictions)]).with_notes().complaint();
    for (predictions, expected) in [
        ("id,codes\n2,428.0\n", "note 3 of "),
        ("id,codes\n2,428.0\n3,\n2,\n", "predictions.csv:4, column id: note 2 is also in line 2"),
        ("id,codes\n2,428.0;428.0\n3,\n", "predictions.csv:2: code `428.0` of note 2 is given twice"),
        ("id,codes\n2,999\n3,\n", "predictions.csv:2: code `999` of note 2 is not in the label space"),
        ("id,codes\r\n2,428.0\r\n3,\r\n2,\r\n", "predictions.csv:4, column id: note 2 is also in line 2"),
        ("id,codes\r\n2,428.0\r\n3\r\n", "predictions.csv:3: 1 fields, but the header has 2"),
        ("id,codes\n9,428.0\n", "predictions.csv:2, column id: note 9 is not among the notes"),
        ("id,codes\n1,428.0\n", "no dev or test note of "),
        ("id,code,score\n2,428.0,1.5\n", "predictions.csv:2, column score: 1.5 is no probability"),
        ("id,code,score\n2,428.0,NaN\n", "predictions.csv:2, column score: NaN is no probability"),
        (
            "id,code,score\n2,428.0,0.5\n2,428.0,0.6\n",
            "predictions.csv:3: code `428.0` of note 2 is given twice",
        ),
        ("id,code,score\n2,428.0\n", "predictions.csv:2: 2 fields, but the header has 3"),
        ("note,codes\n", "no column `id` (the note's id); found: note, codes"),
        ("1,Jane Roe\n", "no column `id` (the note's id); this line (2 fields between delimiters)"),
        ("id,codes\n2,Jane Roe\n3,\n", "predictions.csv:2: a code of note 2 is not in the label space"),
        ("id,code,score\n2,428.0,Jane\n", "column score: it is no probability"),
        ("", "no column `id` (the note's id); it is empty"),
        ("id,label\n", "no column `codes` or `code`"),
        ("id,code,codes\n", "it has both `codes` and `code`"),
        ("id,codes\n,428.0\n", "predictions.csv:2, column id: it is empty"),
    ] {
        let message = complain(predictions);
        assert!(message.contains(expected), "{message}\nexpected: {expected}");
    }
    let world = World::new(&[("predictions.csv", "id,codes\n2,999;428.0\n3,\n")]).with_notes();
    let config = ImportScoresConfig { unknown_codes: UnknownCodes::Drop, ..ImportScoresConfig::default() };
    world.run(&config).unwrap();
}

#[test]
fn the_truth_is_given_once() {
    let rows = "id,codes\n7,A\n8,\n";
    assert!(
        World::new(&[("predictions.csv", rows)]).complaint().contains("nothing says which codes are true")
    );
    let both = World::new(&[("predictions.csv", rows), ("truth.csv", TRUTH)]).with_notes();
    assert!(both.complaint().contains("the truth is given twice"));
    let split = World::new(&[("predictions.csv", rows), ("truth.csv", "id,codes,split\n7,A,tset\n")]);
    assert!(split.complaint().contains("truth.csv:2, column split: no split"));
    let world = World::new(&[("truth.csv", TRUTH)]);
    assert!(prediction_files(&world.dir.join("in")).unwrap_err().to_string().contains("predictions.csv"));
}
