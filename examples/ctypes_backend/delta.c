/* A delta-updated matrix-vector product in plain C99, for float and double. Build: see build.py, or
 *
 *     cc -std=c99 -O2 -ffp-contract=off -shared -fPIC -o libdelta.so delta.c
 */
#include <stddef.h>
#include <stdint.h>

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)

#define REAL float
#include "step.h"
#undef REAL

#define REAL double
#include "step.h"
#undef REAL
