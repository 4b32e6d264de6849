use std::ffi::c_char;

use camino::Utf8PathBuf;
use tch::Device;

use crate::ffi;

/// What the CPU offers to libtorch's kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuCapabilities {
    /// The instruction set libtorch chose its own kernels for, such as `AVX512`.
    pub dispatch: String,
    /// The CPU's features by libtorch's names, sorted.
    pub flags: Vec<String>,
}

impl CpuCapabilities {
    /// Whether the CPU multiplies bf16 in AVX-512 registers.
    pub fn avx512_bf16(&self) -> bool {
        self.has("avx512_bf16")
    }

    /// Whether the CPU multiplies bf16 tiles (AMX).
    pub fn amx_bf16(&self) -> bool {
        self.has("amx_bf16")
    }

    /// Whether bf16 matrix products run on instructions of their own; elsewhere they are slower than fp32.
    pub fn fast_bf16(&self) -> bool {
        self.avx512_bf16() || self.amx_bf16()
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }
}

/// Asks libtorch what the CPU offers.
pub fn cpu_capabilities() -> CpuCapabilities {
    let text = string_of(ffi::plmicd_cpu_capabilities);
    let mut words = text.split_whitespace().map(str::to_owned);
    CpuCapabilities { dispatch: words.next().unwrap_or_default(), flags: words.collect() }
}

/// The version of libtorch this program was compiled for, such as `2.11.0`.
pub fn libtorch_version() -> String {
    string_of(ffi::plmicd_version)
}

/// The file libtorch's CPU library was loaded from, where the loader knows it.
pub fn libtorch_location() -> Option<Utf8PathBuf> {
    let path = string_of(ffi::plmicd_location);
    (!path.is_empty()).then(|| Utf8PathBuf::from(path))
}

/// The most memory that was held at once so far, in bytes: by this process for the CPU (where the system tells), by
/// libtorch's tensors for a GPU.
pub fn peak_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => {
            let mut bytes = 0;
            // SAFETY: `bytes` outlives the call.
            unsafe { ffi::check(ffi::plmicd_device_peak(index as i64, &mut bytes)) }.ok()?;
            Some(bytes)
        }
        _ => kib_of("/proc/self/status", "VmHWM:"),
    }
}

/// Counts [`peak_memory`] anew, where the system lets a process do that; else the peak stays that of the whole run.
pub fn reset_peak_memory(device: Device) {
    match device {
        Device::Cuda(index) => {
            // SAFETY: no pointers are passed; what is refused changes nothing.
            let _ = unsafe { ffi::check(ffi::plmicd_device_reset_peak(index as i64)) };
        }
        _ => {
            let _ = std::fs::write("/proc/self/clear_refs", "5");
        }
    }
}

/// The memory that can still be taken, in bytes, where the system tells: what is free, within the limit of the group of
/// processes this one belongs to (containers).
pub fn available_memory(device: Device) -> Option<u64> {
    if let Device::Cuda(index) = device {
        let mut bytes = 0;
        // SAFETY: `bytes` outlives the call.
        unsafe { ffi::check(ffi::plmicd_device_free(index as i64, &mut bytes)) }.ok()?;
        return Some(bytes);
    }
    let free = kib_of("/proc/meminfo", "MemAvailable:")?;
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let group = read("max").zip(read("current")).map(|(most, taken)| most.saturating_sub(taken));
    Some(group.map_or(free, |group| group.min(free)))
}

/// Whether bf16 matrix products are faster than fp32 on `device`, as far as libtorch tells.
pub fn fast_bf16(device: Device) -> bool {
    match device {
        // SAFETY: asks libtorch's hooks, which answer also where there is no CUDA.
        Device::Cuda(_) => unsafe { ffi::plmicd_gpu_has_bf16() != 0 },
        _ => cpu_capabilities().fast_bf16(),
    }
}

/// Lets products of fp32 matrices on GPUs round their operands to TF32 (10 bits of mantissa), or not. Global.
pub fn allow_tf32(allow: bool) {
    // SAFETY: sets two flags of libtorch's context.
    unsafe { ffi::plmicd_allow_tf32(i32::from(allow)) }
}

/// A figure that a file of the system gives in kB, in bytes.
fn kib_of(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Sets the number of threads one operation may use.
pub fn set_intra_op_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// The number of threads one operation may use.
pub fn intra_op_threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

fn string_of(function: unsafe extern "C" fn(*mut *mut c_char) -> *mut c_char) -> String {
    let mut text = std::ptr::null_mut();
    // SAFETY: the shim writes one pointer made by strdup into `text`, or returns a message and leaves it null.
    unsafe {
        match ffi::check(function(&mut text)) {
            Ok(()) => ffi::take_string(text).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_the_pinned_one_and_knows_its_place() {
        assert!(libtorch_version().starts_with("2.11.0"), "{}", libtorch_version());
        let location = libtorch_location().expect("the loader knows");
        assert!(location.file_name().unwrap().starts_with("libtorch_cpu"), "{location}");
    }

    #[test]
    fn threads_can_be_set() {
        let before = intra_op_threads();
        set_intra_op_threads(1);
        assert_eq!(intra_op_threads(), 1);
        set_intra_op_threads(before);
        assert_eq!(intra_op_threads(), before);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn cpu_flags_agree_with_the_standard_library() {
        let capabilities = cpu_capabilities();
        assert!(!capabilities.dispatch.is_empty());
        assert_eq!(capabilities.has("avx2"), std::arch::is_x86_feature_detected!("avx2"));
        assert_eq!(capabilities.avx512_bf16(), std::arch::is_x86_feature_detected!("avx512bf16"));
    }
}
