//! Files of a model folder: which ones count, and which must be there.

use camino::Utf8Path;
use plmicd_pipeline::BadInput;
use plmicd_pipeline::registry::SourceFiles;

const CONFIG: &str = "config.json";
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const TOKENIZER: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "special_tokens.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "extended_vocabulary.json",
];

/// The files of a model folder that stages read; whatever else lies there does not count. A folder without
/// `config.json` can still serve as a tokenizer.
///
/// # Errors
/// A config without weights, or neither a config nor a tokenizer file.
pub fn hf_model_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let has = |name: &str| dir.join(name).is_file();
    let tokenizer = TOKENIZER.iter().any(|name| has(name));
    if !has(CONFIG) && !tokenizer {
        let message = format!("missing: a model folder has {CONFIG}, weights and tokenizer files");
        return Err(BadInput::new(dir.join(CONFIG), message));
    }
    if has(CONFIG) && !WEIGHTS.iter().any(|name| has(name)) {
        let message = format!("missing: expected {} beside {CONFIG}", WEIGHTS.join(" or "));
        return Err(BadInput::new(dir.join(WEIGHTS[0]), message));
    }
    let names = std::iter::once(CONFIG).chain(WEIGHTS).chain(TOKENIZER);
    Ok(names.filter(|name| has(name)).map(|name| (name.to_owned(), dir.join(name))).collect())
}

/// The files of a tokenizer folder, and the config of the model that it belongs to where there is one: it tells how many
/// ids there may be.
///
/// # Errors
/// There is no tokenizer file.
pub fn tokenizer_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    if !TOKENIZER.iter().any(|name| dir.join(name).is_file()) {
        let message = "missing: expected tokenizer.json, or vocab.txt, or vocab.json with merges.txt";
        return Err(BadInput::new(dir.join(TOKENIZER[0]), message));
    }
    let names = std::iter::once(CONFIG).chain(TOKENIZER).map(|name| (name.to_owned(), dir.join(name)));
    Ok(names.filter(|(_, path)| path.is_file()).collect())
}

/// The files of a model artifact: everything in its folder but the manifest.
///
/// # Errors
/// A file that every model has is missing, or the folder cannot be listed.
pub fn model_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    for name in [CONFIG, WEIGHTS[0], "labels.json", "special_tokens.json"] {
        let path = dir.join(name);
        if !path.is_file() {
            let hint = "the path is an artifact of kind model: `plmicd import` and `plmicd artifact show` print its folder";
            return Err(BadInput::new(path, "missing: expected the folder of a model artifact").hint(hint));
        }
    }
    let entries =
        dir.read_dir_utf8().map_err(|error| BadInput::new(dir, format!("cannot be listed: {error}")))?;
    let mut files: SourceFiles = entries
        .filter_map(|entry| Some(entry.ok()?.path().to_owned()))
        .filter(|path| path.is_file())
        .filter_map(|path| Some((path.file_name()?.to_owned(), path)))
        .filter(|(name, _)| name != plmicd_artifact::MANIFEST_FILE)
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_needs_weights_and_a_tokenizer_folder_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        assert!(hf_model_files(dir).is_err() && tokenizer_files(dir).is_err(), "empty");
        std::fs::write(dir.join("vocab.txt"), "").expect("written");
        std::fs::write(dir.join("README.md"), "").expect("written");
        assert_eq!(hf_model_files(dir).expect("a tokenizer").len(), 1);
        std::fs::write(dir.join(CONFIG), "").expect("written");
        assert!(hf_model_files(dir).expect_err("no weights").to_string().contains("model.safetensors"));
        assert_eq!(tokenizer_files(dir).expect("needs none").len(), 2);
        std::fs::write(dir.join("pytorch_model.bin"), "").expect("written");
        assert_eq!(hf_model_files(dir).expect("complete").len(), 3);
    }
}
