// Running a launch: blocks become resident, take turns, and end.
#pragma once

#include "scheduler.hpp"

namespace shim {

constexpr size_t ALIGNMENT = 128;

inline unsigned char* first_shared(Block& block) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(block.dynamic_shared.data()) + FENCE + ALIGNMENT - 1;
    return reinterpret_cast<unsigned char*>(first / ALIGNMENT * ALIGNMENT);
}

inline std::unique_ptr<Block> make_block(unsigned number) {
    const Request& request = *launch_now->request;
    const unsigned *grid = request.grid, *size = request.block;
    auto block = std::make_unique<Block>();
    block->index = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
    block->live = size_t{size[0]} * size[1] * size[2];
    block->fibers.resize(block->live);
    block->exited.assign((block->live + 31) / 32, 0);
    block->fixed_shared.assign(launch_now->fixed_shared_bytes(), POISON);
    block->dynamic_shared.assign(request.shared_bytes + 2 * FENCE + ALIGNMENT, FENCE_BYTE);
    memset(first_shared(*block), POISON, request.shared_bytes);
    for (unsigned i = 0; i < block->live; i++) {
        Fiber& fiber = block->fibers[i];
        fiber.block = block.get();
        fiber.linear = i;
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.thread = {i % size[0], i / size[0] % size[1], i / size[0] / size[1]};
        block->ready.push_back(&fiber);
    }
    return block;
}

inline void check_fences(Block& block) {
    const unsigned char* first = first_shared(block);
    const size_t bytes = launch_now->request->shared_bytes;
    for (size_t i = 0; i < FENCE; i++)
        if (first[i - FENCE] != FENCE_BYTE || first[bytes + i] != FENCE_BYTE)
            return fail_with("a write outside the " + std::to_string(bytes) + " bytes of dynamic shared memory", block);
}

// One turn of a block: it runs until all its threads wait or poll.
inline void take_turn(Block& block) {
    char* fixed = launch_now->request->fixed_shared;
    block_now = &block;
    now.block = block.index;
    if (!block.fixed_shared.empty()) memcpy(fixed, block.fixed_shared.data(), block.fixed_shared.size());
    for (Fiber* fiber : block.polling) make_ready(block, fiber);
    block.polling.clear();
    std::vector<Fiber*> batch;
    while (!block.ready.empty() && launch_now->error.empty()) {
        batch.clear();
        batch.swap(block.ready);
        put_in_order(batch);
        for (Fiber* fiber : batch) {
            resume(block, *fiber);
            if (!launch_now->error.empty()) break;
        }
    }
    if (!block.fixed_shared.empty()) memcpy(block.fixed_shared.data(), fixed, block.fixed_shared.size());
    check_fences(block);
}

// Grid barrier: every thread of the grid must be there.
inline bool release_grid() {
    Launch& launch = *launch_now;
    for (const auto& block : launch.resident)
        if (block->at_grid.size() != block->fibers.size()) return false;
    if (launch.resident.size() != launch.block_count) return false;
    launch.progress++;
    for (const auto& block : launch.resident) {
        for (Fiber* fiber : block->at_grid) make_ready(*block, fiber);
        block->at_grid.clear();
    }
    return true;
}

inline void report_deadlock(const char* what) {
    const auto& resident = launch_now->resident;
    std::string text = std::string(what) + ": " + describe_waits(*resident[0]);
    for (size_t i = 1; i < resident.size() && i < 3; i++)
        text += "; block " + name_of(resident[i]->index) + ": " + describe_waits(*resident[i]);
    fail_with(text, *resident[0]);
}

// Every resident block takes a turn; those that have ended leave.
inline void run_round() {
    Launch& launch = *launch_now;
    if (launch.seed() > 1) std::shuffle(launch.resident.begin(), launch.resident.end(), launch.random);
    for (const auto& block : launch.resident) {
        take_turn(*block);
        if (!launch.error.empty()) return;
    }
}

// Numbers of the blocks, the next one last.
inline std::vector<unsigned> queue_of_blocks(Launch& launch) {
    std::vector<unsigned> queue(launch.block_count);
    for (size_t i = 0; i < queue.size(); i++) queue[i] = static_cast<unsigned>(queue.size() - 1 - i);
    if (launch.seed() == 1) std::reverse(queue.begin(), queue.end());
    if (launch.seed() > 1) std::shuffle(queue.begin(), queue.end(), launch.random);
    return queue;
}

// Blocks that have ended make room; those of a cooperative launch stay, because a grid barrier counts all.
inline void dismiss(Launch& launch) {
    auto has_ended = [](const std::unique_ptr<Block>& block) { return block->live == 0; };
    auto& list = launch.resident;
    if (!launch.request->is_cooperative)
        list.erase(std::remove_if(list.begin(), list.end(), has_ended), list.end());
    else if (std::all_of(list.begin(), list.end(), has_ended))
        list.clear();
}

inline void run_blocks(Launch& launch) {
    std::vector<unsigned> queue = queue_of_blocks(launch);
    const size_t most = launch.request->is_cooperative ? queue.size() : launch.seed() > 1 ? 4 : 1;
    unsigned idle = 0;
    while (launch.error.empty()) {
        for (; launch.resident.size() < most && !queue.empty(); queue.pop_back())
            launch.resident.push_back(make_block(queue.back()));
        if (launch.resident.empty()) return;
        const unsigned long long before = launch.progress;
        run_round();
        if (!launch.error.empty()) return;
        if (!release_grid()) dismiss(launch);
        idle = launch.progress != before ? 0 : idle + 1;
        bool is_polling = false;
        for (const auto& block : launch.resident) is_polling = is_polling || !block->polling.empty();
        if (idle > 0 && !is_polling) report_deadlock("deadlock");
        if (idle > IDLE_ROUNDS) report_deadlock("every thread polls or waits, and nothing changes");
    }
}

inline void run_launch(Launch& launch) {
    const Request& request = *launch.request;
    launch_now = &launch;
    launch.random = Random(request.seed);
    launch.block_count = size_t{request.grid[0]} * request.grid[1] * request.grid[2];
    now.grid_size = dim3(request.grid[0], request.grid[1], request.grid[2]);
    now.block_size = dim3(request.block[0], request.block[1], request.block[2]);
    run_blocks(launch);
    for (const auto& block : launch.resident)  // those that an error left behind
        for (Fiber& fiber : block->fibers)
            if (fiber.stack != nullptr && !fiber.is_done) stacks.give(fiber.stack);
    launch.resident.clear();
    launch_now = nullptr;
}

}  // namespace shim
