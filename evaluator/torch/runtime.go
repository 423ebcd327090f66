package torch

// #cgo CXXFLAGS: -std=c++17 -O2 -g0
// #cgo LDFLAGS: -lstdc++ -ltorch_cpu -lc10 -ldl
// #include <malloc.h>
// #include "native.h"
import "C"

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sugarme/gotch/libtch"
	"golang.org/x/sys/cpu"
)

// DType is the element type of a tensor, with libtorch's numbers.
type DType int32

// The element types in use.
const (
	Int32    DType = 3
	Int64    DType = 4
	Float32  DType = 6
	BFloat16 DType = 15
)

var dtypeNames = map[DType]string{Int32: "int32", Int64: "int64", Float32: "float32", BFloat16: "bfloat16"}

// Size is that of an element in bytes.
func (d DType) Size() int {
	switch d {
	case Int64:
		return 8
	case BFloat16:
		return 2
	}
	return 4
}

func (d DType) String() string {
	if name, ok := dtypeNames[d]; ok {
		return name
	}
	return "dtype " + strconv.Itoa(int(d))
}

// Device is where tensors live, with libtch's numbers: -1 is the CPU, n the CUDA device n.
type Device int32

// CPU is the host.
const CPU Device = -1

// ParseDevice reads "cpu", "cuda" or "cuda:N" and checks that the device is there.
func ParseDevice(name string) (Device, error) {
	if name == "cpu" {
		return CPU, nil
	}
	index, ok := 0, name == "cuda"
	if number, found := strings.CutPrefix(name, "cuda:"); found {
		n, err := strconv.Atoi(number)
		index, ok = n, err == nil && n >= 0
	}
	if !ok {
		return CPU, fmt.Errorf("device %q: must be cpu, cuda or cuda:N", name)
	}
	if count := int(libtch.AtcCudaDeviceCount()); index >= count {
		return CPU, fmt.Errorf("device %q: libtorch sees %d CUDA devices; use cpu, or build with CUDA=1 on a machine with "+
			"a driver", name, count)
	}
	return Device(index), nil
}

func (d Device) String() string {
	if d == CPU {
		return "cpu"
	}
	return "cuda:" + strconv.Itoa(int(d))
}

// FastBFloat16 reports whether the device multiplies bfloat16 matrices faster than float32 ones: CPUs
// with AMX or AVX512-BF16, and CUDA devices of compute capability 8.0 (Ampere) or higher.
func (d Device) FastBFloat16() bool {
	if d == CPU {
		return cpu.X86.HasAMXBF16 || cpu.X86.HasAVX512BF16
	}
	return C.native_cuda_capability(C.int(d)) >= 80
}

// BatchTokens is how many tokens a batch without gradients should have: on a CPU enough for its matrix products, and
// few enough that its activations stay below those of training; on a GPU so many that its kernels outlast their
// launches.
func (d Device) BatchTokens() int {
	if d == CPU {
		return 2048
	}
	return 32768
}

var configureAllocator = sync.OnceFunc(func() {
	// By default glibc maps and unmaps large blocks at every step, and each of them costs page faults.
	// One heap that keeps what it has avoids that.
	C.mallopt(C.M_ARENA_MAX, 1)
	C.mallopt(C.M_MMAP_MAX, 0)
	C.mallopt(C.M_TRIM_THRESHOLD, 1<<30)
	C.mallopt(C.M_TOP_PAD, 64<<20)
})

// Configure sets the number of threads of libtorch's operators, at least 1, for the calling OS thread,
// and makes the C allocator keep large blocks. Call it where the scopes are used.
func Configure(threads int) {
	configureAllocator()
	C.native_set_num_threads(C.int(threads))
}

// Version is libtorch's version, e.g. "2.1.2".
func Version() string { return C.GoString(C.native_version()) }

// CPUCapability names the instructions that results on this CPU depend on in their last bits: those of
// libtorch's kernels, and the units that multiply bfloat16 matrices; e.g. "AVX512+AVX512_BF16+AMX_BF16".
func CPUCapability() string {
	capability := C.GoString(C.native_cpu_capability())
	if cpu.X86.HasAVX512BF16 {
		capability += "+AVX512_BF16"
	}
	if cpu.X86.HasAMXBF16 {
		capability += "+AMX_BF16"
	}
	return capability
}

// Threads is the number of threads of libtorch's operators in the calling OS thread.
func Threads() int { return int(C.native_get_num_threads()) }

// PeakRSS is the highest resident memory of this process so far, in bytes.
func PeakRSS() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Maxrss << 10 // Linux counts KiB
}

// NoGrad runs f without recording operations for gradients, and restores the previous mode.
func NoGrad(f func()) {
	previous := libtch.AtGradSetEnabled(0) & 1 // the upper bits are undefined
	defer libtch.AtGradSetEnabled(previous)
	f()
}
