// The scheduler: all blocks of a launch that are resident, all their threads as fibers of one thread of the host.
//
// A thread runs until it has to wait (barrier, warp operation, grid barrier) or polls; then another one does. The seed decides
// the order. 0: the first warp goes as far as it gets before the second begins, and its lanes ascend; so a warp runs ahead of
// all that no barrier binds it to. 1: the same from the last warp and lane down. Other numbers: now one warp as far as it gets,
// now all warps in step, lanes shuffled anew at every step. A seed gives the same order every time.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "rooms.hpp"
#include "runtime.hpp"

namespace shim {

constexpr size_t FENCE = 256;  // bytes around dynamic shared memory that nobody may write
constexpr unsigned char FENCE_BYTE = 0xA5;
constexpr unsigned IDLE_ROUNDS = 20000;  // rounds in which every thread only polls, until they are said to wait for ever

struct Block;

inline bool operator!=(const Where& a, const Where& b) { return a.line != b.line || strcmp(a.file, b.file) != 0; }

inline std::string text_of(const Where& where) {
    const char* slash = strrchr(where.file, '/');
    return where.line == 0 ? "" : std::string(" (") + (slash ? slash + 1 : where.file) + ":" + std::to_string(where.line) + ")";
}

struct PendingCopy {
    void* to;
    const void* from;  // nullptr: zeros
    size_t bytes;
    unsigned group;
};

struct Fiber {
    Context context;
    char* stack = nullptr;
    Block* block = nullptr;
    uint3 thread{};
    unsigned linear = 0, lane = 0, warp = 0;
    bool is_done = false;
    const char* waits_in = "the queue";
    Where where;
    int predicate = 0, count = 0;
    unsigned copy_group = 0;
    std::vector<PendingCopy> copies;
};

struct WarpMeeting {
    unsigned warp, mask, arrived;
    const char* operation;
    void (*combine)(void**, unsigned);
    void* data[32];
};

// Who used a byte of shared memory last, and after which barrier (races.hpp).
struct LastUses {
    uint32_t written = 0, read = 0;  // 0: not since the block began
    uint8_t writer = 0, reader = 0;  // warps
    bool is_atomic = false;          // the write
    bool has_readers = false;        // several warps have read
};

struct Block {
    uint3 index{};
    std::vector<Fiber> fibers;
    std::vector<std::vector<Fiber*>> ready;  // by warp
    size_t ready_count = 0;
    std::vector<Fiber*> polling, at_barrier, at_grid;
    std::vector<WarpMeeting> meetings;
    std::vector<unsigned> exited;  // lanes of each warp
    size_t live = 0;
    std::vector<unsigned char> fixed_shared;
    unsigned char *dynamic_shared, *dynamic_end;  // its first byte; the protected page
    uint32_t barriers = 1;  // of the block that all have passed, and one
    Where barrier;          // the last
    std::vector<LastUses> uses;  // of shared memory, if races are looked for

    inline Block();
    inline ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
};

// The xorshift generator of Marsaglia with shifts 13, 7, 17, started at a scrambled seed.
class Random {
  public:
    using result_type = uint64_t;
    explicit Random(uint64_t seed = 0) : state_((seed + 1) * 0x9E3779B97F4A7C15ull) {
        for (int i = 0; i < 8; i++) (*this)();
    }
    static constexpr result_type min() { return 1; }
    static constexpr result_type max() { return ~0ull; }
    result_type operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        return state_ ^= state_ << 17;
    }

  private:
    uint64_t state_;
};

struct Launch {
    const Request* request = nullptr;
    Random random;
    std::string error;
    std::vector<std::unique_ptr<Block>> resident;
    size_t block_count = 0;
    unsigned long long progress = 0;  // grows with everything but polling
    unsigned atomics_in_a_row = 0;

    unsigned seed() const { return request->seed; }
    size_t fixed_shared_bytes() const { return static_cast<size_t>(request->fixed_shared_end - request->fixed_shared); }
};

// The last thing that a thread did, if the system stopped it.
struct Fault {
    int signal = 0;         // 0: none
    uintptr_t address = 0;
    const char* access = "";
};

static Launch* launch_now = nullptr;
static Block* block_now = nullptr;
static Fiber* fiber_now = nullptr;  // nullptr while the scheduler runs
static Fault fault_now;
static void* race_code = nullptr;  // what was about to use shared memory
static Context scheduler_context;
static Stacks stacks;
static Rooms rooms;

inline Block::Block() : dynamic_end(rooms.take()) {
    const size_t bytes = launch_now->request->shared_bytes;
    dynamic_shared = dynamic_end - (bytes + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
    memset(dynamic_shared - FENCE, FENCE_BYTE, static_cast<size_t>(dynamic_end - dynamic_shared) + FENCE);
    memset(dynamic_shared, POISON, bytes);
}
inline Block::~Block() { rooms.give(dynamic_end); }

inline std::string name_of(const uint3& at) {
    return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

inline void fail_with(const std::string& message, const Block& block) {
    if (!launch_now->error.empty()) return;
    launch_now->error =
        std::string("kernel ") + launch_now->request->kernel + ", block " + name_of(block.index) + ": " + message;
}

inline void suspend() { switch_context(fiber_now->context, scheduler_context); }

// Called by a thread; the launch ends, so it never goes on.
[[noreturn]] inline void fail(const std::string& message) {
    fail_with(message, *block_now);
    suspend();
    __builtin_unreachable();
}

inline void wait_in(const char* operation, Where where) {
    fiber_now->waits_in = operation;
    fiber_now->where = where;
    suspend();
}

inline void make_ready(Block& block, Fiber* fiber) {
    fiber->waits_in = "the queue";
    fiber->where = {};
    block.ready[fiber->warp].push_back(fiber);
    block.ready_count++;
}

inline std::string threads_text(const std::vector<unsigned>& threads) {
    std::string text;
    for (size_t i = 0, shown = 0; i < threads.size(); shown++) {
        size_t j = i;
        while (j + 1 < threads.size() && threads[j + 1] == threads[j] + 1) j++;
        if (shown == 6) return text + ", ...";
        text += (text.empty() ? "" : ", ") + std::to_string(threads[i]);
        if (j > i) text += "-" + std::to_string(threads[j]);
        i = j + 1;
    }
    return text;
}

// "threads 0-31 wait in __syncthreads (gates.cu:40); ..." for one block.
inline std::string describe_waits(const Block& block) {
    std::vector<const Fiber*> first;
    std::vector<std::vector<unsigned>> members;
    std::vector<unsigned> exited;
    for (const Fiber& fiber : block.fibers) {
        if (fiber.is_done) {
            exited.push_back(fiber.linear);
            continue;
        }
        size_t i = 0;
        while (i < first.size() && (strcmp(first[i]->waits_in, fiber.waits_in) != 0 || first[i]->where != fiber.where)) i++;
        if (i == first.size()) first.push_back(&fiber), members.emplace_back();
        members[i].push_back(fiber.linear);
    }
    std::string text;
    for (size_t i = 0; i < first.size(); i++)
        text += (i ? "; threads " : "threads ") + threads_text(members[i]) + " wait in " + first[i]->waits_in +
                text_of(first[i]->where);
    if (!exited.empty()) text += "; threads " + threads_text(exited) + " have ended";
    return text;
}

inline void put_in_order(std::vector<Fiber*>& list) {
    if (launch_now->seed() == 0)
        std::sort(list.begin(), list.end(), [](const Fiber* a, const Fiber* b) { return a->linear < b->linear; });
    else if (launch_now->seed() == 1)
        std::sort(list.begin(), list.end(), [](const Fiber* a, const Fiber* b) { return a->linear > b->linear; });
    else
        std::shuffle(list.begin(), list.end(), launch_now->random);
}

// Threads of one warp that can go on, in order.
inline void take_warp(Block& block, size_t warp, std::vector<Fiber*>& batch) {
    batch.clear();
    batch.swap(block.ready[warp]);
    block.ready_count -= batch.size();
    put_in_order(batch);
}

// The warp that goes on next where warps run ahead of each other; one is there.
inline size_t choose_warp(const Block& block) {
    const auto& ready = block.ready;
    const size_t many = ready.size(), seed = launch_now->seed();
    size_t warp = seed == 0 ? 0 : seed == 1 ? many - 1 : launch_now->random() % many;
    while (ready[warp].empty()) warp = seed == 1 ? warp - 1 : (warp + 1) % many;
    return warp;
}

// All live threads of the block stand at a barrier: they must all be there, and at the same one.
inline void release_barrier_when_full(Block& block) {
    if (block.at_barrier.empty() || block.at_barrier.size() != block.live) return;
    bool is_one_place = true;
    int count = 0;
    for (const Fiber* fiber : block.at_barrier) {
        is_one_place = is_one_place && !(fiber->where != block.at_barrier[0]->where);
        count += fiber->predicate != 0;
    }
    if (block.live != block.fibers.size() || !is_one_place)
        return fail_with("barrier divergence: " + describe_waits(block), block);
    launch_now->progress++;
    block.barriers++;
    block.barrier = block.at_barrier[0]->where;
    for (Fiber* fiber : block.at_barrier) {
        fiber->count = count;
        make_ready(block, fiber);
    }
    block.at_barrier.clear();
}

inline void enter_fiber() {
    launch_now->request->run(launch_now->request->arguments);
    fiber_now->is_done = true;
    suspend();
}

inline void finish(Block& block, Fiber& fiber) {
    launch_now->progress++;
    block.live--;
    block.exited[fiber.warp] |= 1u << fiber.lane;
    if (!stacks.give(fiber.stack)) fail_with("thread " + std::to_string(fiber.linear) + " needs a larger stack", block);
    for (const WarpMeeting& meeting : block.meetings)
        if (meeting.warp == fiber.warp && (meeting.mask >> fiber.lane & 1))
            fail_with(
                "lane " + std::to_string(fiber.lane) + " of warp " + std::to_string(fiber.warp) +
                    " has ended, but the mask of " + meeting.operation + " names it: " + describe_waits(block),
                block
            );
    release_barrier_when_full(block);
}

inline void report_fault(Block& block, const Fiber& fiber);

inline void resume(Block& block, Fiber& fiber) {
    if (fiber.stack == nullptr) {
        fiber.stack = stacks.take();
        prepare(fiber.context, fiber.stack, enter_fiber);
    }
    fiber_now = &fiber;
    now.thread = fiber.thread;
    now.lane = fiber.lane;
    launch_now->atomics_in_a_row = 0;
    switch_context(scheduler_context, fiber.context);
    fiber_now = nullptr;
    if (fault_now.signal != 0) return report_fault(block, fiber);
    if (fiber.is_done) finish(block, fiber);
}

}  // namespace shim
