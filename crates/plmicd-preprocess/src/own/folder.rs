//! A folder of text files: source `text`.

use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use super::{Row, text_file_id};
use crate::encoding::{is_gzip, plain};
use crate::files;
use crate::gzip::{self, Gunzip};
use crate::place::Place;

/// Every `.txt` and `.txt.gz` below `dir`: its path from there and its whole path, by the former. Links to folders are
/// not followed, so that there is no way round in a circle.
///
/// # Errors
/// A folder cannot be listed, or there is no text.
pub fn text_files(dir: &Utf8Path) -> Result<Vec<(String, Utf8PathBuf)>, BadInput> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error: std::io::Error| BadInput::new(&folder, format!("cannot be listed: {error}"));
        for entry in folder.read_dir_utf8().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path().to_owned();
            // Hidden files are editors' and systems' own: locks, versions, attributes.
            if entry.file_name().starts_with('.') {
                continue;
            }
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(path);
            } else if text_file_id(&path).is_some() && !path.is_dir() {
                files::check(&path)?;
                let name = path.strip_prefix(dir).unwrap_or(&path).to_string();
                found.push((name, path));
            }
        }
    }
    if found.is_empty() {
        return Err(BadInput::new(dir, "no text; expected files .txt or .txt.gz here or in folders below"));
    }
    found.sort();
    Ok(found)
}

/// Gives every file to `take`.
pub(super) fn read(
    dir: &Utf8Path,
    context: &StageContext<'_>,
    take: &mut dyn FnMut(Row) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let files = text_files(dir)?;
    let total = files.len() as u64;
    for (at, (id, path)) in files.into_iter().enumerate() {
        if at.is_multiple_of(64) {
            context.check_interrupt()?;
            context.progress("reading texts", at as u64, Some(total), "files");
        }
        let text = read_text(&path)?;
        take(Row {
            place: Place::Line(1),
            id,
            text,
            codes: Vec::new(),
            subject: None,
            split: None,
            mended: 0,
        })?;
    }
    Ok(())
}

/// The bytes of a text file as [`plain`] leaves them, unpacked if it ends in `.gz`.
pub(super) fn read_text(path: &Utf8Path) -> Result<Vec<u8>, StageError> {
    let mut text = files::read(path)?;
    if is_gzip(path) {
        let mut unpacked = Vec::new();
        Gunzip::new(text.as_slice())
            .read_to_end(&mut unpacked)
            .map_err(|error| gzip::explain(path, &error))?;
        text = unpacked;
    }
    Ok(plain(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_are_no_notes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(folder.path()).unwrap();
        for name in ["a.txt", "._a.txt"] {
            fs_err::write(dir.join(name), "fever").unwrap();
        }
        // An editor's lock: a link that leads nowhere.
        std::os::unix::fs::symlink("someone@host.1", dir.join(".#a.txt")).unwrap();
        let names: Vec<String> = text_files(dir).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.txt"]);
    }
}
