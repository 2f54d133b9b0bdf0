// Barriers and warp operations.
//
// Lanes that meet in a warp operation leave their operands where the others can see them; the last one to come does the work
// for all. What the hardware leaves undefined (a value of a lane that does not take part) is poison here.
#pragma once

#include <string.h>

#include "runtime.hpp"

namespace shim {

template <class Data>
void meet_typed(unsigned mask, const char* name, Data& mine, void (*combine)(Data**, unsigned), Where where) {
    meet(mask, name, &mine, reinterpret_cast<void (*)(void**, unsigned)>(combine), where);
}

template <class T>
struct Vote {
    T value;
    unsigned result;
};

template <class T>
struct Shuffle {
    T value;
    int source;  // lane to read, -1: the own value
    T result;
};

template <class T>
T poisoned() {
    T value;
    memset(&value, POISON, sizeof value);
    return value;
}

template <class T>
T shuffle(unsigned mask, const char* name, T value, int source, Where where) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Shuffle<T> mine{value, source, value};
    meet_typed<Shuffle<T>>(
        mask, name, mine,
        [](Shuffle<T>** lanes, unsigned present) {
            for (unsigned lane = 0; lane < 32; lane++) {
                if (!(present >> lane & 1) || lanes[lane]->source < 0) continue;
                const int from = lanes[lane]->source;
                lanes[lane]->result = present >> from & 1 ? lanes[from]->value : poisoned<T>();
            }
        },
        where
    );
    return mine.result;
}

// A fold of the values of all lanes, in ascending order; all get the result.
template <class T, class Fold>
unsigned vote(unsigned mask, const char* name, T value, Fold, Where where) {
    Vote<T> mine{value, 0};
    meet_typed<Vote<T>>(mask, name, mine, [](Vote<T>** lanes, unsigned present) { Fold::run(lanes, present); }, where);
    return mine.result;
}

struct Ballot {
    static void run(Vote<int>** lanes, unsigned present) {
        unsigned word = 0;
        for (unsigned lane = 0; lane < 32; lane++)
            if ((present >> lane & 1) && lanes[lane]->value != 0) word |= 1u << lane;
        for (unsigned lane = 0; lane < 32; lane++)
            if (present >> lane & 1) lanes[lane]->result = word;
    }
};

template <class T>
struct Match {
    static void run(Vote<T>** lanes, unsigned present) {
        for (unsigned lane = 0; lane < 32; lane++) {
            if (!(present >> lane & 1)) continue;
            lanes[lane]->result = 0;
            for (unsigned other = 0; other < 32; other++)
                if ((present >> other & 1) && memcmp(&lanes[other]->value, &lanes[lane]->value, sizeof(T)) == 0)
                    lanes[lane]->result |= 1u << other;
        }
    }
};

template <class T, class Operation>
struct Reduce {
    static void run(Vote<T>** lanes, unsigned present) {
        const unsigned first = static_cast<unsigned>(__builtin_ctz(present));
        T total = lanes[first]->value;
        for (unsigned lane = first + 1; lane < 32; lane++)
            if (present >> lane & 1) total = Operation::of(total, lanes[lane]->value);
        for (unsigned lane = 0; lane < 32; lane++)
            if (present >> lane & 1) lanes[lane]->result = static_cast<unsigned>(total);
    }
};

}  // namespace shim

inline void __syncthreads(SHIM_WHERE) { shim::barrier("__syncthreads", 0, {file, line}); }
inline int __syncthreads_count(int p, SHIM_WHERE) { return shim::barrier("__syncthreads_count", p, {file, line}); }
inline int __syncthreads_or(int p, SHIM_WHERE) { return shim::barrier("__syncthreads_or", p, {file, line}) > 0; }
inline int __syncthreads_and(int p, SHIM_WHERE) { return shim::barrier("__syncthreads_and", p == 0, {file, line}) == 0; }

inline void __syncwarp(unsigned mask = ~0u, SHIM_WHERE) { shim::vote(mask, "__syncwarp", 0, shim::Ballot{}, {file, line}); }

inline unsigned __ballot_sync(unsigned mask, int p, SHIM_WHERE) {
    return shim::vote(mask, "__ballot_sync", p, shim::Ballot{}, {file, line});
}
inline int __any_sync(unsigned mask, int p, SHIM_WHERE) {
    return shim::vote(mask, "__any_sync", p, shim::Ballot{}, {file, line}) != 0;
}
inline int __all_sync(unsigned mask, int p, SHIM_WHERE) {
    return shim::vote(mask, "__all_sync", p == 0 ? 1 : 0, shim::Ballot{}, {file, line}) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, SHIM_WHERE) {
    return shim::vote(mask, "__match_any_sync", value, shim::Match<T>{}, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SHIM_WHERE) {
    const int lane = static_cast<int>(shim::now.lane);
    return shim::shuffle(mask, "__shfl_sync", value, (lane & ~(width - 1)) | (source & (width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, SHIM_WHERE) {
    const int lane = static_cast<int>(shim::now.lane), last = lane | (width - 1);
    return shim::shuffle(mask, "__shfl_xor_sync", value, (lane ^ with) <= last ? lane ^ with : -1, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, SHIM_WHERE) {
    const unsigned lane = shim::now.lane, last = lane | static_cast<unsigned>(width - 1);
    return shim::shuffle(mask, "__shfl_down_sync", value, lane + by <= last ? static_cast<int>(lane + by) : -1, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, SHIM_WHERE) {
    const unsigned lane = shim::now.lane, first = lane & ~static_cast<unsigned>(width - 1);
    return shim::shuffle(mask, "__shfl_up_sync", value, lane >= first + by ? static_cast<int>(lane - by) : -1, {file, line});
}

#define SHIM_REDUCE(name, expression)                                                                             \
    struct name##_operation {                                                                                     \
        template <class T>                                                                                        \
        static T of(T a, T b) {                                                                                   \
            return expression;                                                                                    \
        }                                                                                                         \
    };                                                                                                            \
    template <class T>                                                                                            \
    T name(unsigned mask, T value, SHIM_WHERE) {                                                                  \
        static_assert(sizeof(T) == 4, "reductions are of 32-bit integers");                                       \
        return static_cast<T>(shim::vote(mask, #name, value, shim::Reduce<T, name##_operation>{}, {file, line})); \
    }

SHIM_REDUCE(__reduce_add_sync, a + b)
SHIM_REDUCE(__reduce_min_sync, a < b ? a : b)
SHIM_REDUCE(__reduce_max_sync, a > b ? a : b)
SHIM_REDUCE(__reduce_and_sync, a& b)
SHIM_REDUCE(__reduce_or_sync, a | b)
SHIM_REDUCE(__reduce_xor_sync, a ^ b)
#undef SHIM_REDUCE
