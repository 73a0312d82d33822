#include "lanes_avx2.h"

#define SPLAT_KERNELS kernels_avx2
#define SPLAT_NAME "avx2"
#include "kernels.inl"
