// Memory that ends where nobody may read or write: dynamic shared memory lies flush against protected pages.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shim {

constexpr size_t SHARED_ROOM = 256 * 1024;  // more than the shared memory of any device
constexpr size_t SHARED_GUARD = 4 << 20;     // bytes before and behind a room that nobody may touch
constexpr size_t SHARED_ALIGNMENT = 16;     // what the last bytes may be away from the page

// Rooms of equal size, kept for the next block; pages that nobody touches take no memory.
class Rooms {
  public:
    // The end of a room, where protected pages begin; others lie before the room.
    unsigned char* take() {
        if (free_.empty()) grow();
        unsigned char* end = free_.back();
        free_.pop_back();
        return end;
    }
    void give(unsigned char* end) { free_.push_back(end); }

  private:
    void grow() {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, SHARED_ROOM + 2 * SHARED_GUARD, PROT_NONE, flags, -1, 0);
        if (memory == MAP_FAILED) __builtin_trap();
        unsigned char* first = static_cast<unsigned char*>(memory) + SHARED_GUARD;
        if (mprotect(first, SHARED_ROOM, PROT_READ | PROT_WRITE) != 0) __builtin_trap();
        free_.push_back(first + SHARED_ROOM);
    }

    std::vector<unsigned char*> free_;
};

}  // namespace shim
