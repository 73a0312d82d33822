// Memory that is kept between calls: it grows, and what it holds is not initialized.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

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
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
        const size_t wanted = count + count / 4 + 16;
        if (posix_memalign(reinterpret_cast<void**>(&data_), 64, wanted * sizeof(T)) != 0) throw std::bad_alloc();
        capacity_ = wanted;
        return data_;
    }

    T* data() { return data_; }

private:
    T* data_ = nullptr;
    size_t capacity_ = 0;
};

}  // namespace splat
