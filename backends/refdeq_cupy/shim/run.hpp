// Running a launch: blocks become resident, take turns, and end.
#pragma once

#include "fault.hpp"
#include "scheduler.hpp"

namespace shim {

inline std::unique_ptr<Block> make_block(unsigned number) {
    const Request& request = *launch_now->request;
    const unsigned *grid = request.grid, *size = request.block;
    auto block = std::make_unique<Block>();
    block->index = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
    block->live = size_t{size[0]} * size[1] * size[2];
    block->fibers.resize(block->live);
    block->exited.assign((block->live + 31) / 32, 0);
    block->fixed_shared.assign(launch_now->fixed_shared_bytes(), POISON);
    block->ready.resize(block->exited.size());
    for (unsigned i = 0; i < block->live; i++) {
        Fiber& fiber = block->fibers[i];
        fiber.block = block.get();
        fiber.linear = i;
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.thread = {i % size[0], i / size[0] % size[1], i / size[0] / size[1]};
        make_ready(*block, &fiber);
    }
    return block;
}

inline void check_fences(Block& block) {
    const unsigned char *first = block.dynamic_shared, *end = block.dynamic_end;
    const size_t bytes = launch_now->request->shared_bytes;
    auto is_fence = [](unsigned char byte) { return byte == FENCE_BYTE; };
    if (!std::all_of(first - FENCE, first, is_fence) || !std::all_of(first + bytes, end, is_fence))
        fail_with("a write outside the " + std::to_string(bytes) + " bytes of dynamic shared memory", block);
}

inline void run_batch(Block& block, const std::vector<Fiber*>& batch) {
    for (Fiber* fiber : batch) {
        resume(block, *fiber);
        if (!launch_now->error.empty()) return;
    }
}

// One warp goes on, all its threads once; of seeds above 1 until all of them wait or poll.
inline void run_warp(Block& block, std::vector<Fiber*>& batch) {
    const size_t warp = choose_warp(block);
    do {
        take_warp(block, warp, batch);
        run_batch(block, batch);
    } while (launch_now->seed() > 1 && !block.ready[warp].empty() && launch_now->error.empty());
}

// Every thread that can go on does so once.
inline void step_all(Block& block, std::vector<Fiber*>& batch) {
    batch.clear();
    for (auto& own : block.ready) {
        batch.insert(batch.end(), own.begin(), own.end());
        own.clear();
    }
    block.ready_count = 0;
    put_in_order(batch);
    run_batch(block, batch);
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
    while (block.ready_count != 0 && launch_now->error.empty()) {
        if (launch_now->seed() > 1 && launch_now->random() % 2 == 0)
            step_all(block, batch);
        else
            run_warp(block, batch);
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
        block->barriers++;
        block->barrier = block->at_grid[0]->where;
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
    const FaultHandlers handlers;
    launch_now = &launch;
    race_code = nullptr;
    launch.random = Random(request.seed);
    launch.block_count = size_t{request.grid[0]} * request.grid[1] * request.grid[2];
    now.grid_size = dim3(request.grid[0], request.grid[1], request.grid[2]);
    now.block_size = dim3(request.block[0], request.block[1], request.block[2]);
    if (request.shared_bytes > SHARED_ROOM - FENCE)
        launch.error = std::string("kernel ") + request.kernel + ": no device has as much dynamic shared memory";
    else
        run_blocks(launch);
    for (const auto& block : launch.resident)  // those that an error left behind
        for (Fiber& fiber : block->fibers)
            if (fiber.stack != nullptr && !fiber.is_done) stacks.give(fiber.stack);
    launch.resident.clear();
    launch_now = nullptr;
}

}  // namespace shim
