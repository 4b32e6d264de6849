// What the process runs on: libtorch's version and place, the CPU's features, libraries loaded late.
#include "blas.h"
#include "shim.h"

#include <algorithm>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>
#include <torch/headeronly/version.h>

namespace {

// MKL's vector functions (libtorch's tanh, exp, log, sqrt, ...) find out on their first call which CPU this is, and for
// a moment the variable that all threads read holds a number of another numbering. A thread that begins its own first
// call just then computes the whole of its share by the function for another CPU, of other accuracy: other bytes in a
// few runs of a hundred (pytorch/pytorch#188792). So the first call is made here, before there are threads.
__attribute__((constructor)) void settle_vector_functions() {
  if (vmsTanh == nullptr) return;
  const float in = 0.0f;
  float out;
  vmsTanh(1, &in, &out, kHighAccuracy);
}

}  // namespace

extern "C" {

// In one object file with the constructor above: whoever calls the shim links both.
void plmicd_free(char *message) { std::free(message); }

// The version of the headers this was compiled with.
char *plmicd_version(char **out) {
  return guarded([&] { *out = strdup(TORCH_VERSION); });
}

// The file libtorch's CPU library was loaded from.
char *plmicd_location(char **out) {
  return guarded([&] {
    Dl_info info;
    const auto address = reinterpret_cast<const void *>(&at::get_num_threads);
    *out = strdup(dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "");
  });
}

// The instruction set libtorch's kernels were chosen for, then the CPU's flags that are on, in order.
char *plmicd_cpu_capabilities(char **out) {
  return guarded([&] {
    std::vector<std::string> flags;
    for (const auto &[name, value] : at::cpu::get_cpu_capabilities()) {
      if (value.isBool() && value.toBool()) flags.push_back(name);
    }
    std::sort(flags.begin(), flags.end());
    std::string text = at::get_cpu_capability();
    for (const auto &flag : flags) text += " " + flag;
    *out = strdup(text.c_str());
  });
}

// The most bytes that tensors on a GPU have taken at once.
char *plmicd_device_peak(int64_t index, uint64_t *out) {
  return guarded([&] {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    *out = static_cast<uint64_t>(stats.allocated_bytes[0].peak);
  });
}

// Counts that peak anew.
char *plmicd_device_reset_peak(int64_t index) {
  return guarded([&] { at::getDeviceAllocator(at::kCUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(index)); });
}

// Whether a GPU multiplies bf16 in hardware (the current one, by libtorch's own test).
int32_t plmicd_gpu_has_bf16() {
  return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
}

// Whether products of fp32 matrices on a GPU may round their operands to TF32.
void plmicd_allow_tf32(int32_t allow) {
  at::globalContext().setAllowTF32CuBLAS(allow != 0);
  at::globalContext().setAllowTF32CuDNN(allow != 0);
}

// Bytes that are free on a GPU.
char *plmicd_device_free(int64_t index, uint64_t *out) {
  return guarded([&] {
    const auto info = at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(static_cast<c10::DeviceIndex>(index));
    *out = info.first;
  });
}

// Loads a shared library so that its symbols serve all others and its registrations stay.
char *plmicd_load_global(const char *path) {
  if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != nullptr) return nullptr;
  const char *reason = dlerror();
  return strdup(reason != nullptr ? reason : "dlopen failed without a reason");
}
}
