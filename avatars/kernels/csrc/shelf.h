// Things that are kept between calls, since making them anew would cost new pages of memory each time.

#pragma once

#include <pthread.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace splat {

// Never destroyed, since things may be given back while the process ends. A forked child begins with an empty one: the
// mutex may have been locked by a thread that it does not have.
template <class Thing, size_t kMost>
class Shelf {
public:
    // The first that `fits`, or null.
    template <class Fits>
    static std::unique_ptr<Thing> take(Fits fits) {
        Shelf& shelf = the_shelf();
        std::lock_guard<std::mutex> lock(shelf.mutex_);
        for (size_t i = shelf.things_.size(); i-- > 0;)
            if (fits(*shelf.things_[i])) {
                std::unique_ptr<Thing> thing = std::move(shelf.things_[i]);
                shelf.things_.erase(shelf.things_.begin() + i);
                return thing;
            }
        return nullptr;
    }

    // Where there are too many, the one that has lain longest goes.
    static void give(std::unique_ptr<Thing> thing) {
        std::unique_ptr<Thing> oldest;
        Shelf& shelf = the_shelf();
        std::lock_guard<std::mutex> lock(shelf.mutex_);
        shelf.things_.push_back(std::move(thing));
        if (shelf.things_.size() <= kMost) return;
        oldest = std::move(shelf.things_.front());
        shelf.things_.erase(shelf.things_.begin());
    }

private:
    static Shelf*& place() {
        static Shelf* shelf = nullptr;
        return shelf;
    }

    static Shelf& the_shelf() {
        static std::once_flag once;
        std::call_once(once, [] {
            place() = new Shelf;
            pthread_atfork(nullptr, nullptr, [] { place() = new Shelf; });
        });
        return *place();
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<Thing>> things_;
};

}  // namespace splat
