// Second half of a round: read the verdict over the evaluation before; go on to the next sample, or commit the gate of this
// evaluation, finish it from its sums, step, and gate the argument of the one that would follow. What is decided here about that
// one is written beside what it would replace: only the next verdict tells whether it is made.
#pragma once

#include "fc_activations.cuh"
#include "fc_layout.cuh"

// What a step reads of one element: all of it before anything is written, so that one wait serves for all.
struct Element {
    REAL z;              // argument of the evaluation that is finished, or the first of a sample
    REAL a, r, total;    // accumulator and reference before it; its sums
    REAL entry, bias, phase, filter, threshold;
    bool has_fired;
};

// A value that depends on x, or a parameter; 0 where the cell has none. These are never written.
__device__ inline REAL operand(const Solve& s, Choice at, long long step, long long i) {
    return s.choice[at] < 0 ? (REAL)0 : __ldg(s.fixed + s.choice[at] + step + i);
}

// What the columns that were added come to (N-7): the parts of the list in ascending order, read eight at a time.
__device__ inline REAL total_of_parts(const Solve& s, const Shared& m, long long i, REAL before) {
    constexpr int AHEAD = 8;
    const long long n = s.n(), used = m.control[USED], length = m.control[LENGTH];
    if (used == 0) return before;
    const int parts = (int)((used + length - 1) / length);
    REAL total = s.partial()[i];
    for (int first = 1; first < parts; first += AHEAD) {
        REAL part[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) part[j] = first + j < parts ? s.partial()[(first + j) * n + i] : 0;
#pragma unroll
        for (int j = 0; j < AHEAD; j++) total = first + j < parts ? total + part[j] : total;
    }
    return total;
}

__device__ inline Element read_element(const Solve& s, const Shared& m, long long i, bool is_first) {
    const long long sample = m.control[SAMPLE], n = s.n();
    const bool is_gated = s.choice[IS_GATED], begins = m.control[IS_FRESH] || s.choice[IS_FOLDED];
    Element e;
    e.entry = operand(s, ENTRY_AT, sample * s.choice[ENTRY_STEP], i);
    e.bias = operand(s, BIAS_AT, 0, i);
    e.phase = operand(s, PHASE_AT, sample * s.choice[PHASE_STEP], i);
    e.filter = operand(s, FILTER_AT, sample * s.choice[FILTER_STEP], i);
    e.threshold = operand(s, THRESHOLD_AT, 0, i);
    e.z = is_first ? s.state[sample * n + i] : s.next()[i];
    e.r = is_gated ? s.state[s.choice[R_AT] + sample * n + i] : 0;
    e.a = is_first ? 0 : s.state[s.choice[A_AT] + sample * s.choice[ROW_STEP] + i];
    e.has_fired = is_gated && !is_first && s.flags[s.choice[FIRED_AT] + i] != 0;
    e.total = is_first ? 0 : total_of_parts(s, m, i, begins ? 0 : e.a);
    return e;
}

// What the linear node watches.
__device__ inline REAL watched(const Solve& s, const Element& e, REAL z) { return s.choice[ENTRY_AT] < 0 ? z : z + e.entry; }

// Mask and reference of an element (D-2 to D-5, D-10). It was decided what is sent when the argument was made, but only now is it
// known that this argument is evaluated.
__device__ inline void commit_gate(const Solve& s, const Shared& m, long long i, Element& e) {
    const long long sample = m.control[SAMPLE], at = sample * s.n() + i;
    const bool is_start = s.choice[IS_DENSE_START] && m.control[COUNT] == 0;
    const bool is_sent = is_start || (s.choice[BY_SAMPLE] ? m.control[TOTAL] > 0 : e.has_fired);
    if (is_sent || s.choice[IS_ALWAYS]) e.r = watched(s, e, e.z);
    s.flags[at] = is_sent;
    s.state[s.choice[R_AT] + at] = e.r;
    if (s.choice[TRACE_Z] < 0) return;
    const long long place = m.control[MADE] * s.choice[BATCH] * s.n() + at;
    s.flags[s.choice[TRACE_MASK] + place] = is_sent;
    s.trace[s.choice[TRACE_R] + place] = e.r;
}

// What a gated evaluation sent and cost (C-1, C-3).
__device__ inline void count_evaluation(const Solve& s, const Shared& m) {
    const long long n = s.n(), sample = m.control[SAMPLE], total = m.control[TOTAL];
    const bool is_start = s.choice[IS_DENSE_START] && m.control[COUNT] == 0;
    const long long sent = is_start || (s.choice[BY_SAMPLE] && total > 0) ? n : total;
    s.counter(SENT, sample) += sent;
    s.counter(NONZERO, sample) += sent > 0 ? m.control[DIFFERENT] : 0;
    s.counter(MACS, sample) += (m.control[IS_FRESH] ? n : sent) * n;
    s.counter(WHOLE, sample) += m.control[USED] == n;
    s.counter(QUIET, sample) += m.control[USED] == 0;
}

// Value of the cell at one element, with everything that is remembered of it (D-6); return the argument that follows (S-6).
__device__ inline REAL finish(const Solve& s, const Shared& m, long long i, const Element& e) {
    const long long sample = m.control[SAMPLE], place = (m.control[MADE] * s.choice[BATCH] + sample) * s.n() + i;
    const bool is_folded = s.choice[IS_FOLDED];
    const REAL slope = __ldg(s.fixed), alpha = __ldg(s.fixed + 1), beta = __ldg(s.fixed + 2);
    REAL a = e.total;
    if (is_folded) a = m.control[IS_FRESH] ? a + e.bias : ((a + e.bias) + e.a) - e.bias;
    const REAL linear = s.choice[BIAS_AT] < 0 || is_folded ? a : a + e.bias;
    const REAL value = activated(s.choice[ACTIVATION], slope, s.choice[PHASE_AT] < 0 ? linear : linear + e.phase);
    const REAL f = s.choice[FILTER_AT] < 0 ? value : value * e.filter;
    s.state[s.choice[A_AT] + sample * s.choice[ROW_STEP] + i] = a;
    s.f()[i] = f;
    s.argument()[i] = e.z;
    if (s.choice[TRACE_LINEAR] >= 0) s.trace[s.choice[TRACE_LINEAR] + place] = linear;
    if (s.choice[TRACE_ACTIVATED] >= 0) s.trace[s.choice[TRACE_ACTIVATED] + place] = value;
    if (s.choice[TRACE_Z] >= 0) {
        s.trace[s.choice[TRACE_Z] + place] = e.z;
        s.trace[s.choice[TRACE_F] + place] = f;
        if (s.choice[IS_GATED]) s.trace[s.choice[TRACE_A] + place] = a;
    }
    if (s.choice[IS_PICARD]) return f;
    const REAL old = beta * e.z, fresh = alpha * f;
    return old + fresh;
}

// Decide about one element of the evaluation that follows, number `count` since the reset (D-1, D-2), and leave what its column is
// multiplied by; `counts` says whether it is one of those that are not zero (C-3).
__device__ inline bool gate_element(const Solve& s, const Element& e, long long i, REAL z, long long count, REAL& factor,
                                    bool& counts) {
    const long long refresh = s.choice[REFRESH];
    const REAL u = watched(s, e, z), d = u - e.r;
    s.next()[i] = z;
    if (!s.choice[IS_GATED] || (s.choice[IS_DENSE_START] && count == 0)) {
        s.factor()[i] = factor = u;
        counts = u != 0;
        return false;
    }
    const REAL size = sizeof(REAL) == 4 ? (REAL)fabsf((float)d) : (REAL)fabs((double)d);
    const bool is_sent = s.choice[IS_GE] ? !(size < e.threshold) : !(size <= e.threshold);
    const bool is_refresh = refresh > 0 && count > 0 && count % refresh == 0;
    const REAL quiet = s.choice[IS_ALWAYS] ? u : e.r;  // reference after the gate, of an element that is not sent
    counts = d != 0 && (is_sent || s.choice[BY_SAMPLE]);
    s.flags[s.choice[FIRED_AT] + i] = is_sent;
    s.kept()[i] = quiet;
    s.factor()[i] = factor = !is_refresh ? d : is_sent || s.choice[BY_SAMPLE] ? u : quiet;
    return is_sent;
}

// All elements of a block: finish, or load the first argument, then gate and list, in ascending order (ballots and the counts of
// the warps before).
__device__ inline void step_elements(const Solve& s, Shared& m, bool is_first) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const long long begin = s.first_of(blockIdx.x), end = s.first_of(blockIdx.x + 1);
    const long long count = m.control[COUNT] + (is_first ? 0 : 1);  // of the evaluation that follows
    int listed = 0, nonzero = 0;
    for (long long first = begin; first < end; first += blockDim.x) {
        const long long i = first + threadIdx.x;
        bool is_sent = false, counts = false;
        REAL factor = 0;
        if (i < end) {
            Element e = read_element(s, m, i, is_first);
            if (!is_first && s.choice[IS_GATED]) commit_gate(s, m, i, e);
            const REAL z = is_first ? e.z : finish(s, m, i, e);
            is_sent = gate_element(s, e, i, z, count, factor, counts);
        }
        const unsigned sent = __ballot_sync(EVERY_LANE, is_sent);
        if (lane == 0) m.warp_count[warp] = __popc(sent);
        nonzero += __syncthreads_count(counts);
        int before = 0, all = 0;
        for (int other = 0; other < warps; other++) {
            before += other < warp ? m.warp_count[other] : 0;
            all += m.warp_count[other];
        }
        if (is_sent) {
            const long long place = begin + listed + before + __popc(sent & ((1u << lane) - 1));
            s.words[INDEX_AT + place] = (int)i;
            s.listed()[place] = factor;
        }
        listed += all;
        __syncthreads();  // the counts of the warps are written again
    }
    if (threadIdx.x == 0) {
        s.words[COUNT_AT + blockIdx.x] = listed;
        s.words[NONZERO_AT + blockIdx.x] = nonzero;
    }
}

// The argument of the last evaluation is what a sample returns (S-4).
__device__ inline void return_argument(const Solve& s, const Shared& m) {
    const long long end = s.first_of(blockIdx.x + 1);
    REAL* z = s.state + m.control[SAMPLE] * s.n();
    for (long long i = s.first_of(blockIdx.x) + threadIdx.x; i < end; i += blockDim.x) z[i] = s.argument()[i];
}

__device__ inline void step(const Solve& s, Shared& m) {
    if (m.control[PHASE] == DONE) return;
    if (threadIdx.x == 0) m.is_first = m.control[PHASE] == NEXT || s.words[VERDICT_AT] != 0;
    __syncthreads();
    const bool is_first = m.is_first;  // of its sample, the evaluation that will be gated
    if (is_first && m.control[PHASE] == RUN) return_argument(s, m);
    __syncthreads();
    if (threadIdx.x == 0 && is_first) {
        const long long sample = ++m.control[SAMPLE];
        m.control[PHASE] = sample < s.choice[BATCH] ? RUN : DONE;
        m.control[MADE] = 0;
        m.control[COUNT] = sample < s.choice[BATCH] ? s.counter(EVALUATIONS, sample) : 0;
    }
    __syncthreads();
    if (m.control[PHASE] == DONE) return;
    step_elements(s, m, is_first);
    __syncthreads();
    if (threadIdx.x == 0 && !is_first) {
        if (blockIdx.x == 0 && s.choice[IS_GATED]) count_evaluation(s, m);
        m.control[COUNT]++;
        m.control[MADE]++;
    }
    __syncthreads();
}
