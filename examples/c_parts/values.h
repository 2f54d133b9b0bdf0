/* values.h - arrays of packs and of the live protocol: bit strings, constants, tensors, drawn numbers. C99, little endian. */

#ifndef VALUES_H
#define VALUES_H

#include <stdint.h>

#include "json.h"

typedef struct {
    int size;                      /* bytes of one number; 0 where the value cannot be read */
    char kind;                     /* 'f' float32 or float64, 'b' bool, 'i' int64 */
    size_t count, rank, shape[8];
    void *data;
} array;

static void array_free(array *a)
{
    free(a->data);
    memset(a, 0, sizeof *a);
}

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    size_t room = 1 << 16, used = 0, got;
    char *data = file ? malloc(room + 1) : NULL, *more;
    while (data && (got = fread(data + used, 1, room - used, file)) > 0) {
        used += got;
        if (used < room) continue;
        more = realloc(data, 2 * room + 1);
        if (!more) free(data);
        data = more;
        room *= 2;
    }
    if (file) fclose(file);
    if (data) data[used] = 0;
    if (size) *size = used;
    return data;
}

/* ------------------------------------------------------------------------------------------------------ drawn numbers */

static uint32_t sha_turn(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* First 8 bytes of the SHA-256 of a text of less than 56 characters per block, little endian. */
static uint64_t sha256_head(const char *text)
{
    static const uint32_t primes[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
        0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
        0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
        0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
        0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
        0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t length = strlen(text), blocks = (length + 8) / 64 + 1, block;
    uint64_t head = 0;
    int i;
    for (block = 0; block < blocks; block++) {
        uint32_t w[64], s[8];
        for (i = 0; i < 16; i++) {
            int byte;
            for (w[i] = 0, byte = 0; byte < 4; byte++) {
                size_t at = 64 * block + 4 * (size_t)i + (size_t)byte;
                uint32_t c = at < length ? (unsigned char)text[at] : at == length ? 0x80u : 0u;
                if (at >= 64 * blocks - 8) c = (uint32_t)((8 * (uint64_t)length) >> (8 * (64 * blocks - 1 - at))) & 255u;
                w[i] = w[i] << 8 | c;
            }
        }
        for (; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (sha_turn(x, 7) ^ sha_turn(x, 18) ^ x >> 3) + w[i - 7]
                 + (sha_turn(y, 17) ^ sha_turn(y, 19) ^ y >> 10);
        }
        memcpy(s, h, sizeof s);
        for (i = 0; i < 64; i++) {
            uint32_t one = s[7] + (sha_turn(s[4], 6) ^ sha_turn(s[4], 11) ^ sha_turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6]))
                         + primes[i] + w[i];
            uint32_t two = (sha_turn(s[0], 2) ^ sha_turn(s[0], 13) ^ sha_turn(s[0], 22))
                         + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (i = 0; i < 8; i++) h[i] += s[i];
    }
    for (i = 7; i >= 0; i--) head = head << 8 | (h[i / 4] >> (24 - 8 * (i % 4)) & 255u);
    return head;
}

/* SplitMix64 of (seed, name, index) through an exact map (docs/protocol.md). */
static void draw(const json *how, array *a)
{
    uint64_t state = sha256_head(json_text(how, "name")) ^ (uint64_t)json_number(how, "seed", 0.0);
    int bits = a->size == 4 ? 24 : 53, uniform = !strcmp(json_text(how, "map"), "uniform");
    double low = json_number(how, "low", 0.0), high = json_number(how, "high", 0.0);
    double scale = bits == 24 ? 1.0 / 8388608.0 : 1.0 / 4503599627370496.0;
    size_t i;
    for (i = 0; i < a->count; i++) {
        uint64_t x = state += UINT64_C(0x9e3779b97f4a7c15);
        double value;
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
        value = uniform ? (double)(x >> (64 - bits)) * scale - 1.0 : low + (double)(x % (uint64_t)(high - low + 1.0));
        if (a->size == 4) ((float *)a->data)[i] = (float)value;
        else ((double *)a->data)[i] = value;
    }
}

/* -------------------------------------------------------------------------------------------------------------- values */

/* Numbers of a bit string; how many there were. */
static size_t read_bits(const char *text, array *a)
{
    const char *at = strchr(text, ':');
    size_t i;
    if (!at || !at[1]) return 0;
    for (i = 0; at && i < a->count; i++) {
        uint64_t bits = strtoull(at + 1, NULL, 16);
        memcpy((char *)a->data + i * (size_t)a->size, &bits, (size_t)a->size);
        at = strchr(at + 1, ',');
    }
    return at ? i + 1 : i;
}

/* Bytes of a tensor of a safetensors file that was read; NULL where it has none of that name. */
static const char *find_tensor(const char *file, const char *name, size_t bytes)
{
    uint64_t length;
    char *text;
    json *header;
    const json *offsets;
    const char *found = NULL;
    memcpy(&length, file, 8);
    text = calloc((size_t)length + 1, 1);
    memcpy(text, file + 8, (size_t)length);
    header = json_parse(text);
    offsets = json_get(json_get(header, name), "data_offsets");
    if (offsets && offsets->first->next->number - offsets->first->number == (double)bytes)
        found = file + 8 + length + (size_t)offsets->first->number;
    json_free(header);
    free(text);
    return found;
}

/* A value of a case or a message; tensors: a safetensors file that was read, or NULL. size is 0 where it cannot be read. */
static array read_value(const json *value, const char *tensors)
{
    array a = {0, 0, 1, 0, {0}, NULL}, none = {0, 0, 0, 0, {0}, NULL};
    const char *type = json_text(value, "dtype"), *source = NULL;
    const json *length = json_get(value, "shape");
    char *raw = NULL;
    size_t i, bytes = 0;
    a.kind = !strcmp(type, "bool") ? 'b' : !strcmp(type, "int64") ? 'i' : 'f';
    a.size = a.kind == 'b' ? 1 : a.kind == 'i' || !strcmp(type, "float64") ? 8 : !strcmp(type, "float32") ? 4 : 0;
    for (length = length ? length->first : NULL; length && a.rank < 8; length = length->next)
        a.count *= a.shape[a.rank++] = (size_t)length->number;
    if (!a.size || !(a.data = calloc(a.count + 1, (size_t)a.size))) return none;
    if (json_get(value, "bits")) {
        if (read_bits(json_text(value, "bits"), &a) == a.count) return a;
    } else if (json_get(value, "fill")) {
        size_t count = a.count;
        a.count = 1;
        read_bits(json_text(value, "fill"), &a);
        a.count = count;
        for (i = 1; i < count; i++) memcpy((char *)a.data + i * (size_t)a.size, a.data, (size_t)a.size);
        return a;
    } else if (json_get(value, "procedural")) {
        draw(json_get(value, "procedural"), &a);
        return a;
    } else if (json_get(value, "file")) {
        source = raw = read_file(json_text(value, "file"), &bytes);
        if (bytes != a.count * (size_t)a.size) source = NULL;
    } else if (tensors) {
        source = find_tensor(tensors, json_text(value, "tensor"), a.count * (size_t)a.size);
    }
    if (source) memcpy(a.data, source, a.count * (size_t)a.size);
    free(raw);
    if (source) return a;
    array_free(&a);
    return none;
}

/* A bit string, without quotes. */
static void write_bits(FILE *out, char kind, int size, const void *data, size_t count)
{
    size_t i;
    fprintf(out, "%s:", kind == 'b' ? "bool" : kind == 'i' ? "i64" : size == 4 ? "f32" : "f64");
    for (i = 0; i < count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, (const char *)data + i * (size_t)size, (size_t)size);
        fprintf(out, "%s%0*llx", i ? "," : "", kind == 'b' ? 1 : 2 * size, (unsigned long long)bits);
    }
}

#endif
