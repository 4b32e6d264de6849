//! CUDA at run time. The program links libtorch's CPU libraries only; where `libtorch_cuda.so` lies beside them,
//! loading it registers CUDA with libtorch, so one binary serves machines with and without a GPU.

use std::ffi::CString;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::ffi;

/// What looking for CUDA found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaStatus {
    /// Loaded, with this many usable devices (at least one).
    Available { library: Utf8PathBuf, devices: usize },
    /// Loaded, but libtorch sees no usable device (no GPU, or no driver).
    NoDevice { library: Utf8PathBuf },
    /// There is no `libtorch_cuda.so` in the folder: this is a CPU build of libtorch.
    NotInstalled { folder: Utf8PathBuf },
    /// The library is there but cannot be loaded; the loader says why (often a missing NVIDIA library).
    Unloadable { library: Utf8PathBuf, reason: String },
}

impl CudaStatus {
    /// Whether CUDA devices can be used.
    pub fn is_available(&self) -> bool {
        matches!(self, CudaStatus::Available { .. })
    }
}

impl fmt::Display for CudaStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CudaStatus::Available { library, devices } => {
                write!(out, "{devices} device(s), loaded from {library}")
            }
            CudaStatus::NoDevice { library } => {
                write!(out, "{library} loaded, but no usable GPU or driver was found")
            }
            CudaStatus::NotInstalled { folder } => write!(out, "no {LIBRARY} in {folder}"),
            CudaStatus::Unloadable { library, reason } => write!(out, "{library} cannot be loaded: {reason}"),
        }
    }
}

const LIBRARY: &str = "libtorch_cuda.so";

/// Loads `libtorch_cuda.so` from `lib_dir` if it is there and says what was found. Call it once, before
/// the first tensor is put on a device; calling it again does no harm.
pub fn load(lib_dir: &Utf8Path) -> CudaStatus {
    let library = lib_dir.join(LIBRARY);
    if !library.exists() {
        return CudaStatus::NotInstalled { folder: lib_dir.to_owned() };
    }
    let path = match CString::new(library.as_str()) {
        Ok(path) => path,
        Err(error) => return CudaStatus::Unloadable { library, reason: error.to_string() },
    };
    // SAFETY: the path is nul-terminated; loading runs the library's initialisers, which is the purpose.
    if let Some(reason) = unsafe { ffi::take_string(ffi::plmicd_load_global(path.as_ptr())) } {
        return CudaStatus::Unloadable { library, reason };
    }
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(devices) if devices > 0 && tch::Cuda::is_available() => CudaStatus::Available { library, devices },
        _ => CudaStatus::NoDevice { library },
    }
}

/// [`load`] from the folder libtorch's CPU library came from.
pub fn load_beside_libtorch() -> CudaStatus {
    match crate::libtorch_location().as_deref().and_then(Utf8Path::parent) {
        Some(folder) => load(folder),
        None => CudaStatus::NotInstalled { folder: Utf8PathBuf::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_a_cpu_build_and_a_broken_library_says_why() {
        let folder = std::env::temp_dir().join(format!("plmicd-torch-cuda-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = Utf8Path::from_path(&folder).unwrap();
        assert_eq!(load(path), CudaStatus::NotInstalled { folder: path.to_owned() });

        std::fs::write(folder.join(LIBRARY), b"not a library").unwrap();
        let found = load(path);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(&found, CudaStatus::Unloadable { reason, .. } if !reason.is_empty()), "{found:?}");
        assert!(!found.is_available());
    }
}
