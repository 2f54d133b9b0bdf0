/* refdeq_pack.h - cases of a pack as C arrays, and how a device is run on them. C99. BSD-3-Clause, refdeq contributors.
 *
 * Write the functions of an rp_device, then:
 *
 *   rj_model model32 = rj_arithmetic(32, RJ_SAME, RJ_SAME, 0), model64 = rj_arithmetic(64, RJ_SAME, RJ_SAME, 0);
 *   for (size_t i = 0; i < rp_case_count; i++) {
 *       rj_report report = rj_start();
 *       rp_run(rp_cases[i], &device, rp_cases[i]->bits == 32 ? &model32 : &model64, strict, &report);
 *       if (rj_verdict(&report) != RJ_PASSED) ...
 *   }
 *
 * With strict (N-6) accumulators are compared bit by bit, otherwise within the bound; in cases whose sums are exact in every
 * order they are compared bit by bit anyway. What the members mean is in docs/semantics.md. */

#ifndef REFDEQ_PACK_H
#define REFDEQ_PACK_H

#include <stdlib.h>

#include "refdeq_judge.h"

enum { RP_GEMM, RP_CONV };
enum { RP_GT, RP_GE };
enum { RP_SENT, RP_ALWAYS, RP_FEEDBACK };
enum { RP_ELEMENT, RP_SAMPLE, RP_CHANNEL, RP_PIXEL, RP_TILE };
enum { RP_RESET, RP_SET_STATE, RP_STEP };

typedef struct {
    int name, session;
    size_t batch;
    const void *u, *r, *a;                        /* inputs: of a step; of set_state */
    const int64_t *count;
    const uint8_t *mask, *fresh;                  /* expected, of a step */
    const void *r_after, *a_strict, *y_strict;
    const double *high, *low, *gauge, *sizes;     /* sizes: sum |A| + |d|, needed where operands are re-rounded */
    const int64_t *k;
} rp_call;

typedef struct {
    const char *id;
    int op, bits, exact;
    size_t inputs, outputs, sites;                /* elements of one sample of u and of y; outputs that share one bias */
    int rank, shape[3], out_shape[3];             /* of one sample: (K), (C, W) or (C, H, W) */
    int kernel[2], strides[2], pads[4], dilations[2], group;
    const void *weight, *bias;                    /* (N, K), or (M, C / group, kernel...); bias NULL: there is none */
    int compare, memory, dense_start, folded, granularity, tile[3], refresh;
    int feedback_format, delta_format;            /* 0 none, 16 float16, 17 bfloat16, 32 float32 */
    size_t thresholds;                            /* 1, or one per channel */
    const double *threshold;                      /* rounded once to the dtype of the case before use */
    size_t calls;
    const rp_call *call;
} rp_case;

/* What is judged. Functions return 0, or anything else when they refuse. sessions are 0 and 1. */
typedef struct {
    void *context;
    int (*open)(void *context, int session, const rp_case *problem);
    int (*reset)(void *context, int session, size_t batch);
    int (*set_state)(void *context, int session, size_t batch, const void *r, const void *a, const int64_t *count);
    int (*step)(void *context, int session, const void *u, uint8_t *mask, void *y);
    int (*get_state)(void *context, int session, void *r, void *a);
} rp_device;

typedef struct {
    void *before, *after, *r, *y;
    uint8_t *mask;
    size_t batch;
    int opened;
} rp_state;

RJ_API int rp_allocate(rp_state *state, const rp_case *problem, size_t batch)
{
    size_t bytes = (size_t)problem->bits / 8, in = batch * problem->inputs + 1, out = batch * problem->outputs + 1;
    free(state->before); free(state->after); free(state->r); free(state->y); free(state->mask);
    state->before = calloc(out, bytes);
    state->after = calloc(out, bytes);
    state->r = calloc(in, bytes);
    state->y = calloc(out, bytes);
    state->mask = calloc(in, 1);
    state->batch = batch;
    return state->before && state->after && state->r && state->y && state->mask;
}

/* A step: mask and reference, then the accumulator from the one the device showed before, then the output from it. */
RJ_API void rp_step(const rp_case *problem, const rp_call *call, size_t index, const rp_device *device, const rj_model *model,
                    int strict, rp_state *state, rj_report *report)
{
    size_t in = state->batch * problem->inputs, out = state->batch * problem->outputs, bytes = (size_t)problem->bits / 8;
    rj_change change = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    memset(state->mask, 0xa5, in); /* what is not written is no mask, and NaN no number */
    memset(state->y, 0xff, out * bytes);
    memset(state->r, 0xff, in * bytes);
    memset(state->after, 0xff, out * bytes);
    if (device->step(device->context, call->session, call->u, state->mask, state->y) ||
        device->get_state(device->context, call->session, state->r, state->after)) {
        rj_fail(report, "step", index);
        return;
    }
    rj_mask(report, "mask", call->mask, state->mask, in);
    rj_floats(report, "r", problem->bits, call->r_after, state->r, in);
    if (strict || problem->exact) {
        rj_floats(report, "a", problem->bits, call->a_strict, state->after, out);
    } else {
        change.n = out; change.width = problem->outputs; change.sites = problem->sites;
        change.high = call->high; change.low = call->low; change.gauge = call->gauge; change.k = call->k;
        change.fresh = call->fresh; change.bias = problem->folded ? problem->bias : NULL;
        change.sizes = call->sizes;
        rj_sums(report, model, "a", problem->bits, &change, state->before, state->after);
    }
    rj_outputs(report, "y", problem->bits, state->after, problem->folded ? NULL : problem->bias, problem->sites, out,
               problem->outputs, state->y);
    memcpy(state->before, state->after, out * bytes);
}

/* Accumulators before the first step: zero, or the bias where it is folded (D-6). */
RJ_API void rp_begin(const rp_case *problem, rp_state *state)
{
    size_t i, bytes = (size_t)problem->bits / 8;
    memset(state->before, 0, state->batch * problem->outputs * bytes);
    if (!problem->folded || !problem->bias) return;
    for (i = 0; i < state->batch * problem->outputs; i++)
        memcpy((char *)state->before + i * bytes, (const char *)problem->bias + i % problem->outputs / problem->sites * bytes,
               bytes);
}

/* Run one case and add what was found to a report. */
RJ_API void rp_run(const rp_case *problem, const rp_device *device, const rj_model *model, int strict, rj_report *report)
{
    rp_state states[2];
    size_t t;
    int i, failed = 0;
    memset(states, 0, sizeof states);
    for (t = 0; t < problem->calls && !failed; t++) {
        const rp_call *call = problem->call + t;
        rp_state *state = states + call->session;
        if (!state->opened) failed = device->open(device->context, call->session, problem);
        state->opened = 1;
        if (failed) break;
        if (call->name == RP_STEP) {
            rp_step(problem, call, t, device, model, strict, state, report);
            continue;
        }
        failed = !rp_allocate(state, problem, call->batch);
        if (failed) break;
        if (call->name == RP_RESET) {
            rp_begin(problem, state);
            failed = device->reset(device->context, call->session, call->batch);
        } else {
            memcpy(state->before, call->a, call->batch * problem->outputs * (size_t)problem->bits / 8);
            failed = device->set_state(device->context, call->session, call->batch, call->r, call->a, call->count);
        }
    }
    if (failed) rj_fail(report, "call", t);
    for (i = 0; i < 2; i++) {
        free(states[i].before); free(states[i].after); free(states[i].r); free(states[i].y); free(states[i].mask);
    }
}

#endif
