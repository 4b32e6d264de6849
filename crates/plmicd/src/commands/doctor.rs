//! `plmicd doctor`: what was found on this machine, and how to mend what is missing.

use camino::Utf8Path;
use plmicd_pipeline::source::{SourceError, Sources};

use crate::cli::{DoctorArgs, PipelineArgs};
use crate::commands::World;
use crate::failure::{Failure, exit};
use crate::ui::text;

/// How one check went.
enum Found {
    Good(String),
    /// Works, but not as well as it could.
    Weak(String, String),
    /// Does not work; with how to mend it.
    Bad(String, String),
}

/// Checks the machine, the store and, where a pipeline is named, its sources.
pub fn doctor(world: &World<'_>, args: &DoctorArgs) -> Result<(), Failure> {
    let mut checks: Vec<(&str, Found)> = Vec::new();
    checks.push(("plmicd", Found::Good(format!("{}, {}", env!("CARGO_PKG_VERSION"), build_kind()))));
    torch_checks(&mut checks);
    checks.push(("threads", threads()));
    checks.push(("memory", memory()));
    checks.push(("store", store(world)));
    checks.push(("disk", disk(world.store_root())));
    let arguments = PipelineArgs { file: args.file.clone(), overrides: Vec::new() };
    sources(world, &arguments, &mut checks)?;

    let width = checks.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut bad = 0;
    let mut lines = Vec::new();
    for (name, found) in &checks {
        let (word, style, what, advice) = match found {
            Found::Good(what) => ("ok  ", "32", what, None),
            Found::Weak(what, advice) => ("note", "33", what, Some(advice)),
            Found::Bad(what, advice) => ("BAD ", "31;1", what, Some(advice)),
        };
        bad += usize::from(matches!(found, Found::Bad(..)));
        lines.push(format!("{}  {name:<width$}  {what}", world.terminal.paint_result(style, word)));
        lines.extend(advice.map(|advice| format!("      {:<width$}  -> {advice}", "")));
    }
    world.terminal.print(&lines.join("\n"));
    match bad {
        0 => Ok(()),
        1 => Err(Failure::new(exit::VERIFICATION, "1 check failed")),
        n => Err(Failure::new(exit::VERIFICATION, format!("{n} checks failed"))),
    }
}

fn build_kind() -> &'static str {
    if cfg!(feature = "torch") { "with libtorch" } else { "without libtorch (data stages only)" }
}

#[cfg(feature = "torch")]
fn torch_checks(checks: &mut Vec<(&str, Found)>) {
    let place =
        plmicd_torch::libtorch_location().map_or_else(|| "unknown".to_owned(), |path| path.to_string());
    checks.push(("libtorch", Found::Good(format!("{} at {place}", plmicd_torch::libtorch_version()))));
    let cuda = plmicd_torch::cuda::load_beside_libtorch();
    checks.push((
        "gpu",
        match &cuda {
            status if status.is_available() => Found::Good(status.to_string()),
            status => Found::Weak(
                format!("{status}; training runs on the CPU"),
                "with an NVIDIA driver installed, `make setup` also fetches libtorch's CUDA part".to_owned(),
            ),
        },
    ));
    let cpu = plmicd_torch::cpu_capabilities();
    let bf16 = match (cpu.amx_bf16(), cpu.avx512_bf16()) {
        (true, _) => "in hardware (AMX)",
        (false, true) => "in hardware (AVX512-BF16)",
        (false, false) => "not in hardware",
    };
    checks.push(("bf16", Found::Good(format!("{bf16}; libtorch uses {} kernels", cpu.dispatch))));
}

#[cfg(not(feature = "torch"))]
fn torch_checks(checks: &mut Vec<(&str, Found)>) {
    checks.push((
        "libtorch",
        Found::Weak(
            "this build has no libtorch: finetune and predict are missing".to_owned(),
            "`make build` builds with it".to_owned(),
        ),
    ));
}

fn threads() -> Found {
    match std::thread::available_parallelism() {
        Ok(count) => Found::Good(format!("{count} cores usable")),
        Err(error) => Found::Weak(error.to_string(), "set [runtime] threads in the pipeline file".to_owned()),
    }
}

fn memory() -> Found {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let (free, total) = (system.available_memory(), system.total_memory());
    let what = format!("{} free of {}", text::bytes(free), text::bytes(total));
    if free < 3_000_000_000 {
        Found::Weak(what, "training a base-size encoder wants about 8 GB".to_owned())
    } else {
        Found::Good(what)
    }
}

fn store(world: &World<'_>) -> Found {
    let root = world.store_root();
    let opened = match plmicd_artifact::Store::open(root) {
        Ok(store) => store,
        Err(error) => {
            return Found::Bad(
                crate::failure::chain(&error),
                "name another folder with --store DIR".to_owned(),
            );
        }
    };
    // Opening has tried a lock and a write.
    match opened.list() {
        Ok(all) => Found::Good(format!("{root}: {} artifacts; it can be written to and locked", all.len())),
        Err(error) => {
            Found::Bad(crate::failure::chain(&error), "`plmicd artifact verify` tells more".to_owned())
        }
    }
}

/// Free space where the store lies.
fn disk(root: &Utf8Path) -> Found {
    let disks = sysinfo::Disks::new_with_refreshed_list();
    let absolute = root.canonicalize_utf8().unwrap_or_else(|_| root.to_path_buf());
    let holding = disks
        .iter()
        .filter(|disk| absolute.as_std_path().starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().as_os_str().len());
    match holding {
        None => Found::Weak("free space unknown".to_owned(), "see `df`".to_owned()),
        Some(disk) if disk.available_space() < 2_000_000_000 => Found::Weak(
            format!("{} free", text::bytes(disk.available_space())),
            "a full MIMIC-III run wants about 10 GB; `plmicd artifact gc` frees what is not needed"
                .to_owned(),
        ),
        Some(disk) => Found::Good(format!("{} free", text::bytes(disk.available_space()))),
    }
}

fn sources(
    world: &World<'_>,
    args: &PipelineArgs,
    checks: &mut Vec<(&'static str, Found)>,
) -> Result<(), Failure> {
    let pipeline = world.pipeline(args)?;
    if pipeline.sources.is_empty() {
        return Ok(());
    }
    let store = world.store()?;
    let silent = |_: &str, _: u64, _: u64| {};
    let known = Sources::new(&pipeline, &store, &world.registry, &silent);
    for name in pipeline.sources.keys() {
        checks.push((
            "source",
            match known.input(name) {
                Ok(input) => Found::Good(format!(
                    "{name}: {} in {}, digest {}",
                    input.kind,
                    input.dir,
                    input.digest.short()
                )),
                Err(error @ SourceError::Store(_)) => Found::Bad(
                    format!("{name}: {}", crate::failure::chain(&error)),
                    "check the files".to_owned(),
                ),
                Err(error) => {
                    let text = error.to_string();
                    let (what, hint) =
                        text.split_once("\nhint: ").unwrap_or((&text, "see docs/guides/data-sources.md"));
                    Found::Bad(what.to_owned(), hint.to_owned())
                }
            },
        ));
    }
    Ok(())
}
