#include "lanes_plain.h"

#define SPLAT_KERNELS kernels_plain
#define SPLAT_NAME "plain"
#include "kernels.inl"
