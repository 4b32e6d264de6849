//! Vectors on disk: the artifact's file, and what is kept between epochs.

use std::borrow::Cow;
use std::collections::HashMap;

use camino::Utf8Path;
use plmicd_data::EmbedStats;
use plmicd_pipeline::StageError;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

use crate::train::Vectors;

/// Both matrices after an epoch, in the stage's work folder.
const CHECKPOINT: &str = "checkpoint.safetensors";
const PROGRESS: &str = "checkpoint.json";

/// A matrix on its way to disk.
struct Matrix<'a> {
    values: &'a [f32],
    shape: [usize; 2],
}

impl View for Matrix<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Writes matrices of this width, complete or not at all.
pub(crate) fn write(path: &Utf8Path, matrices: &[(&str, &[f32])], width: usize) -> Result<(), StageError> {
    let partial = path.with_extension("partial");
    let views = matrices
        .iter()
        .map(|(name, values)| (*name, Matrix { values, shape: [values.len() / width, width] }));
    // As other programs expect of their own files.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), partial.as_std_path())
        .map_err(|error| StageError::because(format!("writing {path}"), error))?;
    fs_err::File::open(&partial)?.sync_all()?;
    Ok(fs_err::rename(partial, path)?)
}

/// Keeps the vectors after an epoch; `stats` tells how far they are.
pub(crate) fn save(
    dir: &Utf8Path,
    vectors: &Vectors,
    width: usize,
    stats: &EmbedStats,
) -> Result<(), StageError> {
    fs_err::create_dir_all(dir)?;
    let matrices = [("inputs", vectors.inputs.as_slice()), ("outputs", vectors.outputs.as_slice())];
    // Without the file that tells how far the vectors are, they are not taken up.
    let progress = dir.join(PROGRESS);
    if progress.exists() {
        fs_err::remove_file(&progress)?;
    }
    write(&dir.join(CHECKPOINT), &matrices, width)?;
    let partial = dir.join("checkpoint.json.partial");
    stats.write(&partial).map_err(|error| StageError::because("keeping the progress", error))?;
    Ok(fs_err::rename(partial, progress)?)
}

/// What [`save`] kept, if it is there, whole and of this size.
pub(crate) fn restore(dir: &Utf8Path, words: usize, width: usize) -> Option<(Vectors, EmbedStats)> {
    let stats = EmbedStats::read(&dir.join(PROGRESS)).ok()?;
    let bytes = fs_err::read(dir.join(CHECKPOINT)).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let matrix = |name: &str| -> Option<Vec<f32>> {
        let view = file.tensor(name).ok()?;
        let fits = view.dtype() == Dtype::F32 && view.shape() == [words, width];
        let (numbers, _) = view.data().as_chunks::<4>();
        fits.then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    };
    Some((Vectors { inputs: matrix("inputs")?, outputs: matrix("outputs")? }, stats))
}
