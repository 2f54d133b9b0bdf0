/* jsonl_client.c - the delta GEMV behind the live protocol of docs/protocol.md: one JSON object per line in, one out.
 *
 *     cc -std=c99 -O2 -ffp-contract=off -o jsonl_client jsonl_client.c -lm
 *     refdeq validate ./backend.toml */

#include "../c_parts/delta_gemv.h"

#define SESSIONS 64

static gemv opened[SESSIONS];
static int numbers[SESSIONS]; /* number of the session in each place; 0: free */

/* The next line of stdin, without its end; NULL where there is none. */
static char *next_line(void)
{
    size_t room = 1 << 16, used = 0;
    char *line = malloc(room), *more;
    while (line && fgets(line + used, (int)(room - used), stdin)) {
        used += strlen(line + used);
        if (used && line[used - 1] == '\n') return line;
        if (used + 1 < room) continue;
        more = realloc(line, 2 * room);
        if (!more) free(line);
        line = more;
        room *= 2;
    }
    free(line);
    return NULL;
}

static void fail(long id, const char *kind, const char *text)
{
    printf("{\"id\":%ld,\"error\":\"%s\",\"text\":\"%s\"}\n", id, kind, text);
}

static void print_array(const char *name, char kind, int size, const void *data, size_t batch, size_t width)
{
    const char *type = kind == 'b' ? "bool" : size == 4 ? "float32" : "float64";
    printf("\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"bits\":\"", name, type, batch, width);
    write_bits(stdout, kind, size, data, batch * width);
    printf("\"}");
}

static void print_two(long id, const char *first, char kind, const void *one, const char *second, const void *two, const gemv *g)
{
    int size = g->bits / 8;
    printf("{\"id\":%ld,\"results\":{", id);
    print_array(first, kind, kind == 'b' ? 1 : size, one, g->batch, g->inputs);
    printf(",");
    print_array(second, 'f', size, two, g->batch, g->outputs);
    printf("}}\n");
}

static void answer_step(long id, gemv *g, const json *arrays)
{
    array u = read_value(json_get(arrays, "u"), NULL);
    uint8_t *mask = calloc(g->batch * g->inputs + 1, 1);
    void *y = calloc(g->batch * g->outputs + 1, 8);
    if (gemv_step(g, &u, mask, y)) fail(id, "refused", "u does not fit, or there was no reset");
    else print_two(id, "mask", 'b', mask, "y", y, g);
    free(mask);
    free(y);
    array_free(&u);
}

static void answer_set_state(long id, gemv *g, const json *arrays)
{
    array r = read_value(json_get(arrays, "r"), NULL), a = read_value(json_get(arrays, "a"), NULL);
    array count = read_value(json_get(arrays, "count"), NULL);
    if (gemv_set_state(g, &r, &a, &count)) fail(id, "refused", "r, a and count do not fit");
    else printf("{\"id\":%ld}\n", id);
    array_free(&r);
    array_free(&a);
    array_free(&count);
}

static void answer(const json *message)
{
    const char *call = json_text(message, "call"), *why;
    const json *arrays = json_get(message, "arrays");
    long id = (long)json_number(message, "id", 0.0);
    int number = (int)json_number(message, "session", 0.0), place = 0;
    gemv *g;
    if (!strcmp(call, "hello")) {
        printf("{\"id\":%ld,\"protocol\":\"refdeq-live/1\"}\n", id);
        return;
    }
    while (place < SESSIONS && numbers[place] != (strcmp(call, "open") ? number : 0)) place++;
    if (place == SESSIONS || !number) {
        fail(id, "crash", "no such session, or too many");
        return;
    }
    g = opened + place;
    if (!strcmp(call, "open")) {
        why = gemv_open(g, json_get(message, "problem"), arrays, NULL);
        if (why) fail(id, "unsupported", why);
        else printf("{\"id\":%ld}\n", id);
        if (why) gemv_free(g);
        else numbers[place] = number;
    } else if (!strcmp(call, "reset")) {
        if (is_batch(json_get(message, "batch"))) {
            gemv_reset(g, (size_t)json_number(message, "batch", 0.0));
            printf("{\"id\":%ld}\n", id);
        } else {
            fail(id, "refused", "batch must be an integer of at least 0");
        }
    } else if (!strcmp(call, "set_state")) {
        answer_set_state(id, g, arrays);
    } else if (!strcmp(call, "step")) {
        answer_step(id, g, arrays);
    } else if (!strcmp(call, "get_state") && g->ready) {
        print_two(id, "r", 'f', g->r, "a", g->a, g);
    } else if (!strcmp(call, "close")) {
        gemv_free(g);
        numbers[place] = 0;
        printf("{\"id\":%ld}\n", id);
    } else {
        fail(id, "unsupported", "this call is not offered");
    }
}

int main(void)
{
    char *line;
    while ((line = next_line())) {
        json *message = json_parse(line);
        free(line);
        if (!message) return 1;
        answer(message);
        fflush(stdout);
        json_free(message);
    }
    return 0;
}
