// pydisent._C: loading it registers the kernels (see bind/); it reports how it was built.
#include <pybind11/pybind11.h>

#include "bind/fits.h"
#include "cpu/simd.h"

namespace py = pybind11;

static py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["flags"] = PYDISENT_FLAGS;
  info["torch"] = PYDISENT_TORCH;
#ifdef PYDISENT_WITH_CUDA
  info["cuda"] = true;
  info["cuda_archs"] = PYDISENT_CUDA_ARCHS;
  info["cuda_reason"] = "";
#else
  info["cuda"] = false;
  info["cuda_archs"] = "";
  info["cuda_reason"] = PYDISENT_CUDA_REASON;
#endif
  return info;
}

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of pydisent; importing this registers them.";
  m.def("build_info", &build_info, "How the module was built.");
  m.def("instruction_set", &pydisent::instruction_set_name, "The CPU kernels' instruction set.");
  pydisent::add_fits(m.ptr());
}
