#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace splat {
namespace {

struct Job {
    void (*run)(void*, int);
    void* context;
    int count;
    std::atomic<int> next{0};
    int wanted;      // threads that may still join, guarded by the pool's mutex
    int inside = 0;  // threads that have joined and not left

    void work() {
        for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) run(context, i);
    }
};

class Pool {
public:
    void run(int threads, Job& job) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(started_) < threads - 1) start();
            jobs_.push_back(&job);
        }
        for (int i = 0; i < job.wanted; ++i) work_.notify_one();
        job.work();
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        left_.wait(lock, [&] { return job.inside == 0; });
    }

private:
    void start() {
        std::thread([this] { serve(); }).detach();
        ++started_;
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = nullptr;
            work_.wait(lock, [&] { return (job = open_job()) != nullptr; });
            --job->wanted;
            ++job->inside;
            lock.unlock();
            job->work();
            lock.lock();
            if (--job->inside == 0) left_.notify_all();
        }
    }

    Job* open_job() {
        for (Job* job : jobs_)
            if (job->wanted > 0 && job->next.load(std::memory_order_relaxed) < job->count) return job;
        return nullptr;
    }

    std::mutex mutex_;
    std::condition_variable work_, left_;
    std::vector<Job*> jobs_;
    size_t started_ = 0;
};

// Never destroyed: its threads may outlive main(). A forked child has none of them, and takes a new pool.
Pool* pool = nullptr;

void renew_pool() { pool = new Pool; }

Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        renew_pool();
        pthread_atfork(nullptr, nullptr, renew_pool);
    });
    return *pool;
}

}  // namespace

void run_tasks(int threads, int count, void (*run)(void*, int), void* context) {
    threads = std::min(threads, count);
    if (threads <= 1) {
        for (int i = 0; i < count; ++i) run(context, i);
        return;
    }
    Job job;
    job.run = run, job.context = context, job.count = count, job.wanted = threads - 1;
    the_pool().run(threads, job);
}

}  // namespace splat
