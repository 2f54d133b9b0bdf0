"""Convolutions over lists of tiles (K3) on the simulated device: bits in strict order, bounds in fast order, what is listed."""

import functools
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans.conv import Geometry, TileConv
from refdeq_validation.judge import bounds
from refdeq_validation.judge.formats import FORMATS
from refdeq_validation.judge.models import Arithmetic

from refdeq.errors import ArgumentError, LaunchError
from refdeq.formats import round_to_format
from refdeq.ops.base import BATCH
from refdeq.ops.conv import OPS, accumulate_conv

if loader.compiler() is None:
    pytest.skip("the simulated device needs g++", allow_module_level=True)

SHUFFLED = 7


@dataclass(frozen=True)
class Case:
    """One convolution; `sent` is a share, or a list of (sample, channel, y, x)."""

    data: tuple  # (B, C, H, W)
    weight: tuple  # (M, C / group, kh, kw)
    pads: tuple = (0, 0, 0, 0)
    strides: tuple = (1, 1)
    dilations: tuple = (1, 1)
    group: int = 1
    sent: object = 0.2
    rows: tuple = ()

    @property
    def attributes(self):
        own = {name: getattr(self, name) for name in ("pads", "strides", "dilations", "group")}
        return {**own, "kernel_shape": None}

    def arrays(self, dtype, seed=0, narrow=False):
        """Weight, mask, differences (NaN where nothing is sent) and accumulators (some -0)."""
        rng = np.random.default_rng(seed)
        shape = OPS[0].infer([(BATCH, *self.data[1:]), self.weight], self.attributes)
        weight = rng.standard_normal(self.weight).astype(dtype)
        a = rng.standard_normal((self.data[0], *shape[1:])).astype(dtype)
        a[rng.random(a.shape) < 0.1] = -0.0
        if isinstance(self.sent, float):
            mask = rng.random(self.data) < self.sent
        else:
            mask = np.zeros(self.data, dtype=bool)
            mask[tuple(np.transpose(self.sent))] = True
        values = rng.standard_normal(self.data).astype(dtype)
        values = round_to_format(values, "bfloat16") if narrow else values
        return weight, mask, np.where(mask, values, np.nan).astype(dtype), a

    def active(self):
        return np.array(self.rows or range(self.data[0]), dtype=np.int32)


CASES = {
    "1x1": Case((1, 40, 9, 17), (70, 40, 1, 1)),
    "3x3": Case((3, 33, 9, 17), (65, 33, 3, 3), (1, 1, 1, 1), sent=0.05, rows=(0, 2)),
    "1x5": Case((1, 64, 5, 35), (8, 64, 1, 5), (0, 2, 0, 2)),
    "5x1": Case((1, 8, 19, 16), (64, 8, 5, 1), (2, 0, 2, 0)),
    "7x7 of 2 channels": Case((1, 2, 10, 19), (9, 2, 7, 7), (3, 3, 3, 3)),
    "strides, dilations, groups": Case((2, 64, 13, 21), (32, 32, 3, 3), (1, 0, 2, 1), (2, 3), (2, 1), 2, rows=(1,)),
    "strides over whole tiles": Case((1, 8, 40, 50), (8, 8, 2, 3), (0, 4, 1, 2), (9, 17), (3, 7)),
    "padding wider than the image": Case((1, 8, 3, 3), (8, 8, 5, 5), (4, 4, 4, 4)),
    "nothing sent": Case((2, 8, 9, 9), (8, 8, 3, 3), sent=0.0),
    "all sent": Case((1, 34, 9, 9), (8, 34, 3, 3), sent=1.0),
    "a site at every border of a tile": Case(
        (1, 33, 17, 33), (8, 33, 3, 3), (1, 1, 1, 1), sent=[(0, 32, y, x) for y in (7, 8, 16) for x in (0, 15, 16, 32)]
    ),
}


@pytest.fixture(scope="module")
def device():
    return ShimDevice()


def run(device, case, arrays, order="strict", *, is_narrow=False, **options):
    """Accumulators after one accumulate on the device, and the object that did it."""
    weight, mask, d, a = arrays
    conv = TileConv(device, least_channels=1, **options)
    own, active = device.upload(a), case.active()
    rows, *inputs = (None if x is None else device.upload(x) for x in (np.resize(active, len(a)), d, mask, weight))
    assert conv.accumulate(rows, len(active), *inputs, case.attributes, own, order, is_narrow=is_narrow)
    return device.download(own), conv


def expected(case, arrays, dtype=None):
    """The reference, for the active samples only."""
    weight, mask, d, a = arrays
    out, active = a.astype(dtype or a.dtype), case.active()
    block = out[active]
    sent = None if mask is None else mask[active]
    accumulate_conv(d[active].astype(out.dtype), sent, weight.astype(out.dtype), case.attributes, block)
    out[active] = block
    return out


def same_bits(got, wanted):
    """Whether all bits agree; any NaN is as good as any other."""
    one, other = (x.view(f"u{x.itemsize}") for x in (got, wanted))
    return bool(((one == other) | (np.isnan(got) & np.isnan(wanted))).all())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_strict_order_has_the_bits_of_the_reference(device, name, dtype):
    """N-6 and D-7: unsent elements are NaN here, and some accumulators are -0."""
    case = CASES[name]
    arrays = case.arrays(dtype)
    assert same_bits(run(device, case, arrays)[0], expected(case, arrays))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_a_mask_everything_is_sent(device, dtype):
    case = CASES["strides, dilations, groups"]
    weight, mask, d, a = case.arrays(dtype)
    dense = weight, None, np.where(mask, d, 0.0).astype(dtype), a  # zeros are added too, so that no -0 stays
    assert same_bits(run(device, case, dense)[0], expected(case, dense))
    full, _ = run(device, case, dense, "fast")  # a value itself is no bfloat16 number
    assert same_bits(run(device, case, dense, "fast", precision="bfloat16", is_narrow=True)[0], full)


@pytest.mark.parametrize("name", ["1x5", "strides, dilations, groups"])
def test_neither_lists_nor_grids_nor_threads_change_bits(name):
    case = CASES[name]
    arrays = case.arrays("float32")
    wanted = {order: run(ShimDevice(), case, arrays, order)[0] for order in ("strict", "fast")}
    for seed, blocks, everything in ((1, 1, False), (SHUFFLED, 3, True)):
        for order in wanted:
            got, _ = run(ShimDevice(seed=seed), case, arrays, order, blocks=blocks, everything=everything)
            assert same_bits(got, wanted[order])


def test_special_values_that_are_sent_reach_the_same_outputs(device):
    case = CASES["1x5"]
    weight, mask, d, a = case.arrays("float32")
    for at, value in zip(np.argwhere(mask)[::40], np.resize([np.nan, np.inf, -np.inf, -0.0], 999), strict=False):
        d[tuple(at)] = value
    weight[0, 3], weight[1, 5] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        assert same_bits(run(device, case, (weight, mask, d, a))[0], expected(case, (weight, mask, d, a)))


def terms(case, arrays):
    """Per output: number of terms, sum of the magnitudes of products, sum of the magnitudes of both operands."""
    weight, sent, d, a = (np.abs(x.astype(np.float64)) for x in arrays)
    ones, d = np.ones_like(weight), np.where(sent, d, 0.0)
    found = [np.zeros_like(a) for _ in range(4)]
    for out, x, w in zip(found, (sent, d, d, sent), (ones, weight, ones, weight), strict=True):
        accumulate_conv(x, None, w, case.attributes, out)
    return found[0], found[1], found[2] + found[3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["1x1", "strides, dilations, groups"])
def test_fast_order_is_within_its_bound(device, name, dtype):
    case = CASES[name]
    arrays = case.arrays(dtype)
    k, products, _ = terms(case, arrays)
    wide = np.longdouble if dtype == "float64" else np.float64
    limit = bounds.accumulate_bound(k, np.abs(arrays[3]) + products, np.dtype(dtype))
    error = np.abs(run(device, case, arrays, "fast")[0].astype(wide) - expected(case, arrays, wide))
    assert (error <= limit).all()
    assert error.max() > 0


@pytest.mark.parametrize("name", ["1x5", "strides, dilations, groups", "a site at every border of a tile"])
@pytest.mark.parametrize(("precision", "parts"), [("bfloat16", 1), ("bfloat16x2", 2), ("bfloat16x3", 3)])
def test_tensor_cores_are_within_the_bound_of_their_parts(device, name, precision, parts):
    """N-7 for multiplications in parts; differences are bfloat16 numbers, as feedback memory sends them (D-4)."""
    model = Arithmetic(FORMATS["float32"], FORMATS["float32"], FORMATS["bfloat16"], parts, chopped=True)
    case = CASES[name]
    arrays = case.arrays("float32", narrow=True)
    k, products, sizes = terms(case, arrays)
    got, _ = run(device, case, arrays, "fast", precision=precision, is_narrow=True)
    error = np.abs(got - expected(case, arrays, np.float64))
    active = case.active()
    limit = bounds.accumulate(model, k, np.abs(arrays[3]), products, sizes).limit
    assert (error <= limit)[active].all()
    assert same_bits(np.delete(got, active, axis=0), np.delete(arrays[3], active, axis=0))
    # The simulated products of three parts are exact: only sums are rounded, and once more when they are added to `a`.
    exact = bounds.accumulate_bound(k + 1, np.abs(arrays[3]) + products, np.dtype("float32"))
    assert parts == 2 or (error <= exact)[active].all() == (parts == 3)


def test_tensor_cores_give_the_same_bits_on_any_grid_and_list():
    case = CASES["strides, dilations, groups"]
    arrays = case.arrays("float32", narrow=True)
    options = {"precision": "bfloat16x3", "is_narrow": True}
    wanted, _ = run(ShimDevice(), case, arrays, "fast", **options)
    for seed, blocks, everything in ((1, 1, False), (SHUFFLED, 3, True)):
        got, _ = run(ShimDevice(seed=seed), case, arrays, "fast", blocks=blocks, everything=everything, **options)
        assert same_bits(got, wanted)


@pytest.mark.parametrize("reason", ["strict", "wide differences", "an infinite weight"])
def test_tensor_cores_are_used_only_where_they_may(device, reason):
    case = CASES["1x1"]
    arrays = case.arrays("float32", narrow=True)
    if reason == "an infinite weight":
        arrays[0][0, 0, 0, 0] = np.inf
    order = "strict" if reason == "strict" else "fast"
    with np.errstate(invalid="ignore"):
        got, _ = run(device, case, arrays, order, precision="bfloat16x3", is_narrow=reason != "wide differences")
    assert same_bits(got, run(device, case, arrays, order)[0])


def strips_of(mask, geometry):
    """(B, words, rows, strips of four sites): whether anything is sent; one word after another, group after group."""
    batch, height, width = len(mask), geometry.height, geometry.width
    by_group = mask.reshape(batch, geometry.group, geometry.inputs, height, width)
    filled = np.zeros((batch, geometry.group, geometry.words * 32, height, -(-width // 4) * 4), dtype=bool)
    filled[:, :, : geometry.inputs, :, :width] = by_group
    return filled.reshape(batch, geometry.group * geometry.words, 32, height, -1, 4).any(axis=(2, 5))


def reach(first, tile, length, out_length, stride, shift):
    """Input coordinates that a tile reads under a tap, from the least to the greatest."""
    read = [y * stride + shift for y in range(first, min(first + tile, out_length)) if 0 <= y * stride + shift < length]
    return slice(min(read), max(read) + 1) if read else slice(0, 0)


def model_of_lists(mask, geometry):
    """For every job in order, the codes that may reach it."""
    strips, g = strips_of(mask, geometry), geometry
    for sample in range(len(mask)):
        for y, x in [(y, x) for y in range(0, g.out_height, 8) for x in range(0, g.out_width, 16)]:
            for group in range(g.group):
                codes = []
                for code in range(g.codes):
                    tap, word = divmod(code, g.words)
                    v, h = divmod(tap, g.kernel_w)
                    rows = reach(y, 8, g.height, g.out_height, g.stride_h, v * g.dilation_h - g.pad_h)
                    columns = reach(x, 16, g.width, g.out_width, g.stride_w, h * g.dilation_w - g.pad_w)
                    across = slice(columns.start // 4, -(-columns.stop // 4))
                    if strips[sample, group * g.words + word, rows, across].any():
                        codes.append(code)
                yield codes


@pytest.mark.parametrize("seed", range(12))
def test_lists_are_those_of_the_model(device, seed):
    rng, group = np.random.default_rng(seed), 1 + seed % 2
    kernel, strides, dilations = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(3))
    pads = tuple(int(n) for n in rng.integers(0, 4, 4))
    data = 2, int(rng.integers(1, 40)) * group, *(int(n) for n in rng.integers(8, 40, 2))
    case = Case(
        data, (group, data[1] // group, *kernel), pads, strides, dilations, group, sent=float(rng.choice([0.0005, 0.01]))
    )
    arrays = case.arrays("float32", seed)
    _, mask, d, a = arrays
    geometry = Geometry.of(data, case.weight, a.shape, case.attributes)
    conv = TileConv(device)
    rows, *inputs = (device.upload(x) for x in (case.active(), d, mask))
    _, _, lists = conv.lists.of(rows, len(d), *inputs, geometry, False)
    codes, length, job, number = (device.download(x) for x in lists)
    wanted = list(model_of_lists(mask, geometry))
    assert [list(codes[i, :n]) for i, n in enumerate(length)] == wanted
    filled = [i for i, one in enumerate(wanted) if one]
    assert list(job[: len(filled)]) == filled
    assert list(number) == [len(filled), sum(map(len, wanted))]
    assert conv.listed_share() == sum(map(len, wanted)) / (len(wanted) * geometry.codes)


def test_what_is_listed_follows_what_is_sent(device):
    case = Case((1, 64, 16, 32), (8, 64, 1, 1), sent=[(0, 40, 9, 20)])  # the last of four tiles, the second of two words
    arrays = case.arrays("float32")
    assert TileConv(device).listed_share() == 1.0
    assert run(device, case, arrays)[1].listed_share() == 1 / 8
    assert run(device, case, arrays, everything=True)[1].listed_share() == 1.0
    assert run(device, CASES["nothing sent"], CASES["nothing sent"].arrays("float32"))[1].listed_share() == 0.0


@pytest.mark.parametrize(
    ("data", "weight", "group", "word"),
    [
        ((1, 2, 9, 9), (64, 2, 7, 7), 1, "input channels"),
        ((1, 64, 9, 9), (2, 64, 3, 3), 1, "output channels"),
        ((1, 48, 9, 9), (48, 24, 3, 3), 2, "groups"),
    ],
)
def test_what_is_not_worth_tiles_is_left_to_the_plain_kernel(device, data, weight, group, word):
    case = Case(data, weight, group=group)
    kernel, mask, d, a = case.arrays("float32")
    assert word in Geometry.of(data, weight, a.shape, case.attributes).refusal()
    own, rows, *inputs = (device.upload(x) for x in (a, case.active(), d, mask, kernel))
    assert not TileConv(device).accumulate(rows, 1, *inputs, case.attributes, own, "strict")
    assert same_bits(device.download(own), a)


def test_precisions_have_names(device):
    with pytest.raises(ArgumentError, match="precision: expected one of float32, bfloat16, bfloat16x2, bfloat16x3, got half"):
        TileConv(device, precision="half")


SMALL = Case((1, 40, 9, 17), (9, 40, 1, 3), (0, 1, 0, 1), sent=0.03)
EDGE = Case((1, 8, 17, 33), (8, 8, 3, 3), (1, 1, 1, 1), sent=tuple((0, 3, y, x) for y in (7, 8, 16) for x in (0, 15, 16, 32)))
ONE_STEP = Case((1, 32, 24, 32), (8, 32, 1, 1), sent=0.2)
NEXT_ITEM, TOTALS = "__syncthreads();  // the next item", "__syncthreads();  // totals"
PLANTED = {
    "no barrier between items": ("conv_tiles.cu", NEXT_ITEM, "// the next item", ONE_STEP),
    "a barrier that some threads miss": ("conv_tiles.cu", TOTALS, f"if (listed) {TOTALS}", SMALL),
    "half of the lanes vote": ("conv_tiles.cu", "__any_sync(EVERY_LANE, any", "__any_sync(0xFFFFu, any", SMALL),
    "a halo one row short": ("conv_lists.cuh", "y + TILE_ROWS - 1, conv", "y + TILE_ROWS - 2, conv", EDGE),
    "accumulators beyond the last": ("conv_tiles.cu", "is_there ? a[at] : (REAL)0", "a[at]", EDGE),
    "stages swapped": ("conv_tiles.cu", "(stages[step % 2]", "(stages[next % 2]", SMALL),
    "copies not waited for": ("conv_tiles.cu", "cp_async_wait<0>", "cp_async_wait<1>", SMALL),
    "what is not sent is added": ("conv_tiles.cu", "if (!(bits[i] >> (c + k) & 1u)) continue;", "", SMALL),
    "rows of an earlier stage": ("conv_tiles_mma.cu", "cp_async_16(&stage.delta", "if (bits) cp_async_16(&stage.delta", SMALL),
}


@functools.cache
def as_they_are(case, is_narrow, seed):
    """What the sources as they are give in some order of threads."""
    order, precision = ("fast", "bfloat16x3") if is_narrow else ("strict", "float32")
    arrays = case.arrays("float32", narrow=is_narrow)
    options = {"precision": precision, "is_narrow": is_narrow, "blocks": 1}
    wanted, _ = run(ShimDevice(seed=seed), case, arrays, order, **options)
    assert is_narrow or same_bits(wanted, expected(case, arrays))
    return arrays, order, options, wanted


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_caught(tmp_path, bug):
    """A wrong result or a refused launch for some order of threads; the sources as they are pass all the same runs."""
    file, right, wrong, case = PLANTED[bug]
    shutil.copytree(loader.SOURCES, tmp_path / "src")
    text = (tmp_path / "src" / file).read_text()
    assert right in text
    (tmp_path / "src" / file).write_text(text.replace(right, wrong))
    caught = False
    for seed in (0, SHUFFLED):
        arrays, order, options, wanted = as_they_are(case, file == "conv_tiles_mma.cu", seed)
        try:
            got, _ = run(ShimDevice(tmp_path / "src", seed), case, arrays, order, **options)
            caught = caught or not same_bits(got, wanted)
        except LaunchError:
            caught = True
    assert caught
