// Helpers on torch's stable ABI, shared by all bindings.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <vector>

#include "../include/dtypes.h"

namespace pydisent {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType dtype_of(const Tensor& x, const char* name) {
  switch (x.scalar_type()) {
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Double:
      return DType::f64;
    default:
      STD_TORCH_CHECK(false, name, " must be float16, bfloat16, float32 or float64");
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline ScalarType compute_type(bool is_double) {
  return is_double ? ScalarType::Double : ScalarType::Float;
}

// Faster than torch::stable::new_empty, contiguous and to, which look operators up by name: on
// small tensors that takes longer than the arithmetic.
inline Tensor empty_strided(const Tensor& like, const std::vector<int64_t>& sizes,
                            const std::vector<int64_t>& strides, ScalarType dtype) {
  int32_t device, index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      sizes.size(), sizes.data(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)), device, index,
      &made));
  return Tensor(made);
}

inline std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t d = sizes.size(); d-- > 1;)
    strides[d - 1] = strides[d] * std::max<int64_t>(sizes[d], 1);
  return strides;
}

inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  return empty_strided(like, sizes, contiguous_strides(sizes), dtype);
}

inline Tensor empty_like(const Tensor& x) {
  if (!x.is_contiguous()) return torch::stable::empty_like(x);
  const auto sizes = x.sizes(), strides = x.strides();
  return empty_strided(x, {sizes.begin(), sizes.end()}, {strides.begin(), strides.end()},
                       x.scalar_type());
}

inline Tensor in_order(const Tensor& x) {
  return x.is_contiguous() ? x : torch::stable::contiguous(x);
}

inline Tensor in_dtype(const Tensor& x, ScalarType dtype) {
  return x.scalar_type() == dtype ? x : torch::stable::to(x, dtype);
}

inline void copy_strides(const Tensor& x, int64_t* out) {
  std::copy_n(x.strides().data(), x.dim(), out);
}

inline void check_shape(const Tensor& x, const char* name, std::vector<int64_t> sizes) {
  bool same = x.dim() == static_cast<int64_t>(sizes.size());
  for (size_t i = 0; same && i < sizes.size(); ++i) same = x.size(i) == sizes[i];
  STD_TORCH_CHECK(same, name, " must have a shape that fits the other arguments");
}

inline void check_like(const Tensor& x, const char* name, const Tensor& like, ScalarType dtype) {
  STD_TORCH_CHECK(x.device() == like.device(), name, " must be on the device of the other tensors");
  STD_TORCH_CHECK(x.scalar_type() == dtype, name, " must have the dtype of the other arguments");
}

// A CPU scalar, float or double.
inline double scalar_of(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.numel() == 1, name, " must be a scalar");
  return x.scalar_type() == ScalarType::Double ? *static_cast<const double*>(x.data_ptr())
                                               : *static_cast<const float*>(x.data_ptr());
}

inline void store_scalar(const Tensor& x, double value) {
  if (x.scalar_type() == ScalarType::Double)
    *static_cast<double*>(x.data_ptr()) = value;
  else
    *static_cast<float*>(x.data_ptr()) = static_cast<float>(value);
}

#ifdef PYDISENT_WITH_CUDA
inline void* current_stream(const Tensor& x) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return stream;
}

// Raises CUDA's error message if a launch failed.
void check_launch(int error);
#endif

}  // namespace pydisent
