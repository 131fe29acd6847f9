// How programs here tell whether two kernels computed the same.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using Numbers = std::vector<double>;

// Whether b is a to rounding, in the largest of the numbers, which are not all zero.
inline bool same(const char* what, const Numbers& a, const Numbers& b, double epsilon = 2e-16) {
  double error = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error = std::fmax(error, std::fabs(a[i] - b[i]));
    largest = std::fmax(largest, std::fabs(a[i]));
    if (std::isnan(b[i])) error = INFINITY;
  }
  const bool fine = largest > 0 && error <= 5000 * epsilon * largest;
  std::printf("  %-12s error %.1e of %.1e%s\n", what, error, largest, fine ? "" : "  WRONG");
  return fine;
}
