/* device.c - a device for the arrays of a pack, made of the delta GEMV of the examples. STRICT: how accumulators are compared. */

#include <stdio.h>

#include "../../../examples/c_parts/delta_gemv.h"
#include "refdeq_cases.h"

static gemv made[2];

static array borrowed(const void *data, char kind, int size, size_t rows, size_t columns)
{
    array a = {0, 0, 0, 2, {0}, NULL};
    a.size = size;
    a.kind = kind;
    a.count = rows * columns;
    a.shape[0] = rows;
    a.shape[1] = columns;
    a.data = malloc(a.count * (size_t)size + 1);
    memcpy(a.data, data, a.count * (size_t)size);
    return a;
}

static int device_open(void *context, int session, const rp_case *p)
{
    gemv *g = made + session;
    int bytes = p->bits / 8;
    (void)context;
    gemv_free(g);
    g->bits = p->bits;
    g->inputs = p->inputs;
    g->outputs = p->outputs;
    g->weight = borrowed(p->weight, 'f', bytes, p->outputs, p->inputs);
    if (p->bias) g->bias = borrowed(p->bias, 'f', bytes, 1, p->outputs);
    g->ge = p->compare == RP_GE;
    g->always = p->memory == RP_ALWAYS;
    g->feedback = p->memory == RP_FEEDBACK;
    g->dense_start = p->dense_start;
    g->folded = p->folded;
    g->by_sample = p->granularity == RP_SAMPLE;
    g->refresh = p->refresh;
    g->feedback_format = p->feedback_format == 16 ? 11 : p->feedback_format == 17 ? 8 : 0;
    g->delta_format = p->delta_format == 16 ? 11 : p->delta_format == 32 ? 24 : 0;
    g->thresholds = p->thresholds;
    g->threshold = malloc(p->thresholds * sizeof *g->threshold);
    memcpy(g->threshold, p->threshold, p->thresholds * sizeof *g->threshold);
    return 0;
}

static int device_reset(void *context, int session, size_t batch)
{
    (void)context;
    gemv_reset(made + session, batch);
    return 0;
}

static int device_set_state(void *context, int session, size_t batch, const void *r, const void *a, const int64_t *count)
{
    gemv *g = made + session;
    size_t bytes = (size_t)g->bits / 8;
    (void)context;
    gemv_allocate(g, batch);
    memcpy(g->r, r, batch * g->inputs * bytes);
    memcpy(g->a, a, batch * g->outputs * bytes);
    memcpy(g->count, count, batch * sizeof *count);
    return 0;
}

static int device_step(void *context, int session, const void *u, uint8_t *mask, void *y)
{
    gemv *g = made + session;
    (void)context;
    if (g->bits == 32) gemv_step_32(g, u, mask, y);
    else gemv_step_64(g, u, mask, y);
    return 0;
}

static int device_get_state(void *context, int session, void *r, void *a)
{
    gemv *g = made + session;
    (void)context;
    memcpy(r, g->r, g->batch * g->inputs * (size_t)g->bits / 8);
    memcpy(a, g->a, g->batch * g->outputs * (size_t)g->bits / 8);
    return 0;
}

int main(void)
{
    rp_device device = {NULL, device_open, device_reset, device_set_state, device_step, device_get_state};
    rj_model models[2];
    size_t i, failed = 0, run = 0;
    models[0] = rj_arithmetic(32, RJ_SAME, RJ_SAME, 0);
    models[1] = rj_arithmetic(64, RJ_SAME, RJ_SAME, 0);
    for (i = 0; i < rp_case_count; i++) {
        const rp_case *one = rp_cases[i];
        rj_report report = rj_start();
        if (one->op != RP_GEMM) continue;
        rp_run(one, &device, models + (one->bits == 64), STRICT, &report);
        run++;
        failed += rj_verdict(&report) != RJ_PASSED;
        printf("%s %d %lu %g\n", one->id, rj_verdict(&report), (unsigned long)report.compared, report.worst);
    }
    gemv_free(made);
    gemv_free(made + 1);
    return run == 0 ? RJ_EMPTY : failed ? RJ_FAILED : RJ_PASSED;
}
