/* delta_gemv_step.h - one evaluation in NUMBER, as the function STEP; included by delta_gemv.h once per type. */

static void STEP(gemv *g, const NUMBER *u, uint8_t *mask, NUMBER *y)
{
    const NUMBER *weight = g->weight.data, *bias = g->bias.data;
    NUMBER *d = calloc(g->inputs + 1, sizeof *d);
    size_t b, i, j;
    for (b = 0; b < g->batch; b++, u += g->inputs, mask += g->inputs, y += g->outputs) {
        NUMBER *r = (NUMBER *)g->r + b * g->inputs, *a = (NUMBER *)g->a + b * g->outputs;
        int start = g->dense_start && (g->count[b] == 0 || g->dense), any = 0;
        int refresh = g->refresh && !start && g->count[b] > 0 && g->count[b] % g->refresh == 0;
        for (j = 0; j < g->inputs; j++) {
            NUMBER tau = (NUMBER)g->threshold[g->thresholds > 1 ? j : 0], size;
            d[j] = u[j] - r[j];                                              /* D-1 */
            if (g->delta_format)
                d[j] = (NUMBER)rounded(rounded(u[j], g->delta_format) - rounded(r[j], g->delta_format), g->delta_format);
            size = d[j] < 0 ? -d[j] : d[j];
            mask[j] = g->ge ? !(size < tau) : !(size <= tau);                /* D-2: NaN is sent */
            any |= mask[j];
        }
        for (j = 0; j < g->inputs; j++) {
            if (g->by_sample) mask[j] = (uint8_t)any;                        /* D-10 */
            if (start) {                                                     /* D-5 */
                mask[j] = 1;
                r[j] = d[j] = u[j];
                continue;
            }
            if (!mask[j]) d[j] = 0;                                          /* D-3 */
            if (g->feedback) {                                               /* D-4 */
                d[j] = (NUMBER)rounded(d[j], g->feedback_format);
                if (mask[j]) r[j] = r[j] + d[j];
            } else if (g->always || mask[j]) {
                r[j] = u[j];
            }
        }
        for (i = 0; i < g->outputs; i++) {                                   /* D-6, N-6 */
            NUMBER sum = start || refresh || g->folded ? 0 : a[i];
            for (j = 0; j < g->inputs; j++) {
                if (refresh) sum = sum + weight[i * g->inputs + j] * r[j];   /* D-12 */
                else if (mask[j]) sum = sum + weight[i * g->inputs + j] * d[j]; /* D-7 */
            }
            if (g->folded) sum = start || refresh ? sum + bias[i] : ((sum + bias[i]) + a[i]) - bias[i];
            a[i] = sum;
            y[i] = g->folded || !bias ? sum : sum + bias[i];
        }
        g->count[b]++;
    }
    free(d);
}
