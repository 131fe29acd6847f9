// Cumulative softmax gates, masks made of them, and their adjoints. S is the storage type.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

// Rows computed side by side: one work item of gates, or about one of masks.
constexpr int64_t kGateRows = 16;

// The logits of one side of M masks of J rectangles, or of M gates (J = 1).
struct GateLogits {
  const void *rise, *fall;                   // (M, J, L) of S; no fall: cumax
  int64_t rise_strides[3], fall_strides[3];  // of M, J and L
  void *grad_rise, *grad_fall;               // (M, J, L) contiguous of S; backward only
  int64_t length;
};

struct GatesParams {
  GateLogits sides[2];      // height and width; gates use only the first
  const void* grad;         // (M, H, W) of S, or (M, L); backward only
  int64_t grad_strides[3];  // of M, H and W; or of M and L in the first and the last
  void* out;                // (M, H, W) contiguous of S, or (M, L); forward only
  int64_t masks, rectangles;
  DType dtype;
};

// Masks per work item, so that their rows fill the lanes.
inline int64_t masks_per_item(int64_t rectangles) {
  return rectangles < kGateRows ? kGateRows / rectangles : 1;
}

// Runs work items [begin, end) on the calling thread: kGateRows gates, or masks_per_item masks.
void band_gate_cpu(const GatesParams& p, int64_t begin, int64_t end);
void band_gate_backward_cpu(const GatesParams& p, int64_t begin, int64_t end);
void band_mask_cpu(const GatesParams& p, int64_t begin, int64_t end);
void band_mask_backward_cpu(const GatesParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
