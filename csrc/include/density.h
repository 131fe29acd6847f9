// Log-densities of the aggregate posterior on a minibatch, and their adjoint. Everything is
// contiguous, and float or double; memory is linear in the batch.
#pragma once

#include <cstdint>

namespace pydisent {

struct AggregatePosteriorParams {
  const void* z;               // (B, d)
  const void* mu;              // (B, d)
  const void* logvar;          // (B, d)
  void* table;                 // (d, 3, padded): see aggregate_posterior_table_cpu
  void* log_joint;             // (B,): written by the forward, read by the backward
  void* log_marginals;         // (B, d): likewise
  const void* grad_joint;      // (B,); backward only, as is all that follows
  const void* grad_marginals;  // (B, d)
  void* partials;              // (ceil(B / chunk), B, d): each chunk's contribution to grad_z
  void* grad_z;                // (B, d)
  void* grad_mu;               // (B, d)
  void* grad_logvar;           // (B, d)
  int64_t batch, d, padded;    // B, d, B rounded up to a multiple of kDensityLanes
  int64_t chunk;               // columns j per work item of the backward; a multiple of the lanes
  // Log-weights of j = i, of j = i + 1 (mod B), and of any other j.
  double own_weight, following_weight, other_weight;
  bool is_double;
};

constexpr int64_t kDensityLanes = 16;  // lanes of the widest vector of floats
constexpr int64_t kDensityRows = 8;    // rows i per work item of the forward

// All run on the calling thread, in an order that does not depend on the number of threads. Fills
// dimensions [begin, end) of the table, needed by the others: mean, std^(-1/2) and -log(2 pi std²)
// of posterior j.
void aggregate_posterior_table_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end);
// Blocks [begin, end) of kDensityRows rows.
void aggregate_posterior_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end);
// Chunks [begin, end): grad_mu and grad_logvar of their columns, and their partials.
void aggregate_posterior_backward_cpu(const AggregatePosteriorParams& p, int64_t begin,
                                      int64_t end);
// Rows [begin, end) of grad_z, the sum of the partials.
void aggregate_posterior_sum_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
