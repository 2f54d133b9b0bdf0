/* json.h - a small JSON reader: text to a tree, in C99. Objects keep the order of the text; numbers are double. */

#ifndef JSON_H
#define JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT } json_kind;

typedef struct json {
    json_kind kind;
    char *key, *text;              /* key: where it is a member of an object */
    double number;                 /* also 0 or 1 of a bool */
    struct json *first, *next;     /* children of lists and objects */
} json;

static void json_free(json *node)
{
    while (node) {
        json *next = node->next;
        json_free(node->first);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}

static const char *json_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
    return at;
}

static void json_utf8(char **out, unsigned code)
{
    if (code < 0x80) {
        *(*out)++ = (char)code;
    } else if (code < 0x800) {
        *(*out)++ = (char)(0xc0 | (code >> 6));
        *(*out)++ = (char)(0x80 | (code & 63));
    } else {
        *(*out)++ = (char)(0xe0 | (code >> 12));
        *(*out)++ = (char)(0x80 | ((code >> 6) & 63));
        *(*out)++ = (char)(0x80 | (code & 63));
    }
}

/* A string that starts at the quote; NULL where it is broken. */
static const char *json_string(const char *at, char **text)
{
    const char *end = at + 1;
    char *out;
    while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
    if (!*end || !(*text = malloc((size_t)(end - at)))) return NULL;
    for (out = *text, at++; at < end; at++) {
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        const char *name;
        unsigned code;
        if (*at != '\\') {
            *out++ = *at;
        } else if (*++at == 'u') {
            if (sscanf(at + 1, "%4x", &code) != 1) return NULL;
            json_utf8(&out, code);
            at += 4;
        } else {
            name = strchr(names, *at);
            if (!name || !*at) return NULL;
            *out++ = values[name - names];
        }
    }
    *out = 0;
    return end + 1;
}

static const char *json_value(const char *at, json **node, int depth);

/* Members of a list or object, after its bracket. */
static const char *json_members(const char *at, json *node, char close, int depth)
{
    json **last = &node->first;
    at = json_space(at);
    if (*at == close) return at + 1;
    for (;;) {
        char *key = NULL;
        if (close == '}') {
            if (*at != '"' || !(at = json_string(at, &key))) return NULL;
            at = json_space(at);
            if (*at++ != ':') {
                free(key);
                return NULL;
            }
        }
        at = json_value(at, last, depth + 1);
        if (!at) {
            free(key);
            return NULL;
        }
        (*last)->key = key;
        last = &(*last)->next;
        at = json_space(at);
        if (*at == close) return at + 1;
        if (*at++ != ',') return NULL;
        at = json_space(at);
    }
}

static const char *json_value(const char *at, json **node, int depth)
{
    static const char *const words[] = {"null", "false", "true"};
    char *end;
    int i;
    at = json_space(at);
    *node = calloc(1, sizeof **node);
    if (!*node || depth > 64) return NULL;
    if (*at == '{' || *at == '[') {
        (*node)->kind = *at == '{' ? JSON_OBJECT : JSON_LIST;
        return json_members(at + 1, *node, *at == '{' ? '}' : ']', depth);
    }
    if (*at == '"') {
        (*node)->kind = JSON_TEXT;
        return json_string(at, &(*node)->text);
    }
    for (i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if (strncmp(at, words[i], length)) continue;
        (*node)->kind = i ? JSON_BOOL : JSON_NULL;
        (*node)->number = i == 2;
        return at + length;
    }
    (*node)->kind = JSON_NUMBER;
    (*node)->number = strtod(at, &end);
    return end == at ? NULL : end;
}

/* The tree of a text; NULL where the text is not JSON. */
static json *json_parse(const char *text)
{
    json *node = NULL;
    const char *end = json_value(text, &node, 0);
    if (end && !*json_space(end)) return node;
    json_free(node);
    return NULL;
}

/* Member of an object; NULL where there is none, or it is null. */
static const json *json_get(const json *node, const char *key)
{
    const json *child = node && node->kind == JSON_OBJECT ? node->first : NULL;
    while (child && strcmp(child->key, key)) child = child->next;
    return child && child->kind != JSON_NULL ? child : NULL;
}

static const char *json_text(const json *node, const char *key)
{
    const json *found = json_get(node, key);
    return found && found->kind == JSON_TEXT ? found->text : "";
}

static double json_number(const json *node, const char *key, double otherwise)
{
    const json *found = json_get(node, key);
    return found && (found->kind == JSON_NUMBER || found->kind == JSON_BOOL) ? found->number : otherwise;
}

#endif
