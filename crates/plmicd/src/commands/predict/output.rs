//! Where the codes go: the terminal, or a file that survives being stopped.
//!
//! ```text
//! OUT.partial        the rows so far, as JSON lines
//! OUT.partial.json   of which job they are, and how many of its bytes and notes count
//! OUT                in the end
//! ```
//!
//! After each window the rows are synced and then their number is written, by renaming: whatever kills the program, what
//! counts is whole. All of it can be read by its owner alone.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{LabelSpace, PredictionWriter};
use plmicd_preprocess::text_file_id;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::STDIN;
use super::feed::{Skip, Window};
use crate::cli::{PredictArgs, PredictFormat};
use crate::commands::World;
use crate::failure::{Failure, chain, exit};

/// What a note was given.
pub struct Row {
    pub id: String,
    /// Nothing was left of its text.
    pub is_empty: bool,
    /// Label ids and scores, the highest first.
    pub codes: Vec<(usize, f32)>,
}

/// What there is to say at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub notes: u64,
    pub tokens: u64,
    pub empty: u64,
    pub cut: u64,
    pub mended_bytes: u64,
    pub mended_notes: u64,
    /// Notes with an id that an earlier one has.
    pub repeated_ids: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.notes += other.notes;
        self.tokens += other.tokens;
        self.empty += other.empty;
        self.cut += other.cut;
        self.mended_bytes += other.mended_bytes;
        self.mended_notes += other.mended_notes;
        self.repeated_ids += other.repeated_ids;
    }

    /// What was added since.
    pub fn since(&self, before: &Self) -> Self {
        Self { notes: self.notes - before.notes, tokens: self.tokens - before.tokens, ..self.clone() }
    }
}

/// A row as a JSON line.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    codes: Vec<Code>,
    /// Nothing was left of the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    empty: bool,
}

#[derive(Serialize, Deserialize)]
struct Code {
    code: String,
    score: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl Line {
    fn new(row: &Row, labels: &LabelSpace) -> Self {
        let code = |&(id, score): &(usize, f32)| {
            let label = &labels.labels()[id];
            Code { code: label.code.clone(), score, description: label.description.clone() }
        };
        Self { id: row.id.clone(), codes: row.codes.iter().map(code).collect(), empty: row.is_empty }
    }

    /// `id,codes,scores`, the codes and scores of a note joined by semicolons.
    fn csv(&self) -> [String; 3] {
        let join = |each: fn(&Code) -> String| self.codes.iter().map(each).collect::<Vec<_>>().join(";");
        [self.id.clone(), join(|code| code.code.clone()), join(|code| code.score.to_string())]
    }

    /// For people: a code a line.
    fn text(&self, with_id: bool) -> String {
        let mut text = String::new();
        if with_id {
            text.push_str(&format!("{}\n", self.id));
        }
        for code in &self.codes {
            let description = code.description.as_deref().unwrap_or_default();
            text.push_str(format!("{:<9} {:.4}  {description}", code.code, code.score).trim_end());
            text.push('\n');
        }
        if self.codes.is_empty() {
            text.push_str(if self.empty { "no codes: the text is empty\n" } else { "no codes\n" });
        }
        text
    }
}

const CSV_HEADER: [&str; 3] = ["id", "codes", "scores"];

/// The rows' way out.
pub struct Output<'a> {
    labels: &'a LabelSpace,
    counts: Counts,
    digest: String,
    place: Place,
}

enum Place {
    Terminal { format: PredictFormat, several: bool, begun: bool },
    File(Partial),
}

/// A file being made.
struct Partial {
    out: Utf8PathBuf,
    rows: BufWriter<File>,
    job: Option<Value>,
    bytes: u64,
}

/// `OUT.partial.json`.
#[derive(Serialize, Deserialize)]
struct Done {
    job: Value,
    bytes: u64,
    counts: Counts,
    /// Of the notes that these are the codes of.
    digest: String,
}

impl<'a> Output<'a> {
    /// Opens what the arguments name, and takes up what an earlier run of the same job has left.
    pub fn open(
        world: &World<'_>,
        args: &PredictArgs,
        inputs: &[Utf8PathBuf],
        job: Option<Value>,
        labels: &'a LabelSpace,
    ) -> Result<Self, Failure> {
        let (mut counts, mut digest) = Default::default();
        let place = match &args.out {
            Some(out) => {
                let partial;
                (partial, counts, digest) = Partial::open(out, job, args.restart)?;
                Place::File(partial)
            }
            None => {
                let only_texts = inputs.iter().all(|input| input == STDIN || text_file_id(input).is_some());
                let format = args.format.unwrap_or(match (world.terminal.json, only_texts) {
                    (true, _) => PredictFormat::Jsonl,
                    (false, true) => PredictFormat::Text,
                    (false, false) => PredictFormat::Csv,
                });
                Place::Terminal { format, several: inputs.len() > 1 || !only_texts, begun: false }
            }
        };
        Ok(Self { labels, counts, digest, place })
    }

    /// What is written already.
    pub fn done(&self) -> Skip {
        Skip { notes: self.counts.notes, digest: self.digest.clone() }
    }

    /// Notes that are written already.
    pub fn notes_done(&self) -> u64 {
        self.counts.notes
    }

    /// What has been written, by earlier runs too.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Writes a window.
    pub fn write(&mut self, world: &World<'_>, rows: &[Row], window: &Window) -> Result<(), Failure> {
        // One at a time: with all codes a line is long.
        let lines = rows.iter().map(|row| Line::new(row, self.labels));
        self.counts.add(&window.counts);
        self.digest.clone_from(&window.digest);
        match &mut self.place {
            Place::Terminal { format, several, begun } => {
                for line in lines {
                    let text = match format {
                        PredictFormat::Text => line.text(*several),
                        PredictFormat::Jsonl => serde_json::to_string(&line).map_err(unwritable)?,
                        PredictFormat::Csv => {
                            let mut writer = csv::Writer::from_writer(Vec::new());
                            if !*begun {
                                writer.write_record(CSV_HEADER).map_err(unwritable)?;
                            }
                            writer.write_record(line.csv()).map_err(unwritable)?;
                            String::from_utf8_lossy(&writer.into_inner().map_err(unwritable)?).into_owned()
                        }
                    };
                    *begun = true;
                    world.terminal.print(&text);
                    world.terminal.lost_results().map_or(Ok(()), Err)?;
                }
                Ok(())
            }
            Place::File(partial) => partial.write(lines, &self.counts, &self.digest),
        }
    }

    /// Completes the output. Gives the file that was made.
    pub fn finish(self, _world: &World<'_>) -> Result<Option<Utf8PathBuf>, Failure> {
        match self.place {
            Place::Terminal { .. } => Ok(None),
            Place::File(partial) => partial.finish().map(Some),
        }
    }
}

fn unwritable(error: impl std::error::Error) -> Failure {
    Failure::new(exit::INTERNAL, format!("writing the codes: {}", chain(&error)))
}

/// A file that only its owner reads, also where it is there already: in a folder of several people it may be another's,
/// or a link to another's.
fn private(path: &Utf8Path, truncate: bool) -> std::io::Result<File> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path);
    let file = file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)).map(|()| file));
    file.map_err(|error| std::io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// The forms of a file, by its ending.
#[derive(Clone, Copy)]
enum Ending {
    Csv,
    Parquet,
    Jsonl,
}

impl Ending {
    fn of(out: &Utf8Path) -> Result<Self, Failure> {
        match out.extension() {
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => Err(Failure::usage(format!("--out {out}: expected an ending .csv, .parquet or .jsonl"))),
        }
    }
}

impl Partial {
    fn rows_path(out: &Utf8Path) -> Utf8PathBuf {
        format!("{out}.partial").into()
    }

    fn done_path(out: &Utf8Path) -> Utf8PathBuf {
        format!("{out}.partial.json").into()
    }

    fn open(out: &Utf8Path, job: Option<Value>, restart: bool) -> Result<(Self, Counts, String), Failure> {
        Ending::of(out)?;
        if out.exists() {
            let hint = "hint: remove it, or choose another name";
            return Err(Failure::usage(format!("--out {out}: the file is there already\n{hint}")));
        }
        if let Some(folder) = out.parent().filter(|folder| *folder != "" && !folder.is_dir()) {
            return Err(Failure::usage(format!("--out {out}: there is no folder {folder}")));
        }
        let (rows_path, done_path) = (Self::rows_path(out), Self::done_path(out));
        let mut rows = private(&rows_path, false)?;
        // Held until the process ends, however it does.
        if rows.try_lock().is_err() {
            return Err(Failure::usage(format!("--out {out}: another process is writing it")));
        }
        let (mut counts, mut digest) = Default::default();
        let mut bytes = 0;
        if !restart && done_path.try_exists()? {
            // What cannot be read is nobody's known to be: another job's, perhaps of another version.
            let done: Option<Done> = serde_json::from_slice(&fs_err::read(&done_path)?).ok();
            let Some(done) = done.filter(|done| job.as_ref() == Some(&done.job)) else {
                return Err(Failure::usage(format!(
                    "{rows_path} was begun with another model, other files or other options\n\
                     hint: --restart throws it away"
                )));
            };
            // Shorter than it was said to be: nothing of it can be relied on.
            if rows.metadata()?.len() >= done.bytes {
                (counts, digest, bytes) = (done.counts, done.digest, done.bytes);
            }
        }
        if bytes == 0 {
            // Before the rows it counts: whoever was killed in between must not find it beside those of another job.
            forget(&done_path)?;
        }
        rows.set_len(bytes)?;
        rows.seek(SeekFrom::End(0))?;
        Ok((Self { out: out.to_owned(), rows: BufWriter::new(rows), job, bytes }, counts, digest))
    }

    fn write(
        &mut self,
        lines: impl Iterator<Item = Line>,
        counts: &Counts,
        digest: &str,
    ) -> Result<(), Failure> {
        let path = Self::rows_path(&self.out);
        let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{path}: {error}"));
        for line in lines {
            let mut text = serde_json::to_vec(&line).map_err(unwritable)?;
            text.push(b'\n');
            self.bytes += text.len() as u64;
            self.rows.write_all(&text).map_err(named)?;
        }
        self.rows.flush().map_err(named)?;
        let Some(job) = &self.job else { return Ok(()) };
        self.rows.get_ref().sync_data().map_err(named)?;
        let done =
            Done { job: job.clone(), bytes: self.bytes, counts: counts.clone(), digest: digest.to_owned() };
        let path = Self::done_path(&self.out);
        let fresh = Utf8PathBuf::from(format!("{path}.new"));
        let mut file = private(&fresh, true)?;
        file.write_all(&serde_json::to_vec(&done).map_err(unwritable)?)?;
        file.sync_all()?;
        fs_err::rename(&fresh, &path)?;
        Ok(())
    }

    /// Brings the rows into the form of the file's ending, and the file into its place.
    fn finish(mut self) -> Result<Utf8PathBuf, Failure> {
        self.rows.flush()?;
        let rows_path = Self::rows_path(&self.out);
        let ending = Ending::of(&self.out)?;
        if matches!(ending, Ending::Jsonl) {
            self.rows.get_ref().sync_all()?;
            fs_err::rename(&rows_path, &self.out)?;
        } else {
            let fresh = Utf8PathBuf::from(format!("{}.new", self.out));
            let file = private(&fresh, true)?;
            match ending {
                Ending::Csv => to_csv(&rows_path, file)?,
                _ => to_parquet(&rows_path, &fresh)?,
            }
            fs_err::File::open(&fresh)?.sync_all()?;
            fs_err::rename(&fresh, &self.out)?;
            fs_err::remove_file(&rows_path)?;
        }
        let done_path = Self::done_path(&self.out);
        if done_path.exists() {
            fs_err::remove_file(done_path)?;
        }
        Ok(self.out)
    }
}

/// Removes a file for good, where there is one.
fn forget(path: &Utf8Path) -> Result<(), Failure> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Err(_) => return Ok(()),
        Ok(()) => {}
    }
    let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Utf8Path::new("."));
    fs_err::File::open(folder)?.sync_all()?;
    Ok(())
}

/// The rows of a partial file, one by one.
fn lines(path: &Utf8Path) -> Result<impl Iterator<Item = Result<Line, Failure>> + use<>, Failure> {
    let lines = BufReader::new(fs_err::File::open(path)?).lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(unwritable)))
}

fn to_csv(rows: &Utf8Path, file: File) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(BufWriter::new(file));
    writer.write_record(CSV_HEADER).map_err(unwritable)?;
    for line in lines(rows)? {
        writer.write_record(line?.csv()).map_err(unwritable)?;
    }
    writer.flush()?;
    Ok(())
}

fn to_parquet(rows: &Utf8Path, file: &Utf8Path) -> Result<(), Failure> {
    // It keeps the mode of the file that is there.
    let mut writer = PredictionWriter::create(file).map_err(unwritable)?;
    for line in lines(rows)? {
        let line = line?;
        let codes = line.codes.iter().map(|code| (code.code.as_str(), code.score));
        writer.write(&line.id, codes).map_err(unwritable)?;
    }
    writer.finish().map_err(unwritable)?;
    Ok(())
}
