/* refdeq_judge.h - the judge of unit steps for programs without Python. C99, header only, no allocation, reads nothing:
 * arrays in, verdict out. BSD-3-Clause, refdeq contributors.
 *
 *   rj_report report = rj_start();
 *   rj_model  model  = rj_arithmetic(32, RJ_SAME, RJ_SAME, 0);
 *   rj_mask(&report, "mask", expected_mask, mask, n);               bits
 *   rj_floats(&report, "r", 32, expected_r, r, n);                   bits; every NaN equals every NaN
 *   rj_sums(&report, &model, "a", &sums, before, after);             within the bound of the declared arithmetic
 *   rj_outputs(&report, "y", 32, after, bias, 1, n, width, y);       y = fl(a + b), bits
 *   return rj_verdict(&report);                                      0 only if something was compared and nothing failed
 *
 * Every comparison is written "good = error <= bound", so that NaN fails; classes of numbers are read from bits, not from
 * comparisons. There are no tolerances: the bound follows from the data and the declared arithmetic (docs/bounds.md). */

#ifndef REFDEQ_JUDGE_H
#define REFDEQ_JUDGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "refdeq_judge.h needs IEEE arithmetic: compile the judge without -ffast-math"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "refdeq_judge.h needs float and double evaluated as such: compile with -msse2 -mfpmath=sse"
#endif

#define RJ_PASSED 0  /* something was compared, nothing failed */
#define RJ_FAILED 1
#define RJ_EMPTY 4   /* nothing was compared: that proves nothing */

#ifdef __GNUC__
#define RJ_API static __attribute__((unused))
#else
#define RJ_API static
#endif

/* ------------------------------------------------------------------------------------------------------------- numbers */

/* Element i of an array of 32-bit or 64-bit floating-point numbers, as double (exact). */
RJ_API double rj_at(int bits, const void *array, size_t i)
{
    return bits == 32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

/* Its bits. */
RJ_API uint64_t rj_bits(int bits, const void *array, size_t i)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;
    if (bits == 32) {
        memcpy(&narrow, (const char *)array + 4 * i, 4);
        return narrow;
    }
    memcpy(&wide, (const char *)array + 8 * i, 8);
    return wide;
}

/* 0 finite, 1 +Inf, 2 -Inf, 3 NaN: from the bits of a double. */
RJ_API int rj_class(double value)
{
    const uint64_t infinity = UINT64_C(0x7ff0000000000000);
    uint64_t bits, size;
    memcpy(&bits, &value, 8);
    size = bits & ~(UINT64_C(1) << 63);
    if (size < infinity) return 0;
    if (size > infinity) return 3;
    return bits == infinity ? 1 : 2;
}

RJ_API double rj_abs(double value)
{
    return value < 0 ? -value : value;
}

RJ_API double rj_power(int exponent) /* 2^exponent, exact */
{
    double value = 1.0, factor = exponent < 0 ? 0.5 : 2.0;
    for (; exponent != 0; exponent += exponent < 0 ? 1 : -1) value *= factor;
    return value;
}

/* -------------------------------------------------------------------------------------------------------------- report */

typedef struct {
    size_t compared, failed;
    double worst;              /* largest error / bound of a finite comparison */
    const char *tensor;        /* the first failure: its name, element, numbers */
    size_t index;
    double expected, actual, error, bound;
} rj_report;

RJ_API rj_report rj_start(void)
{
    rj_report report;
    memset(&report, 0, sizeof report);
    return report;
}

RJ_API void rj_note(rj_report *report, int good, const char *tensor, size_t index, double expected, double actual,
                    double error, double bound)
{
    report->compared++;
    if (good) return;
    if (report->failed++ == 0) {
        report->tensor = tensor;
        report->index = index;
        report->expected = expected;
        report->actual = actual;
        report->error = error;
        report->bound = bound;
    }
}

/* A failure that is no comparison of numbers: a call that was refused, an answer that is not there. */
RJ_API void rj_fail(rj_report *report, const char *what, size_t index)
{
    rj_note(report, 0, what, index, 0.0, 0.0, 0.0, 0.0);
}

RJ_API int rj_verdict(const rj_report *report)
{
    if (report->failed) return RJ_FAILED;
    return report->compared ? RJ_PASSED : RJ_EMPTY;
}

/* --------------------------------------------------------------------------------------------------------------- bits */

/* Masks, one byte per element, which must be 0 or 1. */
RJ_API void rj_mask(rj_report *report, const char *tensor, const uint8_t *expected, const uint8_t *actual, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) rj_note(report, expected[i] == actual[i], tensor, i, expected[i], actual[i], 0.0, 0.0);
}

/* Equality of bits: +0 differs from -0, every NaN equals every NaN. */
RJ_API int rj_same(int bits, const void *expected, size_t i, const void *actual, size_t j)
{
    if (rj_bits(bits, expected, i) == rj_bits(bits, actual, j)) return 1;
    return rj_class(rj_at(bits, expected, i)) == 3 && rj_class(rj_at(bits, actual, j)) == 3;
}

RJ_API void rj_floats(rj_report *report, const char *tensor, int bits, const void *expected, const void *actual, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        double wanted = rj_at(bits, expected, i), got = rj_at(bits, actual, i);
        rj_note(report, rj_same(bits, expected, i, actual, i), tensor, i, wanted, got, 0.0, 0.0);
    }
}

/* ------------------------------------------------------------------------------------------------ models of arithmetic */

enum { RJ_SAME, RJ_TF32, RJ_BFLOAT16, RJ_FLOAT16 };

/* What is declared about a + sum A_ij d_j, and what follows from it. */
typedef struct {
    double carrier_unit, carrier_eta;  /* of the arrays, and of products */
    double add_unit, add_eta;          /* of the additions into the accumulator */
    double operand, operand_eta;       /* 2 u + u^2 and underflow of re-rounded operands; 0 where they are taken as they are */
    double rate;                       /* 1 round to nearest; 2 truncation, or not known */
    double largest;                    /* of the format of the arrays */
    int narrower;                      /* additions are narrower than the arrays */
} rj_model;

RJ_API double rj_unit(int format, int bits)
{
    if (format == RJ_TF32 || format == RJ_FLOAT16) return rj_power(-11);
    if (format == RJ_BFLOAT16) return rj_power(-8);
    return rj_power(bits == 32 ? -24 : -53);
}

/* Half the least subnormal; in double the least one stands for it. */
RJ_API double rj_eta(int format, int bits)
{
    if (format == RJ_FLOAT16) return rj_power(-25);
    if (format == RJ_TF32) return rj_power(-137);
    if (format == RJ_BFLOAT16) return rj_power(-134);
    return rj_power(bits == 32 ? -150 : -1074);
}

/* bits: 32 or 64, of the arrays. multiply: to which format operands are rounded before the multiplication. accumulate: the
 * format of additions (RJ_SAME, RJ_BFLOAT16, RJ_FLOAT16). truncates: additions need not round to nearest. */
RJ_API rj_model rj_arithmetic(int bits, int multiply, int accumulate, int truncates)
{
    rj_model model;
    double u = rj_unit(multiply, bits) * (truncates ? 2.0 : 1.0);
    model.rate = truncates ? 2.0 : 1.0;
    model.carrier_unit = rj_unit(RJ_SAME, bits);
    model.carrier_eta = rj_eta(RJ_SAME, bits) * model.rate;
    model.add_unit = rj_unit(accumulate, bits);
    model.add_eta = rj_eta(accumulate, bits) * model.rate;
    model.operand = multiply == RJ_SAME ? 0.0 : 2.0 * u + u * u;
    model.operand_eta = multiply == RJ_SAME ? 0.0 : rj_eta(multiply, bits) * model.rate;
    model.largest = bits == 32 ? (2.0 - rj_power(-23)) * rj_power(127) : (2.0 - rj_power(-52)) * rj_power(1023);
    model.narrower = accumulate != RJ_SAME;
    return model;
}

/* Bound on one accumulate of k products in any order, fused or not (N-7; validation design, section 3.3 b):
 *
 *     (k + 1 + extra) u (|base| + P)  +  (2 u_in + u_in^2) P  +  k eta
 *
 * base: magnitudes of what is added without being multiplied; products: P = sum |A||d|; sizes: sum |A| + |d|, only needed where
 * operands are re-rounded; extra: summands beyond the accumulator and the products. -1 when the model is too coarse for a
 * claim: the comparison then proves nothing and must not count. */
RJ_API double rj_bound(const rj_model *model, double k, double base, double products, double sizes, double extra)
{
    double gauge = base + products, theta = model->operand, growth, rate, bound;
    if (gauge == 0.0) return 0.0; /* a sum of zeros is zero in every order */
    if (model->narrower) theta = theta + model->carrier_unit * (1.0 + theta);
    growth = (k + 1.0 + extra) * model->add_unit * model->rate;
    if (growth >= (model->rate > 1.0 ? 0.5 : 1.0)) return -1.0;
    rate = model->rate > 1.0 ? growth / (1.0 - growth) : growth;
    bound = rate * (gauge + theta * products) + theta * products;
    bound += model->operand_eta * ((1.0 + theta) * sizes + k * model->operand_eta);
    bound += (model->carrier_eta * k + (model->narrower ? model->add_eta * (k + 1.0 + extra) : 0.0)) * (1.0 + rate);
    bound += k * (model->carrier_unit == rj_power(-24) ? rj_power(-53) * gauge : rj_power(-1074));
    return bound * (1.0 + rj_power(-40));
}

/* ---------------------------------------------------------------------------------------------------------- accumulators */

/* Exact change of an accumulator, as a pack gives it; n elements, width of them per sample. */
typedef struct {
    size_t n, width, sites;                 /* sites: elements that share one bias (1 for a Gemm) */
    const double *high, *low, *gauge;       /* sum_hi, sum_lo, gauge */
    const int64_t *k;
    const double *sizes;                    /* sum |A| + |d| over the sent terms; NULL unless operands are re-rounded */
    const uint8_t *fresh;                   /* per sample: it starts from +0 */
    const void *bias;                       /* only where it is folded into the accumulator (D-6), otherwise NULL */
} rj_change;

/* error = |got - (base + high + low)|, without losing what cancels */
RJ_API double rj_error(double got, double base, double high, double low)
{
    double s = got - base, t = s - got, rest = (got - (s - t)) + (-base - t);
    return rj_abs((s - high) + (rest - low));
}

/* Accumulators after a step against those before it: within the bound of the model. */
RJ_API void rj_sums(rj_report *report, const rj_model *model, const char *tensor, int bits, const rj_change *change,
                    const void *before, const void *after)
{
    size_t i;
    for (i = 0; i < change->n; i++) {
        int fresh = change->fresh[i / change->width] != 0, good, wanted;
        double b = change->bias ? rj_at(bits, change->bias, i % change->width / change->sites) : 0.0;
        double a = fresh ? 0.0 : rj_at(bits, before, i), got = rj_at(bits, after, i);
        double base = fresh ? b : a, expected = (base + change->low[i]) + change->high[i];
        double rest = change->bias && !fresh ? rj_abs(a) + 2.0 * rj_abs(b) : rj_abs(base);
        double sizes = change->sizes ? change->sizes[i] : 0.0, error = 0.0;
        double bound = rj_bound(model, (double)change->k[i], rest, change->gauge[i], sizes, change->bias && !fresh ? 2.0 : 0.0);
        if (model->operand > 0.0 && change->sizes == NULL) {
            rj_fail(report, "sizes are needed where operands are re-rounded", i);
            continue;
        }
        wanted = rj_class(expected);
        if (wanted != 0 || rj_class(change->gauge[i]) != 0) { /* the class must match; an overflowing gauge allows no claim */
            if (wanted != 0) rj_note(report, rj_class(got) == wanted, tensor, i, expected, got, 0.0, 0.0);
            continue;
        }
        if (bound < 0.0) continue; /* no claim is possible: not counted as compared */
        error = rj_error(got, base, change->high[i], change->low[i]);
        good = error <= bound;
        if (rj_class(got) != 0) /* overflow is right where the bound reaches it, with the sign of the sum */
            good = rj_abs(expected) + bound >= model->largest && rj_class(got) == (expected > 0.0 ? 1 : 2);
        else if (good && bound > 0.0 && error / bound > report->worst)
            report->worst = error / bound;
        rj_note(report, good, tensor, i, expected, got, error, bound);
    }
}

/* y = fl(a + b) of the accumulators as they are; bias NULL: y = a. Bits. */
RJ_API void rj_outputs(rj_report *report, const char *tensor, int bits, const void *a, const void *bias, size_t sites, size_t n,
                       size_t width, const void *y)
{
    size_t i;
    for (i = 0; i < n; i++) {
        volatile float narrow = 0.0f;
        volatile double wide = 0.0;
        size_t at = i % width / sites;
        int good;
        if (bits == 32) {
            narrow = ((const float *)a)[i];
            if (bias) narrow = narrow + ((const float *)bias)[at];
            wide = narrow;
        } else {
            wide = ((const double *)a)[i];
            if (bias) wide = wide + ((const double *)bias)[at];
        }
        if (bits == 32) {
            float value = narrow;
            good = rj_same(32, &value, 0, y, i);
        } else {
            double value = wide;
            good = rj_same(64, &value, 0, y, i);
        }
        rj_note(report, good, tensor, i, wide, rj_at(bits, y, i), 0.0, 0.0);
    }
}

#endif
