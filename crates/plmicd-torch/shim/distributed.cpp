// Data parallel: PyTorch's own key-value store and Gloo, and NCCL where CUDA was loaded.
//
// NCCL is called through its C interface, which is in the process once libtorch's CUDA part is: PyTorch's class around it
// needs CUDA's headers to compile, and would tie the program to CUDA.
#include "shim.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <c10/core/DeviceGuard.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

// The part of nccl.h that is used; it has been the same since NCCL 2.0.
struct NcclUniqueId {
  char internal[128];
};
using NcclComm = void *;
constexpr int kNcclInt64 = 4;
constexpr int kNcclFloat32 = 7;
constexpr int kNcclFloat64 = 8;
constexpr int kNcclSum = 0;

struct Nccl {
  int (*get_unique_id)(NcclUniqueId *);
  int (*comm_init_rank)(NcclComm *, int, NcclUniqueId, int);
  int (*all_reduce)(const void *, void *, size_t, int, int, NcclComm, void *);
  int (*broadcast)(const void *, void *, size_t, int, int, NcclComm, void *);
  int (*comm_abort)(NcclComm);
  const char *(*error_string)(int);

  // Null where the process has no NCCL.
  static const Nccl *get() {
    static const std::unique_ptr<Nccl> found = [] {
      auto nccl = std::make_unique<Nccl>();
      void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_GLOBAL);
      const auto find = [&](const char *name, auto *&function) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
            dlsym(library != nullptr ? library : RTLD_DEFAULT, name));
        return function != nullptr;
      };
      const bool whole = find("ncclGetUniqueId", nccl->get_unique_id) &&
                         find("ncclCommInitRank", nccl->comm_init_rank) &&
                         find("ncclAllReduce", nccl->all_reduce) && find("ncclBroadcast", nccl->broadcast) &&
                         find("ncclCommAbort", nccl->comm_abort) &&
                         find("ncclGetErrorString", nccl->error_string);
      return whole ? std::move(nccl) : nullptr;
    }();
    return found.get();
  }

  void check(int result) const {
    TORCH_CHECK(result == 0, "NCCL: ", error_string(result));
  }
};

int nccl_type(const at::Tensor &tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return kNcclFloat32;
    case at::kDouble: return kNcclFloat64;
    case at::kLong: return kNcclInt64;
    default: TORCH_CHECK(false, "NCCL: no collective for ", tensor.scalar_type());
  }
}

std::vector<uint8_t> bytes_of(const char *data, size_t length) {
  return {reinterpret_cast<const uint8_t *>(data), reinterpret_cast<const uint8_t *>(data) + length};
}

// A socket that listens on this machine's loopback alone, where that is what the host's name stands for: c10d itself would
// listen on all interfaces. Nothing for any other host. Fills in a port of 0.
std::optional<int> listen_on_loopback(const std::string &host, uint16_t *port) {
  if (host != "localhost" && host != "127.0.0.1") return std::nullopt;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  TORCH_CHECK(listener >= 0, "no socket: ", std::strerror(errno));
  const auto failed = [&](const char *what) {
    const std::string reason = std::strerror(errno);
    close(listener);
    TORCH_CHECK(false, what, " port ", *port, " of ", host, ": ", reason);
  };
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(*port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto *generic = reinterpret_cast<sockaddr *>(&address);
  if (bind(listener, generic, length) != 0) failed("taking");
  if (listen(listener, SOMAXCONN) != 0) failed("listening on");
  if (getsockname(listener, generic, &length) != 0) failed("asking for");
  *port = ntohs(address.sin_port);
  return listener;
}

}  // namespace

extern "C" {

struct plmicd_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

struct plmicd_group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  int rank;
  int size;
  NcclComm nccl = nullptr;

  // NCCL's group, made at the first tensor on a GPU; all processes come here together.
  const Nccl *gpu() {
    const Nccl *library = Nccl::get();
    if (library == nullptr || nccl != nullptr) return library;
    NcclUniqueId id{};
    if (rank == 0) {
      library->check(library->get_unique_id(&id));
      store->set("nccl", bytes_of(id.internal, sizeof id.internal));
    } else {
      const std::vector<uint8_t> found = store->get("nccl");
      TORCH_CHECK(found.size() == sizeof id.internal, "NCCL: the id of the group has a wrong length");
      std::memcpy(id.internal, found.data(), found.size());
    }
    library->check(library->comm_init_rank(&nccl, size, id, rank));
    return library;
  }
};

char *plmicd_store_open(const char *host, uint16_t port, int32_t is_host, int64_t timeout_ms,
                        plmicd_store **out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_host != 0;
    options.waitWorkers = false;
    if (is_host != 0) options.masterListenFd = listen_on_loopback(host, &options.port);
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new plmicd_store{c10::make_intrusive<c10d::TCPStore>(std::string(host), options)};
  });
}

void plmicd_store_close(plmicd_store *store) { delete store; }

char *plmicd_store_set(plmicd_store *store, const char *key, const uint8_t *value, size_t length) {
  return guarded([&] { store->store->set(std::string(key), std::vector<uint8_t>(value, value + length)); });
}

char *plmicd_store_has(plmicd_store *store, const char *key, int32_t *out) {
  return guarded([&] { *out = store->store->check({std::string(key)}) ? 1 : 0; });
}

// The value is freed with plmicd_free.
char *plmicd_store_get(plmicd_store *store, const char *key, char **out, size_t *length) {
  return guarded([&] {
    const std::vector<uint8_t> value = store->store->get(std::string(key));
    *out = static_cast<char *>(std::malloc(value.size() + 1));
    TORCH_CHECK(*out != nullptr, "out of memory");
    std::memcpy(*out, value.data(), value.size());
    *length = value.size();
  });
}

// `address` is what this process is reached at: a host name or an address, an interface, or empty for what the host's name
// stands for.
char *plmicd_group_join(plmicd_store *store, const char *prefix, int32_t rank, int32_t size, int64_t timeout_ms,
                        const char *address, const char *interface, plmicd_group **out) {
  return guarded([&] {
    const std::chrono::milliseconds timeout(timeout_ms);
    auto own = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store->store);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    if (*interface != 0) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    } else if (*address != 0) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    } else {
      options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    }
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(own, rank, size, options);
    *out = new plmicd_group{own, gloo, rank, size};
  });
}

void plmicd_group_leave(plmicd_group *group) { delete group; }

// Ends what the GPU may still be waiting for: whatever is queued after it would wait too.
void plmicd_group_abort(plmicd_group *group) {
  if (group->nccl != nullptr) Nccl::get()->comm_abort(group->nccl);
  group->nccl = nullptr;
}

char *plmicd_group_all_reduce(plmicd_group *group, tensor x) {
  return guarded([&] {
    TORCH_CHECK(x->is_contiguous(), "an all-reduce takes a contiguous tensor");
    if (x->is_cuda()) {
      // NCCL's group and its stream belong to the GPU that is current.
      const c10::DeviceGuard on(x->device());
      if (const Nccl *nccl = group->gpu()) {
        void *data = x->mutable_data_ptr();
        // The null stream is libtorch's current one.
        nccl->check(nccl->all_reduce(data, data, x->numel(), nccl_type(*x), kNcclSum, group->nccl, nullptr));
        return;
      }
    }
    std::vector<at::Tensor> tensors{x->is_cpu() ? *x : x->cpu()};
    group->gloo->allreduce(tensors)->wait();
    if (!x->is_cpu()) x->copy_(tensors[0]);
  });
}

char *plmicd_group_broadcast(plmicd_group *group, tensor x, int32_t root) {
  return guarded([&] {
    TORCH_CHECK(x->is_contiguous(), "a broadcast takes a contiguous tensor");
    c10::NoGradGuard no_grad;
    if (x->is_cuda()) {
      const c10::DeviceGuard on(x->device());
      if (const Nccl *nccl = group->gpu()) {
        void *data = x->mutable_data_ptr();
        nccl->check(nccl->broadcast(data, data, x->numel(), nccl_type(*x), root, group->nccl, nullptr));
        return;
      }
    }
    std::vector<at::Tensor> tensors{x->is_cpu() ? x->detach() : x->detach().cpu()};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group->gloo->broadcast(tensors, options)->wait();
    if (!x->is_cpu()) x->copy_(tensors[0]);
  });
}
}
