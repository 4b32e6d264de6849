//! A `table` source: CSV and Parquet, columns, splits, faults.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, UInt16Array};
use camino::{Utf8Path, Utf8PathBuf};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use plmicd_data::{CodeSystem, Split};
use plmicd_preprocess::source_files::table_files;
use plmicd_preprocess::{CodeKinds, PreprocessConfig, Splits, TableColumns};

use crate::support::{Outcome, error, run};

const CSV: &str = "id,subject,split,codes,text\n\
    a,p1,train,I10; e119;I10,\"Chest pain,\nno fever\"\n\
    b,p1,train,I10,Second\n\
    c,p2,val,E119,Third\n\
    d,p3,test,\"E119\",Fourth\n\
    e,p4,test,,No code\n\
    f,p5,,I10,No split\n\
    g,p6,test,I10,123\n";

fn folder(name: &str, content: &[u8]) -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
    fs_err::write(root.join(name), content).unwrap();
    (dir, root)
}

fn icd10() -> PreprocessConfig {
    let table = TableColumns { system: CodeSystem::Icd10CmDiagnosis, ..TableColumns::default() };
    PreprocessConfig { table, ..PreprocessConfig::default() }
}

fn rows(outcome: &Outcome) -> Vec<(&str, &str, Split, Vec<&str>)> {
    outcome
        .notes
        .iter()
        .map(|n| {
            let codes = n.codes.iter().map(String::as_str).collect();
            (n.note_id.as_str(), n.subject_id.as_str(), n.split, codes)
        })
        .collect()
}

#[test]
fn a_csv_is_read_and_what_falls_out_is_counted() {
    let (_dir, root) = folder("notes.csv", CSV.as_bytes());
    assert_eq!(table_files(&root).unwrap()[0].0, "notes.csv");
    let outcome = run("table", &root, None, 2, &icd10()).unwrap();
    assert_eq!(
        rows(&outcome),
        [
            ("a", "p1", Split::Train, vec!["I10", "E11.9"]),
            ("b", "p1", Split::Train, vec!["I10"]),
            ("c", "p2", Split::Dev, vec!["E11.9"]),
            ("d", "p3", Split::Test, vec!["E11.9"]),
        ]
    );
    assert_eq!(outcome.note("a").text, "chest pain no fever");
    for (reason, count) in [
        ("empty after cleaning", 1),
        ("without a split", 1),
        ("repeating a code of the same note", 1),
        ("without a code", 1),
    ] {
        assert_eq!(outcome.excluded(reason), count, "{reason}");
    }
    let made = PreprocessConfig { splits: Splits::Stratified, ..icd10() };
    assert_eq!(
        run("table", &root, None, 2, &made).unwrap().notes.len(),
        5,
        "the column does not matter then"
    );
}

#[test]
fn a_parquet_file_is_read_whatever_wrote_it() {
    let mut codes = ListBuilder::new(StringBuilder::new());
    for list in [vec!["I10", "E119", "I10"], vec!["E119"], vec![]] {
        list.iter().for_each(|code| codes.values().append_value(code));
        codes.append(true);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("note", Arc::new(Int64Array::from(vec![7, 8, 9]))),
        ("text", Arc::new(LargeStringArray::from(vec!["First", "Second é", "Third"]))),
        ("subject", Arc::new(UInt16Array::from(vec![65_535, 1, 1]))),
        ("codes", Arc::new(codes.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let written = |compression| {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    let bytes = written(Compression::UNCOMPRESSED);
    let (_dir, root) = folder("notes.parquet", &bytes);

    let mut config = PreprocessConfig { splits: Splits::Random, ..icd10() };
    let message = error("table", &root, &config);
    assert!(
        message.contains("notes.parquet, column id: no such column; found: note, text, subject, codes"),
        "{message}"
    );
    config.table.id_column = "note".to_owned();
    let outcome = run("table", &root, None, 2, &config).unwrap();
    let read: Vec<_> =
        rows(&outcome).into_iter().map(|(id, subject, _, codes)| (id, subject, codes)).collect();
    assert_eq!(read, [("7", "65535", vec!["I10", "E11.9"]), ("8", "1", vec!["E11.9"])]);
    assert_eq!(outcome.note("8").text, "second é");

    // What other programs compress with: Snappy is the default of most.
    for compression in [Compression::SNAPPY, Compression::GZIP(Default::default()), Compression::LZ4_RAW] {
        fs_err::write(root.join("notes.parquet"), written(compression)).unwrap();
        assert_eq!(run("table", &root, None, 2, &config).unwrap().digest, outcome.digest, "{compression}");
    }
    fs_err::write(root.join("notes.parquet"), &bytes).unwrap();

    config.table.text_column = "note".to_owned();
    let message = error("table", &root, &config);
    assert!(message.contains("column note: of type Int64; expected text"), "{message}");
    fs_err::write(root.join("notes.parquet"), &bytes[..bytes.len() - 9]).unwrap();
    let message = error("table", &root, &config);
    assert!(message.contains("not a sound Parquet file"), "{message}");
}

#[test]
fn ids_are_mended_like_texts_and_counted() {
    // Windows-1252: two ids that would both become the same with replacement characters.
    let csv =
        b"id,subject,split,codes,text\nM\xfcller,p\xe9,train,I10,First\nM\xf6ller,p2,train,I10,caf\xe9\n";
    let (_dir, root) = folder("notes.csv", csv);
    let outcome = run("table", &root, None, 2, &icd10()).unwrap();
    let read: Vec<_> = rows(&outcome).into_iter().map(|(id, subject, ..)| (id, subject)).collect();
    assert_eq!(read, [("Müller", "pé"), ("Möller", "p2")]);
    assert_eq!(outcome.excluded("mended: not UTF-8, read as Windows-1252"), 4);
    let warning = "not UTF-8, read as Windows-1252: 4 bytes in 2 notes";
    assert!(outcome.log.iter().any(|line| line == warning), "{:?}", outcome.log);
    assert!(!outcome.log.iter().any(|line| line.contains("left out: 4 bytes")), "{:?}", outcome.log);
}

#[test]
fn codes_of_another_kind_are_not_asked_of_a_table_in_vain() {
    let (_dir, root) = folder("notes.csv", b"id,text,codes\na,x,I10\n");
    let config = PreprocessConfig { codes: CodeKinds::Procedures, ..PreprocessConfig::default() };
    let message = error("table", &root, &PreprocessConfig { splits: Splits::Random, ..config });
    assert!(message.contains("`codes` is to choose by kind, but table.system"), "{message}");
}

#[test]
fn odd_labels_are_located() {
    let csv = b"id,text,codes\na,x,I10\nb,\"two\nlines\",NULL;I10\nc,y,??;NULL\n";
    let (_dir, root) = folder("notes.csv", csv);
    let outcome =
        run("table", &root, None, 2, &PreprocessConfig { splits: Splits::Random, ..icd10() }).unwrap();
    for warning in [
        "2 labels have no digit, as every ICD code does, NULL among them; first in line 3, column codes",
        "2 of 3 labels do not have the form of ICD-10-CM diagnosis codes; first in line 3, column codes; is \
         `table.separator` right, and `table.system`?",
    ] {
        assert!(outcome.log.iter().any(|line| line == warning), "{:?}", outcome.log);
    }
}

#[test]
fn a_compression_that_is_not_read_is_named() {
    let columns: Vec<(&str, ArrayRef)> = ["id", "text", "codes"]
        .map(|name| (name, Arc::new(LargeStringArray::from(vec!["x"])) as ArrayRef))
        .into();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    // This build cannot write Brotli either: in the footer, the column's name is followed by its compression, of which 0
    // is none and 4 Brotli, written as 8.
    let (none, brotli) = (b"\x18\x02id\x15\x00", b"\x18\x02id\x15\x08");
    let at = bytes.windows(none.len()).position(|window| window == none).unwrap();
    bytes[at..at + brotli.len()].copy_from_slice(brotli);
    let (_dir, root) = folder("notes.parquet", &bytes);
    let message = error("table", &root, &PreprocessConfig { splits: Splits::Random, ..icd10() });
    let expected = "compressed by brotli; expected uncompressed, Snappy, gzip, LZ4 or Zstandard";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn faults_are_located() {
    let check = |content: &str, config: &PreprocessConfig, expected: &str| {
        let (_dir, root) = folder("notes.csv", content.as_bytes());
        let message = error("table", &root, config);
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("secret"), "{message}");
    };
    let own = PreprocessConfig::default();
    check(
        "id,text,split\na,b,test\n",
        &own,
        "notes.csv:1, column codes: no such column; found: id, text, split",
    );
    check("id,text,codes\na,secret,X1\n", &own, "column split: no such column, so the table gives no splits");
    check(
        "id,text,codes,split\na,x,X1,secret\n",
        &own,
        "notes.csv:2, column split: no split; expected train",
    );
    check(
        "id,text,codes,split\na,x,X1,dev\na,x,X1,dev\n",
        &own,
        "notes.csv:3, column id: this id is also that of line 2",
    );
    check("id,text,codes,split\n,x,X1,dev\n", &own, "notes.csv:2, column id: is empty");
    check("id,subject,text,codes,split\na,,x,X1,dev\n", &own, "notes.csv:2, column subject: is empty");
    check(
        "id,text,codes,split\na,\"x,X1,dev\n",
        &own,
        "notes.csv:2: a quote opened in this row is never closed",
    );
    check("id,text,codes,split\n", &own, "the table has no rows");
    check(
        "id,text,codes,split\na,x,X1,dev\nn5,\"secret,I10,dev\nn6,no\" more secret,J45.9,dev\n",
        &own,
        "notes.csv:3, column text: text follows the quote that closes this field in line 4",
    );
    check(
        "id,text,codes,split\na,x,X1,dev\nb\0c,x,X1,dev\n",
        &own,
        "notes.csv:3, column id: has a control character",
    );
    let subjects = "id,subject,text,codes,split\na,p\u{1b}[1m,x,X1,dev\n";
    check(subjects, &own, "notes.csv:2, column subject: has a control character");
    let table = TableColumns { subject_column: "patient".to_owned(), ..TableColumns::default() };
    let named = PreprocessConfig { table, ..PreprocessConfig::default() };
    check("id,text,codes,split\na,x,X1,dev\n", &named, "column patient: no such column");
    let (_dir, root) = folder("notes.csv", b"");
    fs_err::write(root.join("notes.parquet"), b"").unwrap();
    assert!(table_files(&root).unwrap_err().to_string().contains("there is notes.parquet too"));
    assert!(table_files(Utf8Path::new("nowhere")).is_err());
}
