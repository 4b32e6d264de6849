//! `plmicd import …` and `plmicd export …`: models of other programs, in and out.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::{ArtifactRef, Digest, Lookup, PendingAction, Store};
use plmicd_data::kind;
use plmicd_finetune::{ImportSettings, MaskConstant, Padding};
use plmicd_pipeline::fingerprint::{FINGERPRINT_FORMAT, Fingerprint};
use plmicd_pipeline::{BadInput, StageError};
use serde_json::json;

use crate::cli::{ExportCommand, ImportArgs, ImportCommand, MaskConstantArg, PaddingArg};
use crate::commands::World;
use crate::failure::{Failure, chain, exit};
use crate::sources::{hf_model_files, tokenizer_files};

/// Name under which imports are recorded, beside the stages.
const IMPORT: &str = "import-plm-icd";
/// Version of what an import makes.
const VERSION: u32 = 1;
/// Version of the layout of a `model`, as the stage `finetune` states it.
const MODEL_SCHEMA: u32 = 1;

/// Takes a model into the store.
pub fn import(world: &World<'_>, command: &ImportCommand) -> Result<(), Failure> {
    let ImportCommand::PlmIcd(args) = command;
    let store = world.store()?;
    let tokenizer = args.tokenizer.as_ref().unwrap_or(&args.folder);
    let settings = ImportSettings {
        max_length: args.max_length.map(|n| n as usize),
        segment_length: args.segment_length.map(|n| n as usize),
        padding: args.padding.map(|padding| match padding {
            PaddingArg::Attend => Padding::Attend,
            PaddingArg::Mask => Padding::Mask,
        }),
        mask_constant: args.mask_constant.map(|constant| match constant {
            MaskConstantArg::Published => MaskConstant::Published,
            MaskConstantArg::Modern => MaskConstant::Modern,
        }),
    };
    let inputs = digests(&store, args, tokenizer)?;
    let fingerprint = Fingerprint {
        format: FINGERPRINT_FORMAT,
        stage: IMPORT.to_owned(),
        version: VERSION,
        config: json!({"settings": settings, "restricted": !args.unrestricted}),
        inputs,
        environment: BTreeMap::new(),
    };
    let key = fingerprint.key();
    let _lock =
        store.lock_action(IMPORT, key, &mut || world.terminal.say("waiting: another process imports it"))?;
    let record = match store.lookup(IMPORT, key)? {
        Lookup::Hit(record) => {
            world.terminal.say("imported before");
            record
        }
        _ => {
            let staging = store.staging()?;
            make(world, args, tokenizer, &settings, staging.path())?;
            let pending = PendingAction {
                stage: IMPORT.to_owned(),
                key,
                kind: kind::MODEL.to_owned(),
                schema: MODEL_SCHEMA,
                restricted: !args.unrestricted,
                fingerprint: fingerprint.to_value(),
                provenance: json!({"program": format!("plmicd {}", env!("CARGO_PKG_VERSION"))}),
            };
            store.publish(staging, pending)?
        }
    };
    let pin = args.pin.clone().unwrap_or_else(|| format!("plm-icd-{}", record.artifact.short()));
    store.pin(&pin, &record.kind, record.artifact)?;
    let folder = store.object_dir(&record.kind, record.artifact);
    if world.terminal.json {
        world.terminal.print_json(&json!({
            "kind": record.kind, "digest": record.artifact, "restricted": record.restricted, "pin": pin,
            "folder": folder,
        }));
    } else {
        world.terminal.print(&format!("{} {} {folder}", record.kind, record.artifact.short()));
        let restricted = if record.restricted { ", restricted" } else { "" };
        world.terminal.say(&format!("pinned as {pin}{restricted}"));
    }
    Ok(())
}

/// Digests of everything that decides what an import makes.
fn digests(
    store: &Store,
    args: &ImportArgs,
    tokenizer: &Utf8Path,
) -> Result<BTreeMap<String, Digest>, Failure> {
    let digest = |kind: &str, files: &[(String, Utf8PathBuf)]| -> Result<Digest, Failure> {
        Ok(store.source_manifest(kind, false, files, &mut |_, _| {})?.digest())
    };
    let checkpoint = hf_model_files(&absolute(&args.folder)?).map_err(bad_input)?;
    if !args.labels.is_file() {
        let message = "no such file; expected the list of codes the model was trained with, a code a line";
        return Err(bad_input(BadInput::new(&args.labels, message)));
    }
    let list = [("codes".to_owned(), absolute(&args.labels)?)];
    let tokenizer = tokenizer_files(&absolute(tokenizer)?).map_err(bad_input)?;
    let mut inputs = BTreeMap::from([
        ("checkpoint".to_owned(), digest(kind::HF_MODEL, &checkpoint)?),
        ("tokenizer".to_owned(), digest(kind::TOKENIZER, &tokenizer)?),
        ("labels".to_owned(), digest(kind::LABEL_LIST, &list)?),
    ]);
    if let Some(dir) = &args.descriptions {
        let files = plmicd_preprocess::source_files::code_table_files(&absolute(dir)?).map_err(bad_input)?;
        inputs.insert("descriptions".to_owned(), digest(kind::CODE_TABLE, &files)?);
    }
    Ok(inputs)
}

/// The store remembers digests by path, whatever folder a command runs in.
fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    Ok(camino::absolute_utf8(path)?)
}

/// Writes the model's files.
fn make(
    world: &World<'_>,
    args: &ImportArgs,
    tokenizer: &Utf8Path,
    settings: &ImportSettings,
    out: &Utf8Path,
) -> Result<(), Failure> {
    let labels =
        plmicd_preprocess::label_space(&args.labels, args.descriptions.as_deref()).map_err(failed)?;
    plmicd_tokenize::copy_published(tokenizer, out).map_err(failed)?;
    let imported = plmicd_finetune::import_published(&args.folder, (&args.labels, &labels), settings, out)
        .map_err(failed)?;
    world.terminal.say(&imported.to_string());
    Ok(())
}

/// Writes a model for another program.
pub fn export(world: &World<'_>, command: &ExportCommand) -> Result<(), Failure> {
    let ExportCommand::Hf(args) = command;
    let store = world.store()?;
    let found = store.resolve(&args.artifact)?;
    if found.kind != kind::MODEL {
        let message = format!("{} is of kind {}; expected a {}", found.short(), found.kind, kind::MODEL);
        return Err(Failure::usage(message));
    }
    let _lease = store.lease(&[(found.kind.clone(), found.digest)])?;
    if store.manifest(&found.kind, found.digest)?.restricted && !args.allow_restricted {
        return Err(Failure::usage(
            "this model derives from data under a use agreement: its weights can hold traces of notes\n\
             hint: --allow-restricted writes it; see that it goes no further than the agreement allows",
        ));
    }
    if args.folder.exists() {
        return Err(Failure::usage(format!("{} exists already; name a folder that does not", args.folder)));
    }
    write(&store, &found, &args.folder)?;
    world.terminal.say(&format!("wrote {}", args.folder));
    Ok(())
}

/// Writes beside the folder and renames: it is complete or not there.
fn write(store: &Store, model: &ArtifactRef, folder: &Utf8Path) -> Result<(), Failure> {
    let parent = match folder.parent() {
        Some(parent) if parent != "" => parent,
        _ => Utf8Path::new("."),
    };
    fs_err::create_dir_all(parent)?;
    let staging = tempfile::Builder::new()
        .prefix(".plmicd-export-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    let path = Utf8Path::from_path(staging.path())
        .ok_or_else(|| Failure::usage(format!("{folder} is below a folder whose name is not valid UTF-8")))?;
    plmicd_finetune::export_published(&store.object_dir(&model.kind, model.digest), path).map_err(failed)?;
    private(path)?;
    fs_err::rename(path, folder)?;
    let _ = staging.keep();
    Ok(())
}

/// Files 0600 whatever the umask; the folder itself was made 0700.
fn private(folder: &Utf8Path) -> Result<(), Failure> {
    for entry in fs_err::read_dir(folder)? {
        fs_err::set_permissions(entry?.path(), std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn bad_input(error: BadInput) -> Failure {
    Failure::usage(error.to_string())
}

/// A complaint about the files that were given is a usage error; anything else a failed stage.
fn failed(error: StageError) -> Failure {
    match error {
        StageError::BadInput(error) => bad_input(*error),
        error => Failure::new(exit::STAGE, chain(&error)),
    }
}
