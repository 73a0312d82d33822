#include "lanes_avx512.h"

#define SPLAT_KERNELS kernels_avx512
#define SPLAT_NAME "avx512"
#include "kernels.inl"
