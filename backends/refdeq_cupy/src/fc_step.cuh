// Second half of a round: read the verdict over the evaluation before; go on to the next sample, or commit the gate of this
// evaluation, finish it from its sums, step, and gate the argument of the one that would follow. What is decided here about that
// one is written beside what it would replace: only the next verdict tells whether it is made.
#pragma once

#include "fc_activations.cuh"
#include "fc_layout.cuh"

// A value that depends on x, or a parameter, of this sample; null where the cell has none.
__device__ inline const REAL* operand(const Solve& s, Choice at, Choice step, long long sample) {
    return s.choice[at] < 0 ? nullptr : s.fixed + s.choice[at] + sample * s.choice[step];
}

// Mask and reference of a block's elements (D-2 to D-5, D-10). It was decided what is sent when the argument was made, but only now
// is it known that this argument is evaluated. The first block counts (C-1, C-3).
__device__ inline void commit_gate(const Solve& s, const Shared& m) {
    const long long n = s.n(), sample = m.control[SAMPLE], end = s.first_of(blockIdx.x + 1), total = m.control[TOTAL];
    const bool is_start = s.choice[IS_DENSE_START] && m.control[COUNT] == 0, by_sample = s.choice[BY_SAMPLE];
    const REAL* entry = operand(s, ENTRY_AT, ENTRY_STEP, sample);
    REAL* r = s.state + s.choice[R_AT] + sample * n;
    for (long long i = s.first_of(blockIdx.x) + threadIdx.x; i < end; i += blockDim.x) {
        const bool is_sent = is_start || (by_sample ? total > 0 : s.flags[s.choice[FIRED_AT] + i] != 0);
        s.flags[sample * n + i] = is_sent;
        if (is_sent || s.choice[IS_ALWAYS]) r[i] = entry == nullptr ? s.next()[i] : s.next()[i] + entry[i];
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        const long long sent = is_start || (by_sample && total > 0) ? n : total;
        s.counter(SENT, sample) += sent;
        s.counter(NONZERO, sample) += sent > 0 ? m.control[DIFFERENT] : 0;
        s.counter(MACS, sample) += (m.control[IS_FRESH] ? n : sent) * n;
        s.counter(WHOLE, sample) += m.control[USED] == n;
        s.counter(QUIET, sample) += m.control[USED] == 0;
    }
}

// Accumulator of an output after its sums (D-6, N-7).
__device__ inline REAL accumulator(const Solve& s, const Shared& m, long long i, REAL before) {
    const long long n = s.n(), used = m.control[USED], length = m.control[LENGTH];
    const bool is_fresh = m.control[IS_FRESH], is_folded = s.choice[IS_FOLDED];
    REAL sum = is_fresh || is_folded ? 0 : before;
    if (used > 0) sum = s.partial()[i];
    for (long long part = 1; part * length < used; part++) sum = sum + s.partial()[part * n + i];
    if (!is_folded) return sum;
    const REAL bias = s.fixed[s.choice[BIAS_AT] + i];
    return is_fresh ? sum + bias : ((sum + bias) + before) - bias;
}

// One element of one evaluation into the trace (S-10).
__device__ inline void track(const Solve& s, const Shared& m, long long i, REAL z, REAL f, REAL a) {
    if (s.choice[TRACE_Z] < 0) return;
    const long long sample = m.control[SAMPLE], n = s.n(), at = (m.control[MADE] * s.choice[BATCH] + sample) * n + i;
    s.trace[s.choice[TRACE_Z] + at] = z;
    s.trace[s.choice[TRACE_F] + at] = f;
    if (!s.choice[IS_GATED]) return;
    s.trace[s.choice[TRACE_R] + at] = s.state[s.choice[R_AT] + sample * n + i];
    s.trace[s.choice[TRACE_A] + at] = a;
    s.flags[s.choice[TRACE_MASK] + at] = s.flags[sample * n + i];
}

// Value of the cell at one element: f, with everything that is remembered of it; and the argument that follows (S-6).
__device__ inline REAL finish(const Solve& s, const Shared& m, long long i) {
    const long long sample = m.control[SAMPLE], at = (m.control[MADE] * s.choice[BATCH] + sample) * s.n() + i;
    REAL* a = s.state + s.choice[A_AT] + sample * s.choice[ROW_STEP];
    const REAL *phase = operand(s, PHASE_AT, PHASE_STEP, sample), *filter = operand(s, FILTER_AT, FILTER_STEP, sample);
    const REAL slope = s.fixed[0], alpha = s.fixed[1], beta = s.fixed[2], z = s.next()[i];
    const REAL sum = accumulator(s, m, i, a[i]);
    a[i] = sum;
    REAL f = s.choice[BIAS_AT] < 0 || s.choice[IS_FOLDED] ? sum : sum + s.fixed[s.choice[BIAS_AT] + i];
    if (s.choice[TRACE_LINEAR] >= 0) s.trace[s.choice[TRACE_LINEAR] + at] = f;
    if (phase != nullptr) f = f + phase[i];
    f = activated(s.choice[ACTIVATION], slope, f);
    if (s.choice[TRACE_ACTIVATED] >= 0) s.trace[s.choice[TRACE_ACTIVATED] + at] = f;
    if (filter != nullptr) f = f * filter[i];
    s.f()[i] = f;
    s.argument()[i] = z;
    track(s, m, i, z, f, sum);
    if (s.choice[IS_PICARD]) return f;
    const REAL old = beta * z, fresh = alpha * f;
    return old + fresh;
}

// Decide about one element of the coming evaluation (D-1, D-2) and leave what its column is multiplied by; `counts` says whether
// it is one of those that are not zero (C-3).
__device__ inline bool gate_element(const Solve& s, const Shared& m, long long i, REAL z, REAL& factor, bool& counts) {
    const long long sample = m.control[SAMPLE], count = m.control[COUNT], refresh = s.choice[REFRESH];
    const REAL* entry = operand(s, ENTRY_AT, ENTRY_STEP, sample);
    const REAL u = entry == nullptr ? z : z + entry[i];
    const bool is_start = s.choice[IS_DENSE_START] && count == 0;
    s.factor()[i] = factor = u;
    counts = u != 0;
    if (!s.choice[IS_GATED] || is_start) return false;
    const REAL r = s.state[s.choice[R_AT] + sample * s.n() + i], d = u - r, threshold = s.fixed[s.choice[THRESHOLD_AT] + i];
    const REAL size = sizeof(REAL) == 4 ? (REAL)fabsf((float)d) : (REAL)fabs((double)d);
    const bool is_sent = s.choice[IS_GE] ? !(size < threshold) : !(size <= threshold);
    const bool is_refresh = refresh > 0 && count > 0 && count % refresh == 0;
    const REAL quiet = s.choice[IS_ALWAYS] ? u : r;  // reference after the gate, of an element that is not sent
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
    int listed = 0, nonzero = 0;
    for (long long first = begin; first < end; first += blockDim.x) {
        const long long i = first + threadIdx.x;
        bool is_sent = false, counts = false;
        REAL factor = 0;
        if (i < end) {
            const REAL z = is_first ? s.state[m.control[SAMPLE] * s.n() + i] : finish(s, m, i);
            s.next()[i] = z;
            is_sent = gate_element(s, m, i, z, factor, counts);
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
    if (!is_first && s.choice[IS_GATED]) commit_gate(s, m);
    __syncthreads();
    if (threadIdx.x == 0 && is_first) {
        const long long sample = ++m.control[SAMPLE];
        m.control[PHASE] = sample < s.choice[BATCH] ? RUN : DONE;
        m.control[MADE] = 0;
        m.control[COUNT] = sample < s.choice[BATCH] ? s.counter(EVALUATIONS, sample) : 0;
    }
    if (threadIdx.x == 0 && !is_first) m.control[COUNT]++;  // the gate is that of the evaluation after the one that is finished
    __syncthreads();
    if (m.control[PHASE] == DONE) return;
    step_elements(s, m, is_first);
    __syncthreads();
    if (threadIdx.x == 0 && !is_first) m.control[MADE]++;
    __syncthreads();
}
