#include "adam.h"

#include <algorithm>
#include <cmath>

#include "thread_pool.h"

namespace splat {
namespace {

constexpr int64_t kChunk = 1 << 14;

}  // namespace

void step_adam(const Adam& a, int threads) {
    parallel(threads, static_cast<int>((a.count + kChunk - 1) / kChunk), [&](int chunk) {
        const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, a.count);
        float* __restrict x = a.values;
        float* __restrict g = a.gradient;
        float* __restrict m = a.first;
        float* __restrict v = a.second;
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) {
            m[i] += (1.0f - a.beta1) * (g[i] - m[i]);
            v[i] += (1.0f - a.beta2) * (g[i] * g[i] - v[i]);
            x[i] -= a.rate * m[i] / (std::sqrt(v[i]) * a.spread + a.epsilon);
            g[i] = 0.0f;
        }
    });
}

}  // namespace splat
