#include "native.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <string>

const char *native_version(void) { return TORCH_VERSION; }

const char *native_cpu_capability(void) {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

void native_set_num_threads(int n) { at::set_num_threads(n); }

int native_get_num_threads(void) { return at::get_num_threads(); }
