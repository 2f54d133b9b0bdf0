// Faults of a thread become an error of its launch: what the system signals when memory is touched that nobody may touch.
//
// The handlers are there while a launch runs. They leave the thread for good by going on where the scheduler waits for it, on
// its stack, as a thread does that waits. Faults of anything else are left to the handlers that were there before.
#pragma once

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "scheduler.hpp"

namespace shim {

constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE};
constexpr uintptr_t UNKNOWN = ~uintptr_t{0};
constexpr size_t FAULT_STACK_BYTES = 64 * 1024;

static struct sigaction handlers_before[3];
static pthread_t launch_thread;

inline const char* access_of([[maybe_unused]] void* context) {
#if defined(__x86_64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2 ? "writes" : "reads";
#else
    return "reads or writes";
#endif
}

inline void on_fault(int signal, siginfo_t* info, void* context) {
    const bool is_sent = info->si_code <= 0;  // by another process, or by raise
    if (is_sent || fiber_now == nullptr || !pthread_equal(pthread_self(), launch_thread)) {
        for (size_t i = 0; i < 3; i++)
            if (FAULTS[i] == signal) sigaction(signal, &handlers_before[i], nullptr);
        if (is_sent) raise(signal);
        return;  // what was not sent happens again, without us
    }
    const bool has_address = signal != SIGFPE && info->si_code != SI_KERNEL;  // lacking of misaligned and impossible ones
    fault_now = {signal, has_address ? reinterpret_cast<uintptr_t>(info->si_addr) : UNKNOWN, access_of(context)};
    switch_context(fiber_now->context, scheduler_context);
}

class FaultHandlers {
  public:
    FaultHandlers() {
        static unsigned char room[FAULT_STACK_BYTES];
        stack_t own{};
        own.ss_sp = room;
        own.ss_size = sizeof room;
        sigaltstack(&own, &stack_before_);
        struct sigaction action {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // nothing is blocked: the handler does not return
        sigemptyset(&action.sa_mask);
        launch_thread = pthread_self();
        fault_now = {};
        fegetenv(&arithmetic_);
        for (size_t i = 0; i < 3; i++) sigaction(FAULTS[i], &action, &handlers_before[i]);
    }
    ~FaultHandlers() {
        for (size_t i = 0; i < 3; i++) sigaction(FAULTS[i], &handlers_before[i], nullptr);
        sigaltstack(&stack_before_, nullptr);
        if (fault_now.signal != 0) fesetenv(&arithmetic_);  // a handler begins with settings of its own
    }

  private:
    stack_t stack_before_{};
    fenv_t arithmetic_;
};

// What a thread did, in words; where in an array of the host that was, the host says.
inline void report_fault(Block& block, const Fiber& fiber) {
    const Fault fault = fault_now;
    std::string text = "thread " + name_of(fiber.thread) + " ";
    if (fault.address == UNKNOWN) fault_now.address = 0;
    if (fault.signal == SIGFPE) return fail_with(text + "divides a whole number by zero", block);
    if (fault.address == UNKNOWN) return fail_with(text + "uses an address that cannot be, or is not aligned", block);
    const uintptr_t first = reinterpret_cast<uintptr_t>(block.dynamic_shared);
    const size_t bytes = launch_now->request->shared_bytes;
    text += std::string(fault.access) + " outside of ";
    if (fault.address + SHARED_GUARD < first || fault.address >= first + SHARED_GUARD)
        return fail_with(text + "all arrays", block);
    fault_now.address = 0;
    const long long at = static_cast<long long>(fault.address - first);
    fail_with(text + "the " + std::to_string(bytes) + " bytes of dynamic shared memory, at byte " + std::to_string(at), block);
}

}  // namespace shim
