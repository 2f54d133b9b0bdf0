// What the compiler calls where a check of its own fails (-fsanitize=bounds, shift-exponent, alignment): errors of the launch.
#pragma once

#include "scheduler.hpp"

namespace shim {

struct SourcePlace {
    const char* file;
    uint32_t line, column;
};

struct TypeName {
    uint16_t kind, info;
    char text[1];
};

struct IndexCheck {
    SourcePlace place;
    const TypeName *array, *index;
};

struct ShiftCheck {
    SourcePlace place;
    const TypeName *left, *right;
};

struct AlignmentCheck {
    SourcePlace place;
    const TypeName* type;
    unsigned char log_alignment, access;
};

// `value` is a whole number of the type, or its address where it has more bits than a word.
inline std::string number_text(const TypeName* type, uintptr_t value) {
    const unsigned bits = 1u << (type->info >> 1);
    if (bits > 8 * sizeof value) return "a number of " + std::to_string(bits) + " bits";
    const unsigned unused = static_cast<unsigned>(8 * sizeof value) - bits;
    const bool has_sign = type->info & 1;
    return has_sign ? std::to_string(static_cast<intptr_t>(value << unused) >> unused)
                    : std::to_string(value << unused >> unused);
}

[[noreturn]] inline void fail_at(const SourcePlace& place, const std::string& what) {
    fail("thread " + name_of(fiber_now->thread) + " " + what + text_of({place.file, static_cast<int>(place.line)}));
}

}  // namespace shim

extern "C" {
void __ubsan_handle_out_of_bounds(shim::IndexCheck* check, uintptr_t index) {
    shim::fail_at(check->place, "uses element " + shim::number_text(check->index, index) + " of " + check->array->text);
}
void __ubsan_handle_shift_out_of_bounds(shim::ShiftCheck* check, uintptr_t, uintptr_t by) {
    const std::string bits = shim::number_text(check->right, by);
    shim::fail_at(check->place, "shifts " + std::string(check->left->text) + " by " + bits + " bits");
}
void __ubsan_handle_type_mismatch_v1(shim::AlignmentCheck* check, uintptr_t) {
    shim::fail_at(check->place, "uses " + std::string(check->type->text) + " at an address that is not a multiple of " +
                                    std::to_string(1u << check->log_alignment));
}
}
