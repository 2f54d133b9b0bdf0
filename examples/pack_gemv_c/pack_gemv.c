/* pack_gemv.c - answers a pack of refdeq from its files alone: cases in, response.jsonl out.
 *
 *     cc -std=c99 -O2 -ffp-contract=off -o pack_gemv pack_gemv.c -lm
 *     ./pack_gemv PACK response.jsonl
 *     refdeq judge PACK response.jsonl --manifest backend.toml */

#include "../c_parts/delta_gemv.h"

static int answers, left_out;

static void write_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void begin_answer(FILE *out, const char *id, int call)
{
    fprintf(out, "{\"case\":");
    write_quoted(out, id);
    fprintf(out, ",\"call\":%d", call);
    answers++;
}

static void write_array(FILE *out, const char *name, char kind, int size, const void *data, size_t count)
{
    fprintf(out, "\"%s\":\"", name);
    write_bits(out, kind, size, data, count);
    fprintf(out, "\"");
}

/* One call: 0 answered, 1 refused. */
static int answer_call(FILE *out, gemv *g, const json *call, const char *id, int t, const char *tensors)
{
    const json *arrays = json_get(call, "arrays"), *options = json_get(call, "options");
    const char *name = json_text(call, "name");
    int size = g->bits / 8, refused;
    if (!strcmp(name, "threads")) {
        refused = 0; /* there is one */
    } else if (!strcmp(name, "reset")) {
        refused = !is_batch(json_get(options, "batch"));
        if (!refused) gemv_reset(g, (size_t)json_number(options, "batch", 0.0));
    } else if (!strcmp(name, "set_state")) {
        array r = read_value(json_get(arrays, "r"), tensors), a = read_value(json_get(arrays, "a"), tensors);
        array count = read_value(json_get(arrays, "count"), tensors);
        refused = gemv_set_state(g, &r, &a, &count);
        array_free(&r);
        array_free(&a);
        array_free(&count);
    } else {
        array u = read_value(json_get(arrays, "u"), tensors);
        uint8_t *mask = calloc(g->batch * g->inputs + 1, 1);
        void *y = calloc(g->batch * g->outputs + 1, (size_t)size);
        refused = gemv_step(g, &u, mask, y);
        if (!refused) {
            begin_answer(out, id, t);
            fprintf(out, ",\"results\":{");
            write_array(out, "mask", 'b', 1, mask, g->batch * g->inputs);
            fputc(',', out);
            write_array(out, "y", 'f', size, y, g->batch * g->outputs);
            fputc(',', out);
            write_array(out, "r", 'f', size, g->r, g->batch * g->inputs);
            fputc(',', out);
            write_array(out, "a", 'f', size, g->a, g->batch * g->outputs);
            fprintf(out, "}}\n");
        }
        free(mask);
        free(y);
        array_free(&u);
    }
    if (refused || strcmp(name, "step")) {
        begin_answer(out, id, t);
        fprintf(out, refused ? ",\"error\":\"refused\",\"text\":\"arguments that do not fit\"}\n" : "}\n");
    }
    return refused;
}

/* Cases of two sessions open the problem twice. Cases with other calls than those of unit steps are left out. */
static void answer_case(FILE *out, const json *row, const char *tensors)
{
    const json *call, *calls = json_get(row, "calls");
    const char *why = NULL;
    gemv g[2];
    int t = 0, i;
    for (call = calls->first; call; call = call->next) {
        const char *name = json_text(call, "name");
        if (!strcmp(name, "solve") || !strcmp(name, "gradient")) why = "not a unit step";
    }
    for (i = 0; i < 2; i++) {
        const char *refusal = gemv_open(g + i, json_get(row, "problem"), json_get(row, "arrays"), tensors);
        why = why ? why : refusal;
    }
    left_out += why != NULL;
    for (call = why ? NULL : calls->first; call; call = call->next, t++) {
        i = json_number(json_get(call, "options"), "session", 0.0) == 1.0;
        if (answer_call(out, g + i, call, json_text(row, "id"), t, tensors) && !json_number(call, "refused", 0.0)) break;
    }
    gemv_free(g);
    gemv_free(g + 1);
}

/* All cases of one file, with the tensors of the same op and family. */
static int answer_file(FILE *out, const char *pack, const char *name)
{
    char path[4096], *text, *line, *end, *tensors;
    const char *family = strrchr(name, '/') + 1;
    snprintf(path, sizeof path, "%s/%s", pack, name);
    text = read_file(path, NULL);
    snprintf(path, sizeof path, "%s/tensors/gemm-%.*s.safetensors", pack, (int)strcspn(family, "."), family);
    tensors = read_file(path, NULL);
    for (line = text; line && *line; line = end + 1) {
        json *row;
        end = strchr(line, '\n');
        if (!end) return 1;
        *end = 0;
        row = json_parse(line);
        if (!row) return 1;
        answer_case(out, row, tensors);
        json_free(row);
    }
    free(text);
    free(tensors);
    return text == NULL;
}

int main(int count, char **argument)
{
    char path[4096], *text;
    json *manifest;
    const json *file, *files;
    FILE *out;
    if (count != 3) {
        fprintf(stderr, "usage: pack_gemv PACK RESPONSE\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/manifest.json", argument[1]);
    text = read_file(path, NULL);
    manifest = text ? json_parse(text) : NULL;
    out = manifest ? fopen(argument[2], "wb") : NULL;
    if (!out) {
        fprintf(stderr, "pack_gemv: %s cannot be read, or %s cannot be written\n", path, argument[2]);
        return 2;
    }
    fprintf(out, "{\"schema\":\"refdeq-response/1\",\"prompt\":\"%s\",\"backend\":\"pack_gemv\"}\n", json_text(manifest, "prompt"));
    files = json_get(manifest, "files");
    for (file = files ? files->first : NULL; file; file = file->next) {
        if (strncmp(file->key, "cases/gemm/", 11)) continue;
        if (answer_file(out, argument[1], file->key)) {
            fprintf(stderr, "pack_gemv: %s is broken\n", file->key);
            return 2;
        }
    }
    fprintf(stderr, "pack_gemv: %d calls answered, %d cases left out\n", answers, left_out);
    json_free(manifest);
    free(text);
    return fclose(out) ? 2 : 0;
}
