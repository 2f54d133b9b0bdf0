"""Checks of the op level on a device against the reference: each raises when a kernel is wrong."""

import itertools

import numpy as np
from refdeq_cuda.simulator_arithmetic import fused as fused_sum
from refdeq_gpu.kernels import GpuKernels
from refdeq_gpu.sums import Sums
from refdeq_gpu.table import ROW_THREADS
from refdeq_gpu.workspace import Workspace

from refdeq import scalar
from refdeq.kernels import GateSpec
from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels, tree_sum

DTYPES = ("float32", "float64")
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1e-310, 3e38, -3e38, 1.7e308, 65519.0, 65520.0, 6e-8]


def assert_same_bits(got, expected):
    """Same dtype, shape and bits; a NaN may be any NaN."""
    got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    same = got.view(f"u{got.dtype.itemsize}") == expected.view(f"u{got.dtype.itemsize}")
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(expected)
    assert same.all(), f"{(~same).sum()} of {same.size} differ, first {got[~same][0]!r} instead of {expected[~same][0]!r}"


def numbers(rng, shape, dtype, special=0.0):
    """Normal numbers, of which the share `special` is replaced by awkward ones."""
    with np.errstate(over="ignore"):
        return np.where(rng.random(shape) < special, rng.choice(SPECIAL, shape), rng.standard_normal(shape)).astype(dtype)


def both(device, call, arrays, order="strict"):
    """Arrays after the same call of the reference and of the device."""
    mine = [np.array(array) for array in arrays]
    with np.errstate(all="ignore"):
        call(ReferenceKernels(), *mine)
    kernels = GpuKernels(device, order)
    theirs = [device.upload(array) for array in arrays]
    call(kernels, *theirs)
    return mine, [device.download(array) for array in theirs]


def compare(device, call, *arrays):
    for expected, got in zip(*both(device, call, arrays), strict=True):
        assert_same_bits(got, expected)


def transpose(device):
    for dtype, (height, width) in itertools.product(DTYPES, [(1, 1), (33, 40), (64, 31)]):
        x = np.arange(float(height * width), dtype=dtype).reshape(height, width)
        out = device.empty((width, height), dtype)
        grid = -(-width // 32), -(-height // 32)
        device.launch("transpose", grid, (32, 8), [height, width, device.upload(x), out], dtype=dtype)
        assert_same_bits(device.download(out), x.T)


def moves(device):
    rng = np.random.default_rng(1)
    active = np.array([True, False, True])
    for dtype in DTYPES:
        parts = [numbers(rng, (3, 4), dtype, 0.2), numbers(rng, (3, 2, 3), dtype)]
        row = numbers(rng, (3, 10), dtype)
        compare(device, lambda k, a, b, out: k.flatten([a, b], active, out), *parts, row)
        compare(device, lambda k, a, b, out: k.unflatten(out, active, [a, b]), *parts, row)
        compare(device, lambda k, a, b: k.copy_active(a, active, b), row, np.zeros_like(row))
        compare(device, lambda k, a: k.fill(0.5, active, a), row)
    flags = rng.random((3, 5)) < 0.5
    compare(device, lambda k, a: k.fill(True, active, a), flags)


def scatter(device):
    rng = np.random.default_rng(2)
    for dtype in DTYPES:
        x, out = numbers(rng, (3, 4), dtype), numbers(rng, (3, 6), dtype)
        place, rows = np.array([5, 0, 3, 2]), np.array([0, 2], dtype=np.int32)
        there = device.upload(out)
        arguments = [device.upload(rows), 2, 4, device.upload(x), device.upload(place), there, 6]
        device.launch("scatter", 3, 32, arguments, dtype=dtype)
        for b in rows:
            out[b, place] = x[b]
        assert_same_bits(device.download(there), out)


def operators(device):
    rng = np.random.default_rng(3)
    active = np.array([True, False, True])
    cases = [(name, [("x", (5, 7))], {}) for name in ("Neg", "Relu", "LeakyRelu", "Identity")]
    cases += [(name, [("x", (2, 3)), ("p", (3,))], {}) for name in ("Add", "Sub", "Mul")]
    cases += [("Sub", [("x", (4,)), ("x", (4,))], {}), ("ReduceMean", [("x", (3, 4))], {"axes": (2,)})]
    cases += [("Slice", [("x", (7,))], {"starts": (1,), "ends": (6,), "axes": (1,), "steps": (2,)})]
    cases += [("Transpose", [("x", (2, 6))], {"perm": (0, 2, 1)}), ("Concat", [("x", (2, 3)), ("x", (1, 3))], {"axis": 1})]
    cases += [
        ("MatMul", [("x", (1, 3, 4)), ("p", (2, 4, 2))], {}),
        ("Gemm", [("x", (6,)), ("p", (6, 5)), ("p", (5,))], {"alpha": 0.7}),
    ]
    for (name, operands, given), dtype in itertools.product(cases, DTYPES):
        _operator(device, name, operands, given, dtype, rng, active)


def _operator(device, name, operands, given, dtype, rng, active):
    attributes = OPS[name].complete(given)
    shapes = [shape if kind == "p" else (-1, *shape) for kind, shape in operands]
    out = numbers(rng, (3, *OPS[name].infer(shapes, attributes)[1:]), dtype)
    share = 0.5 if len(operands) == 1 else 0.1  # of awkward numbers
    arrays = [numbers(rng, shape if kind == "p" else (3, *shape), dtype, share) for kind, shape in operands]
    batched = [kind == "x" for kind, _ in operands]
    compare(device, lambda k, *a: k.ops[name](a[:-1], batched, attributes, active, a[-1]), *arrays, out)


def activations(device):
    """Awkward numbers and the seams of the formulas: where they change, overflow, or reach their limits."""
    seams = [0.0, 0.625, 709.782712893384, 745.1332191019412, 2.0**20, 2.0**30, 1.5707963267948966, 3.0e-8, 18.7, 710.0, 1e300]
    around = [np.nextafter(x, direction) for x in seams for direction in (-np.inf, np.inf)] + seams
    values = np.array([*around, *(-np.array(around)), *SPECIAL, *np.random.default_rng(4).uniform(-20, 20, 40)])
    active = np.array([True])
    for name, dtype in itertools.product(("Tanh", "Sigmoid", "Sin", "Cos", "Exp"), DTYPES):
        with np.errstate(over="ignore"):
            x = values.astype(dtype)[None]
        compare(device, lambda k, a, b, name=name: k.ops[name]([a], [True], {}, active, b), x, np.zeros_like(x))


def gate(device):
    rng = np.random.default_rng(5)
    active = np.array([True, False, True])
    choices = itertools.product(
        DTYPES,
        ("gt", "ge"),
        (("sent", None), ("always", None), ("feedback", "float16"), ("feedback", "bfloat16")),
        (None, "float16", "float32"),
    )
    for (dtype, compared, (memory, narrow), delta_dtype), groups in itertools.product(choices, ("element", "tile")):
        spec = GateSpec(
            value="u",
            threshold=np.array(0.5, dtype=dtype),
            compare=compared,
            memory=memory,
            granularity=groups,
            tile=(2, 3, 2) if groups == "tile" else None,
            feedback_format=narrow,
            delta_dtype=delta_dtype,
        )
        with np.errstate(all="ignore"):
            r = np.round(numbers(rng, (3, 3, 2, 4), dtype, 0.1), 1).astype(dtype)
            u = (r + rng.choice([0.0, 0.5, -0.5, 2.0, 0.25, 1e-7], r.shape)).astype(dtype)
        u = np.where(rng.random(u.shape) < 0.1, numbers(rng, u.shape, dtype, 1.0), u)
        call = lambda k, u, r, mask, d, spec=spec: k.gate(u, spec, active, r, mask, d)  # noqa: E731
        compare(device, call, u, r, np.zeros(u.shape, bool), np.full_like(u, 7))


def counts(device):
    rng = np.random.default_rng(6)
    active = np.array([True, False, True])
    mask = rng.random((3, 2, 2 * ROW_THREADS + 5)) < 0.5
    values = np.where(rng.random((3, 300)) < 0.5, 0.0, numbers(rng, (3, 300), "float32", 0.1)).astype("float32")
    for fan_out in (3, rng.integers(0, 9, (1, mask.shape[2]))):
        _counted(device, lambda k, a, out, f=fan_out: k.count_sent(a, f, active, out), mask)
    _counted(device, lambda k, a, out: k.count_nonzero(a, active, out), values)
    rows, out = device.upload(np.arange(3, dtype=np.int32)), device.empty((3,), "int64")
    device.launch("count_nonzero", 1, ROW_THREADS, [rows, 3, 300, device.upload(values), out], dtype="float32")
    assert_same_bits(device.download(out), np.count_nonzero(values, axis=1))
    one = [device.upload(np.array([number])) for number in (2, 0)]
    arguments = [rows, 3, mask[0].size, device.upload(mask), 0, *one, out]
    device.launch("count_sent", 1, ROW_THREADS, arguments)
    assert_same_bits(device.download(out), 2 * mask.sum(axis=(1, 2)))


def _counted(device, call, array):
    expected, got = np.arange(3), np.arange(3)
    call(ReferenceKernels(), array, expected)
    call(GpuKernels(device), device.upload(array), got)
    assert_same_bits(got, expected)


def lists(device):
    rng = np.random.default_rng(7)
    for n, blocks in ((1, 2), (31, 1), (ROW_THREADS, 2), (3 * ROW_THREADS + 7, 1)):  # one block may have several samples
        mask = rng.random((3, n)) < 0.4
        index, length = device.empty((3, n), "int32"), device.empty((3,), "int32")
        rows = np.array([0, 2], dtype=np.int32)
        device.launch("list_sent", blocks, ROW_THREADS, [device.upload(rows), 2, n, device.upload(mask), index, length])
        many = device.download(length)
        for b in rows:
            expected = np.flatnonzero(mask[b]).astype(np.int32)
            assert_same_bits(device.download(index)[b, : many[b]], expected)


def gemm(device):
    """Both ways a Gemm may be added, more terms than a block stages at once; columns that are not sent hold NaN (D-7)."""
    rng = np.random.default_rng(8)
    active = np.array([True, True, False, True])
    for dtype, (inner, n) in itertools.product(DTYPES, [(1, 1), (35, 130), (150, 5)]):
        weight, d, a = numbers(rng, (inner, n), dtype), numbers(rng, (4, inner), dtype), numbers(rng, (4, n), dtype)
        mask = rng.random((4, inner)) < 0.6
        unread = np.where(mask, d, np.nan).astype(dtype)
        compare(device, lambda k, d, m, w, a: k.accumulate_gemm(d, m, w, {"transB": 0}, active, a), unread, mask, weight, a)
        compare(device, lambda k, d, w, a: k.accumulate_gemm(d, None, w, {"transB": 0}, active, a), d, weight, a)


def gemm_kernels(device):
    """The two kernels themselves, whichever the host side would choose."""
    rng = np.random.default_rng(9)
    for dtype, (inner, n, batch) in itertools.product(DTYPES, [(40, 35, 9), (140, 130, 2)]):
        weight, d, a = numbers(rng, (inner, n), dtype), numbers(rng, (batch, inner), dtype), numbers(rng, (batch, n), dtype)
        rows = device.upload(np.arange(batch, dtype=np.int32))
        expected = a.copy()
        for k in range(inner):
            expected = expected + weight[k] * d[:, k, None]
        everything = device.upload(np.tile(np.arange(inner, dtype=np.int32), (batch, 1)))
        length = device.upload(np.full(batch, inner, dtype=np.int32))
        head = [rows, batch, inner, n, device.upload(d)]
        listed, dense = device.upload(a), device.upload(a)
        weights, unmasked = device.upload(weight), [0, device.upload(np.zeros(1, bool))]
        grid = -(-n // 128), batch
        device.launch("gemm_listed", grid, 128, [*head, everything, length, weights, listed], dtype=dtype)
        device.launch("gemm_dense", (-(-n // 32), -(-batch // 8)), (32, 8), [*head, *unmasked, weights, dense], dtype=dtype)
        for there in (listed, dense):
            assert_same_bits(device.download(there), expected)


def fused(device):
    """Fast order: the same terms in the same order, each by one fused multiply-add (N-7)."""
    rng = np.random.default_rng(14)
    for dtype in DTYPES:
        inner, n, batch = 37, 5, 2
        weight, d, a = numbers(rng, (inner, n), dtype), numbers(rng, (batch, inner), dtype), numbers(rng, (batch, n), dtype)
        active, zero = np.ones(batch, bool), np.dtype(dtype).type(0)
        added, product = a.copy(), np.full_like(a, zero)
        for b, i, k in itertools.product(range(batch), range(n), range(inner)):
            added[b, i] = fused_sum(weight[k, i], d[b, k], added[b, i])
            product[b, i] = fused_sum(d[b, k], weight[k, i], product[b, i])
        kernels, there = GpuKernels(device, "fast"), [device.upload(array) for array in (d, weight)]
        out = device.upload(a)
        kernels.accumulate_gemm(there[0], None, there[1], {"transB": 0}, active, out)
        assert_same_bits(device.download(out), added)
        out = device.upload(a)
        mask = device.upload(np.ones((batch, inner), bool))
        kernels.accumulate_gemm(there[0], mask, there[1], {"transB": 0}, active, out)
        assert_same_bits(device.download(out), added)
        out = device.upload(a)
        Sums(device, Workspace(device), "fast").gemm_listed(active, there[0], mask, there[1], out)
        assert_same_bits(device.download(out), added)
        columns, filters = device.upload(d.reshape(batch, inner, 1)), device.upload(weight.T.reshape(n, inner, 1))
        out = device.upload(a.reshape(batch, n, 1))
        kernels.accumulate_conv(columns, None, filters, OPS["Conv"].complete({}), active, out)
        assert_same_bits(device.download(out)[:, :, 0], added)
        out = device.empty((batch, 1, n), dtype)
        kernels.ops["MatMul"]([device.upload(d[:, None]), there[1]], [True, False], {}, active, out)
        assert_same_bits(device.download(out)[:, 0], product)


def conv(device):
    rng = np.random.default_rng(10)
    active = np.array([True, False, True])
    cases = [
        ((2, 4, 5), (3, 2, 3, 3), {"pads": (1, 1, 1, 1)}),
        ((4, 5, 6), (4, 1, 3, 2), {"group": 4, "strides": (2, 3), "pads": (0, 3, 2, 1), "dilations": (2, 1)}),
        ((4, 9), (6, 2, 3), {"group": 2, "pads": (2, 1), "strides": (2,), "dilations": (2,)}),
    ]
    for dtype, (shape, weights, given) in itertools.product(DTYPES, cases):
        attributes = OPS["Conv"].complete(given)
        out = (3, *OPS["Conv"].infer([(-1, *shape), weights], attributes)[1:])
        d, w, a = numbers(rng, (3, *shape), dtype), numbers(rng, weights, dtype), numbers(rng, out, dtype)
        mask = rng.random(d.shape) < 0.5
        unread = np.where(mask, d, np.nan).astype(dtype)
        compare(device, lambda k, d, m, w, a, at=attributes: k.accumulate_conv(d, m, w, at, active, a), unread, mask, w, a)
        compare(device, lambda k, d, w, a, at=attributes: k.accumulate_conv(d, None, w, at, active, a), d, w, a)


def biases(device):
    rng = np.random.default_rng(11)
    active = np.array([True, False, True])
    for dtype in DTYPES:
        a, bias, s = numbers(rng, (3, 5), dtype, 0.1), numbers(rng, 5, dtype), numbers(rng, (3, 5), dtype)
        compare(device, lambda k, a, b, out: k.add_bias(a, b, 0.7, -1.3, active, out), a, bias, np.zeros_like(a))
        compare(device, lambda k, a, out: k.add_bias(a, None, 0.7, 1.0, active, out), a, np.zeros_like(a))
        compare(device, lambda k, s, b, a: k.fold_bias(s, b, active, a), s, bias, a)
        compare(device, lambda k, z, f: k.relax(z, f, 0.3, active, z), a, s)


def norms(device):
    """States in two parts, so that the lanes of the second begin in the middle; NaN wins under linf."""
    rng = np.random.default_rng(12)
    active = np.array([True, False, True])
    for dtype, norm, special in itertools.product(DTYPES, ("l2", "linf"), (0.0, 0.02)):
        f = [numbers(rng, (3, size), dtype, special) for size in (45, 70)]
        z = [numbers(rng, (3, size), dtype) for size in (45, 70)]
        f[1][2, 9] = np.nan if special else f[1][2, 9]
        got, scale = np.zeros(3), np.zeros(3)
        GpuKernels(device).residual([device.upload(p) for p in f], [device.upload(p) for p in z], norm, active, got, scale)
        for b in np.flatnonzero(active):
            row, point = np.concatenate([p[b] for p in f]), np.concatenate([p[b] for p in z])
            with np.errstate(all="ignore"):
                assert_same_bits(got[b], scalar.residual(row.tolist(), point.tolist(), norm))
                assert_same_bits(scale[b], scalar.residual(row.tolist(), [0.0] * len(row), norm))


def trees(device):
    rng = np.random.default_rng(13)
    active = np.array([True, False, True])
    for dtype in DTYPES:
        columns, row = [numbers(rng, (3, 77), dtype) for _ in range(3)], numbers(rng, (3, 77), dtype)
        weights = np.where(rng.random((3, 3)) < 0.3, 0.0, rng.standard_normal((3, 3)))
        out = np.zeros((3, 3))
        kernels = GpuKernels(device)
        there = [device.upload(column) for column in columns]
        kernels.inner(there, device.upload(row), active, out)
        for i, column in enumerate(columns):
            expected = tree_sum(column.astype(float) * row.astype(float))
            assert_same_bits(out[active, i], expected[active])
        for i, column in enumerate(columns):
            column[weights[:, i] == 0.0] = np.nan  # must not be read
        compare(device, lambda k, a, b, c, out, w=weights: k.combine([a, b, c], w, active, out), *columns, row)


_FIRST = (transpose, moves, scatter, operators, activations, gate, counts, lists)
_SECOND = (gemm, gemm_kernels, fused, conv, biases, norms, trees)
CHECKS = {check.__name__: check for check in _FIRST + _SECOND}
