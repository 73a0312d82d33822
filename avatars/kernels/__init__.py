"""Our C++ (csrc/): how it is found, its threads, and the optimizers that run in it."""
