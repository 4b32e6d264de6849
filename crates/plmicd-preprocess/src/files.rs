//! Files that can be read as such. Opening a pipe waits for a writer, for ever and deaf to interrupts.

use std::io;

use camino::Utf8Path;
use fs_err as fs;
use plmicd_pipeline::{BadInput, StageError};

/// Refuses what is not a regular file once links are followed.
///
/// # Errors
/// A folder, a pipe or a device, a link that leads nowhere, no file at all.
pub fn check(path: &Utf8Path) -> Result<(), BadInput> {
    let message = match path.metadata() {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => "is a folder; expected a file".to_owned(),
        Ok(_) => "is a pipe or a device; expected a file".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            "missing: this link leads to a file that is not there".to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "missing: there is no such file".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(BadInput::new(path, message))
}

/// Opens a regular file.
///
/// # Errors
/// See [`check`].
pub fn open(path: &Utf8Path) -> Result<fs::File, StageError> {
    check(path)?;
    Ok(fs::File::open(path)?)
}

/// The bytes of a regular file.
///
/// # Errors
/// See [`check`].
pub fn read(path: &Utf8Path) -> Result<Vec<u8>, StageError> {
    check(path)?;
    Ok(fs::read(path)?)
}

/// The text of a regular file in UTF-8.
///
/// # Errors
/// See [`check`]; bytes that are not UTF-8.
pub fn read_to_string(path: &Utf8Path) -> Result<String, StageError> {
    check(path)?;
    Ok(fs::read_to_string(path)?)
}
