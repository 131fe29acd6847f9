// Spatial constriction of a feature map by N codes in turn, and its adjoint. S is the storage type
// of the map; T is float, or double for f64.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

// Rows of pixels are padded to a multiple of this: the lanes of the widest vector of floats.
constexpr int64_t kConstrictionLanes = 16;
// Channels summed together before they are added to the masks' gradient; every block but the last
// of a group has a multiple of this many.
constexpr int64_t kConstrictionTogether = 2;

struct ConstrictionParams {
  const void* x;                // (B, C, P) of S, contiguous; (B, P, C) if channels_last
  const void* masks;            // (B, N, P) contiguous, of mask_type
  const void *scales, *shifts;  // (B, N, C) contiguous of T
  void* statistics;             // (B, 3, C) contiguous of T: the forward writes, the backward reads
  void* out;                    // laid out as x: the result, or the gradient of x
  const void* grad_out;         // laid out as x; backward only, as is all that follows
  const void* grad_statistics;  // (B, 3, C) contiguous of T
  void* partials;               // (B, groups, N + 1, padded) of T: see the pixelwise adjoint
  void* grad_masks;             // (B, N, P) contiguous, of mask_type
  void *grad_scales, *grad_shifts;  // (B, N, C) contiguous of T
  int64_t batch, codes, channels, pixels, padded;
  int64_t block;                   // channels whose planes share the cache
  int64_t groups, group_channels;  // of a sample: work items, and the channels of each
  double eps;
  DType dtype, mask_type;
  bool channels_last;
};

// Runs work items [begin, end) on the calling thread: groups of channels, sample by sample. Neither
// items nor results depend on the number of threads.
void spatial_constriction_cpu(const ConstrictionParams& p, int64_t begin, int64_t end);
void spatial_constriction_backward_cpu(const ConstrictionParams& p, int64_t begin, int64_t end);
// The masks' gradient for samples [begin, end), from the partials of their groups.
void spatial_constriction_masks_cpu(const ConstrictionParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
