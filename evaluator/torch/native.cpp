#include "native.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <string>

#include <dlfcn.h>

const char *native_version(void) { return TORCH_VERSION; }

const char *native_cpu_capability(void) {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

void native_set_num_threads(int n) { at::set_num_threads(n); }

int native_get_num_threads(void) { return at::get_num_threads(); }

int native_cuda_capability(int device) {
  // The driver's library is on every machine with a GPU, and needs nothing of CUDA to build with.
  static void *const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) return 0;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<int (*)(int *, int)>(dlsym(driver, "cuDeviceGet"));
  const auto attribute = reinterpret_cast<int (*)(int *, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
  const int majorNumber = 75, minorNumber = 76; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
  int handle, major, minor;
  if (!init || !get || !attribute || init(0) || get(&handle, device)) return 0;
  if (attribute(&major, majorNumber, handle) || attribute(&minor, minorNumber, handle)) return 0;
  return 10 * major + minor;
}
