// Runs numbered tasks on a few threads that are kept between calls.
//
// Not OpenMP: GNU's hangs in a forked child once the parent has used it (PyTorch's DataLoader forks), Apple's compiler
// has none, and idle OpenMP threads spin on cores that PyTorch's own need. Here any number of callers may run at once.

#pragma once

namespace splat {

// Calls `run(context, i)` for each i in [0, count), on at most `threads` threads, the caller among them.
void run_tasks(int threads, int count, void (*run)(void*, int), void* context);

template <class Task>
void parallel(int threads, int count, Task task) {
    run_tasks(threads, count, [](void* context, int i) { (*static_cast<Task*>(context))(i); }, &task);
}

}  // namespace splat
