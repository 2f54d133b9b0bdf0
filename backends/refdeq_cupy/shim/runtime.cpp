// The interface of runtime.hpp, carried out by the scheduler.
#include "runtime.hpp"

#include <dlfcn.h>

#include "checks.hpp"
#include "races.hpp"
#include "run.hpp"
#include "scheduler.hpp"

namespace shim {

Now now;

const char* launch(const Request& request) {
    static std::string error;
    Launch launch;
    launch.request = &request;
    run_launch(launch);
    error = launch.error;
    return error.empty() ? nullptr : error.c_str();
}

void fail(const char* message, Where where) { fail(message + text_of(where)); }

bool is_cooperative() { return launch_now->request->is_cooperative != 0; }

void note_progress() { launch_now->progress++; }

unsigned char* dynamic_shared() { return block_now->dynamic_shared; }

void poll(Where where) {
    block_now->polling.push_back(fiber_now);
    wait_in("a poll", where);
}

// Seeds above 1 let other threads in before some atomics; a long row of atomics counts as a poll.
void before_atomic(Where where) {
    const bool is_random = launch_now->seed() > 1 && launch_now->random() % 4 == 0;
    if (is_random || ++launch_now->atomics_in_a_row > 1000) poll(where);
}

int barrier(const char* name, int predicate, Where where) {
    Fiber& me = *fiber_now;
    me.predicate = predicate;
    me.waits_in = name;
    me.where = where;
    block_now->at_barrier.push_back(&me);
    release_barrier_when_full(*block_now);
    suspend();
    return me.count;
}

void grid_barrier(Where where) {
    if (!is_cooperative()) fail("a grid barrier needs a cooperative launch" + text_of(where));
    block_now->at_grid.push_back(fiber_now);
    wait_in("a grid barrier", where);
}

[[noreturn]] static void fail_on_mask(unsigned mask, unsigned gone, unsigned there, const char* name, Where where) {
    const Fiber& me = *fiber_now;
    char word[16];
    snprintf(word, sizeof word, "0x%08x", mask);
    const std::string call = std::string(name) + " with mask " + word + text_of(where);
    if (!(mask >> me.lane & 1)) fail("lane " + std::to_string(me.lane) + " calls " + call + ", which does not name it");
    fail(
        call + " in warp " + std::to_string(me.warp) + " names lane " + std::to_string(__builtin_ctz(gone)) +
        (gone & ~there ? ", which the block does not have" : ", which has ended")
    );
}

static void check_mask(unsigned mask, const char* name, Where where) {
    const Fiber& me = *fiber_now;
    const size_t size = block_now->fibers.size() - size_t{32} * me.warp;
    const unsigned there = size >= 32 ? ~0u : (1u << size) - 1;
    const unsigned gone = mask & (block_now->exited[me.warp] | ~there);
    if (gone != 0 || !(mask >> me.lane & 1)) fail_on_mask(mask, gone, there, name, where);
}

// Lanes of `mask` meet; `combine(data of each lane, mask)` runs once, when all are there.
void meet(unsigned mask, const char* name, void* mine, void (*combine)(void**, unsigned), Where where) {
    check_mask(mask, name, where);
    const Fiber& me = *fiber_now;
    Block& block = *block_now;
    auto& meetings = block.meetings;
    size_t i = 0;
    while (i < meetings.size() && (meetings[i].warp != me.warp || meetings[i].mask != mask)) i++;
    if (i == meetings.size()) meetings.push_back({me.warp, mask, 0, name, combine, {}});
    WarpMeeting& meeting = meetings[i];
    if (meeting.combine != combine || strcmp(meeting.operation, name) != 0)
        fail(
            "lanes of warp " + std::to_string(me.warp) + " meet in different warp operations, " + meeting.operation + " and " +
            name + text_of(where)
        );
    meeting.arrived |= 1u << me.lane;
    meeting.data[me.lane] = mine;
    if (meeting.arrived != mask) return wait_in(name, where);
    combine(meeting.data, mask);
    for (unsigned lane = 0; lane < 32; lane++)
        if (lane != me.lane && (mask >> lane & 1)) make_ready(block, &block.fibers[size_t{32} * me.warp + lane]);
    launch_now->progress++;
    meetings.erase(meetings.begin() + static_cast<std::ptrdiff_t>(i));
}

void use_atomically(const void* address, size_t bytes) {
    use_shared(address, bytes, true, true, __builtin_return_address(0));
}

// A copy may write at any time until it is waited for: what it writes is used here and when it is done.
void copy_later(void* to, const void* from, size_t bytes) {
    if (launch_now->request->looks_for_races) use_shared(to, bytes, true, false, __builtin_return_address(0));
    fiber_now->copies.push_back({to, from, bytes, fiber_now->copy_group});
}

void copy_commit() { fiber_now->copy_group++; }

// Only now do the copies happen, so that a thread which reads too early sees what was there before.
void copy_wait(unsigned pending_groups) {
    auto& copies = fiber_now->copies;
    size_t done = 0;
    for (; done < copies.size() && copies[done].group + pending_groups < fiber_now->copy_group; done++) {
        const PendingCopy& copy = copies[done];
        if (launch_now->request->looks_for_races) use_shared(copy.to, copy.bytes, true, false, __builtin_return_address(0));
        if (copy.from != nullptr)
            memcpy(copy.to, copy.from, copy.bytes);
        else
            memset(copy.to, 0, copy.bytes);
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace shim

// Where outside of all arrays of the host the last launch was stopped; 0 if it was not.
extern "C" size_t shim_fault_address() { return shim::fault_now.address; }

// The library and the place in it of the last code that was stopped by a race.
extern "C" const char* shim_race_code(size_t* place) {
    Dl_info found{};
    if (shim::race_code == nullptr || !dladdr(shim::race_code, &found)) return nullptr;
    *place = static_cast<size_t>(static_cast<char*>(shim::race_code) - static_cast<char*>(found.dli_fbase));
    return found.dli_fname;
}
