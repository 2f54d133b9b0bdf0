// Fibers: a thread of a kernel runs on a stack of its own and hands over to the scheduler where it has to wait.
//
// On x86-64 a switch saves the six registers a function must preserve and changes the stack pointer; elsewhere swapcontext does
// it, with a system call per switch.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && !defined(SHIM_UCONTEXT)
#define SHIM_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace shim {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr uint64_t STACK_END = 0x5AFE57ACC0FFEE00ull;  // last word of every stack; a thread that writes it used too much

using Entry = void (*)();

#if defined(SHIM_OWN_SWITCH)

struct Context {
    void* stack_pointer = nullptr;
};

__attribute__((naked, noinline)) static void switch_stacks(void** /*save*/, void* /*load*/) {
    asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n retq\n");
}

inline void switch_context(Context& from, Context& to) { switch_stacks(&from.stack_pointer, to.stack_pointer); }

// The first switch "returns" into `entry`, which finds the stack as after a call: 8 bytes off a multiple of 16.
inline void prepare(Context& context, char* stack, Entry entry) {
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context.stack_pointer = top;
}

#else

struct Context {
    ucontext_t state;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void prepare(Context& context, char* stack, Entry entry) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = STACK_BYTES;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

#endif

// Stacks that are free, kept for the next launch; a thread takes one when it first runs, so threads that never wait share one.
class Stacks {
  public:
    char* take() {
        if (free_.empty()) grow();
        char* stack = free_.back();
        free_.pop_back();
        memcpy(stack, &STACK_END, sizeof STACK_END);
        return stack;
    }

    // Returns false when the thread ran over the end of its stack.
    bool give(char* stack) {
        free_.push_back(stack);
        return memcmp(stack, &STACK_END, sizeof STACK_END) == 0;
    }

  private:
    void grow() {
        constexpr size_t many = 64;
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, many * STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) __builtin_trap();
        for (size_t i = many; i > 0; i--) free_.push_back(static_cast<char*>(memory) + (i - 1) * STACK_BYTES);
    }

    std::vector<char*> free_;
};

}  // namespace shim
