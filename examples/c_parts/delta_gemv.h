/* delta_gemv.h - a Gemm behind a gate, under every delta rule, in strict order: what docs/semantics.md says, in C99.
 *
 * Compile with -ffp-contract=off: a fused multiply-add is not strict order (N-6). */

#ifndef DELTA_GEMV_H
#define DELTA_GEMV_H

#include <math.h>

#include "values.h"

typedef struct {
    int bits, ge, always, feedback, dense, dense_start, folded, by_sample;
    long refresh;
    int feedback_format, delta_format;       /* 0 none, 11 float16, 8 bfloat16, 24 float32: significant bits */
    size_t inputs, outputs, batch, thresholds;
    double *threshold;
    array weight, bias;                      /* bias.size 0: there is none */
    char *r, *a;
    int64_t *count;
    int ready;                               /* reset or set_state was called */
} gemv;

static int format_of(const char *name)
{
    return !strcmp(name, "float16") ? 11 : !strcmp(name, "bfloat16") ? 8 : !strcmp(name, "float32") ? 24 : 0;
}

/* Nearest number of a narrow format, ties to even, with subnormals; overflow gives infinity. */
static double rounded(double value, int digits)
{
    int exponent, least = digits == 11 ? -13 : -125;
    double unit, result, largest = digits == 11 ? 65504.0 : 3.3895313892515355e38;
    if (digits == 24) return (double)(float)value;
    if (!isfinite(value) || value == 0.0) return value;
    frexp(value, &exponent);
    unit = ldexp(1.0, (exponent > least ? exponent : least) - digits);
    result = copysign(rint(value / unit) * unit, value);
    return fabs(result) > largest ? copysign(INFINITY, value) : result;
}

/* One evaluation of all samples (D-1 to D-6, D-10, D-12), in float and in double. */
#define NUMBER float
#define STEP gemv_step_32
#include "delta_gemv_step.h"
#undef NUMBER
#undef STEP
#define NUMBER double
#define STEP gemv_step_64
#include "delta_gemv_step.h"

static void gemv_free(gemv *g)
{
    array_free(&g->weight);
    array_free(&g->bias);
    free(g->threshold);
    free(g->r);
    free(g->a);
    free(g->count);
    memset(g, 0, sizeof *g);
}

/* A problem of a pack or of the live protocol; NULL, or why it is not offered. */
static const char *gemv_open(gemv *g, const json *problem, const json *arrays, const char *tensors)
{
    const json *rule = json_get(problem, "rule"), *tau = json_get(rule, "threshold");
    const json *gate = json_get(json_get(rule, "gates"), "z"), *list = json_get(rule, "dense");
    const char *granularity = json_text(json_get(gate, "granularity") ? gate : rule, "granularity"); /* D-11 */
    const char *memory = json_text(rule, "memory");
    const json *one;
    size_t n = 0;
    memset(g, 0, sizeof *g);
    if (json_get(gate, "threshold")) tau = json_get(gate, "threshold");
    for (one = list ? list->first : NULL; one; one = one->next) g->dense |= !strcmp(one->text, "linear");
    if (strcmp(json_text(problem, "op"), "Gemm") || !rule || json_get(problem, "storage")) return "only Gemm behind a gate";
    if (!strcmp(granularity, "pixel") || !strcmp(granularity, "tile")) return "a Gemm has no pixels and tiles";
    g->bits = !strcmp(json_text(problem, "dtype"), "float32") ? 32 : 64;
    g->weight = read_value(json_get(arrays, "weight"), tensors);
    if (json_get(arrays, "bias")) g->bias = read_value(json_get(arrays, "bias"), tensors);
    if (g->weight.rank != 2 || g->weight.size != g->bits / 8) return "weight cannot be read";
    if (json_get(arrays, "bias") && !g->bias.size) return "bias cannot be read";
    g->outputs = g->weight.shape[0];
    g->inputs = g->weight.shape[1];
    g->ge = !strcmp(json_text(rule, "compare"), "ge");
    g->always = !strcmp(memory, "always");
    g->feedback = !strcmp(memory, "feedback");
    g->dense_start = g->dense || !strcmp(json_text(rule, "start"), "dense");
    g->folded = !strcmp(json_text(rule, "bias"), "folded") && g->bias.size && !g->dense;
    g->by_sample = !strcmp(granularity, "sample");
    g->refresh = (long)json_number(rule, "refresh", 0.0);
    g->feedback_format = format_of(json_text(rule, "feedback_format"));
    g->delta_format = format_of(json_text(rule, "delta_dtype"));
    g->threshold = calloc(g->inputs + 1, sizeof *g->threshold);
    for (one = tau && tau->kind == JSON_LIST ? tau->first : tau; one && n < g->inputs; one = tau == one ? NULL : one->next)
        g->threshold[n++] = one->kind == JSON_TEXT ? strtod(one->text, NULL) : one->number;
    g->thresholds = n;
    return n ? NULL : "threshold cannot be read";
}

static void gemv_allocate(gemv *g, size_t batch)
{
    size_t bytes = (size_t)g->bits / 8;
    free(g->r);
    free(g->a);
    free(g->count);
    g->r = calloc(batch * g->inputs + 1, bytes);
    g->a = calloc(batch * g->outputs + 1, bytes);
    g->count = calloc(batch + 1, sizeof *g->count);
    g->batch = batch;
    g->ready = 1;
}

/* A batch is an integer of at least 0. */
static int is_batch(const json *number)
{
    return number && number->kind == JSON_NUMBER && number->number >= 0.0 && number->number < 1e9
        && number->number == floor(number->number);
}

/* Forget the gate state (D-9); the accumulator begins at +0, or from the bias where it is folded (D-6). */
static void gemv_reset(gemv *g, size_t batch)
{
    size_t i, bytes = (size_t)g->bits / 8;
    gemv_allocate(g, batch);
    for (i = 0; g->folded && i < batch * g->outputs; i++)
        memcpy(g->a + i * bytes, (char *)g->bias.data + i % g->outputs * bytes, bytes);
}

static int has_shape(const gemv *g, const array *a, size_t batch, size_t width)
{
    return a->kind == 'f' && a->size == g->bits / 8 && a->rank == 2 && a->shape[0] == batch && a->shape[1] == width;
}

/* 0, or 1 when the arrays do not fit: then nothing changes. */
static int gemv_set_state(gemv *g, const array *r, const array *a, const array *count)
{
    size_t batch = count->count, i;
    if (count->kind != 'i' || count->rank != 1) return 1;
    for (i = 0; i < batch; i++)
        if (((const int64_t *)count->data)[i] < 0) return 1;
    if (!has_shape(g, r, batch, g->inputs) || !has_shape(g, a, batch, g->outputs)) return 1;
    gemv_allocate(g, batch);
    memcpy(g->r, r->data, r->count * (size_t)r->size);
    memcpy(g->a, a->data, a->count * (size_t)a->size);
    memcpy(g->count, count->data, batch * sizeof *g->count);
    return 0;
}

static int gemv_step(gemv *g, const array *u, uint8_t *mask, void *y)
{
    if (!g->ready || !has_shape(g, u, g->batch, g->inputs)) return 1;
    if (g->bits == 32) gemv_step_32(g, u->data, mask, y);
    else gemv_step_64(g, u->data, mask, y);
    return 0;
}

#endif
