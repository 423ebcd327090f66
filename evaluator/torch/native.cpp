#include "native.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/gelu.h>
#include <torch/version.h>

#include <cstring>
#include <exception>
#include <string>

const char *native_version(void) { return TORCH_VERSION; }

const char *native_cpu_capability(void) {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

void native_set_num_threads(int n) { at::set_num_threads(n); }

int native_get_num_threads(void) { return at::get_num_threads(); }

char *native_gelu(void **out, void *self) {
  try {
    *out = new at::Tensor(at::gelu(*static_cast<at::Tensor *>(self)));
    return nullptr;
  } catch (const std::exception &e) {
    return strdup(e.what());
  }
}
