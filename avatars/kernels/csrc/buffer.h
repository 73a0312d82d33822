// Memory that is kept between calls: it grows, and what it holds is not initialized.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace splat {

template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    // At least `count` elements, 64-byte aligned; earlier content is lost.
    T* hold(size_t count) {
        if (count <= capacity_) return data_;
        if (count > kMostBytes / sizeof(T)) throw std::bad_alloc();
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
        const size_t wanted = count + count / 4 + 16, bytes = wanted * sizeof(T);
        const bool large = bytes >= 2 * kHugePage;
        if (posix_memalign(reinterpret_cast<void**>(&data_), large ? kHugePage : 64, bytes) != 0)
            throw std::bad_alloc();
#if defined(__linux__)
        // Gaussians are visited in the order of their depth: with small pages nearly each would cost a page walk.
        if (large) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
        capacity_ = wanted;
        return data_;
    }

    T* data() { return data_; }
    size_t capacity() const { return capacity_; }

private:
    static constexpr size_t kHugePage = size_t{1} << 21, kMostBytes = size_t{1} << 48;

    T* data_ = nullptr;
    size_t capacity_ = 0;
};

}  // namespace splat
