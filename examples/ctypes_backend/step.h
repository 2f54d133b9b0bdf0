/* One evaluation of a gated linear node y = A u + b, for the floating-point type REAL; delta.c includes this once per type.
 *
 * Strict order (N-6): every product is rounded, then added to the stored accumulator, over ascending j. The compiler must
 * neither contract the two into a fused multiply-add nor reassociate the sum: -ffp-contract=off, and no -ffast-math. */

struct PASTE(node_, REAL) {
    int64_t inputs, outputs;  /* A has outputs rows and inputs columns */
    const REAL *weight, *bias, *threshold; /* bias may be NULL; one threshold per input */
    int64_t refresh;          /* D-12; 0 is never */
    int32_t ge, always, dense_start;
};

static void PASTE(accumulate_, REAL)(const struct PASTE(node_, REAL) *node, const REAL *d, const uint8_t *sent, REAL *a) {
    for (int64_t i = 0; i < node->outputs; i++)
        for (int64_t j = 0; j < node->inputs; j++)
            if (sent == NULL || sent[j]) { /* D-7: what is not sent is not read */
                REAL product = node->weight[i * node->inputs + j] * d[j];
                a[i] = a[i] + product;
            }
}

static void PASTE(dense_, REAL)(const struct PASTE(node_, REAL) *node, const REAL *u, REAL *a) {
    for (int64_t i = 0; i < node->outputs; i++) a[i] = 0;
    PASTE(accumulate_, REAL)(node, u, NULL, a);
}

/* State r (batch, inputs), a (batch, outputs) and count (batch) are read and written; mask and y are written; d is scratch. */
void PASTE(step_, REAL)(const struct PASTE(node_, REAL) *node, int64_t batch, REAL *r, REAL *a, int64_t *count,
                        const REAL *u, uint8_t *mask, REAL *y, REAL *d) {
    for (int64_t n = 0; n < batch; n++) {
        int start = node->dense_start && count[n] == 0;
        for (int64_t j = 0; j < node->inputs; j++) {
            REAL delta = u[j] - r[j];                                                                 /* D-1 */
            REAL size = delta < 0 ? -delta : delta;
            int sent = node->ge ? !(size < node->threshold[j]) : !(size <= node->threshold[j]);       /* D-2: NaN is sent */
            mask[j] = start || sent;
            d[j] = start ? u[j] : sent ? delta : 0;                                                   /* D-3 */
            if (node->always || mask[j]) r[j] = u[j];                                                 /* D-4 */
        }
        if (start) PASTE(dense_, REAL)(node, u, a);                                                   /* D-5 */
        else if (node->refresh && count[n] > 0 && count[n] % node->refresh == 0) PASTE(dense_, REAL)(node, r, a);
        else PASTE(accumulate_, REAL)(node, d, mask, a);                                              /* D-6 */
        for (int64_t i = 0; i < node->outputs; i++) y[i] = node->bias ? a[i] + node->bias[i] : a[i];
        count[n]++;
        u += node->inputs, r += node->inputs, mask += node->inputs, a += node->outputs, y += node->outputs;
    }
}
