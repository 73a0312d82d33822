// A step of Adam (Kingma & Ba 2015), which also clears the gradient: the definition is torch.optim.Adam.

#pragma once

#include <cstdint>

namespace splat {

struct Adam {
    float *values, *gradient, *first, *second;  // the last two: running means of the gradient and of its square
    int64_t count;
    float beta1, beta2;
    float rate;    // over the first mean's correction 1 - beta1^steps
    float spread;  // one over the square root of the second mean's correction 1 - beta2^steps
    float epsilon;
};
void step_adam(const Adam& adam, int threads);

}  // namespace splat
