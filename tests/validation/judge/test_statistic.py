"""The variance statistic: it sees downgrades that the bound cannot see at large k, and says nothing of legal orders."""

import numpy as np
import pytest
from rational.crafting import claims
from refdeq_validation.judge import bounds
from refdeq_validation.judge.arithmetic import round_narrow
from refdeq_validation.judge.models import declared
from refdeq_validation.judge.statistic import FEWEST, Statistic
from refdeq_validation.judge.verdicts import Findings

SEEDS = (1, 2)
OUTPUTS = 32


def tf32(values):
    """Round to eleven significant bits, nearest even."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2048.0) / 2048.0, exponent).astype(np.float32)


NARROW = {
    "tf32": tf32,
    "bfloat16": lambda values: round_narrow(values, "bfloat16"),
    "float16": lambda values: round_narrow(values, "float16"),
}


def sequential(a, terms):
    for j in range(terms.shape[-1]):
        a = a + terms[..., j]
    return a


def blocked(a, terms):
    for j in range(0, terms.shape[-1], 4):
        a = a + ((terms[..., j] + terms[..., j + 1]) + (terms[..., j + 2] + terms[..., j + 3]))
    return a


ORDERS = {
    "ascending": sequential,
    "descending": lambda a, terms: sequential(a, terms[..., ::-1]),
    "blocked": blocked,
    "pairwise": lambda a, terms: a + np.sum(np.ascontiguousarray(terms), axis=-1, dtype=np.float32),
    "split": lambda a, terms: sequential(a, terms[..., ::2]) + sequential(np.zeros_like(a), terms[..., 1::2]),
}


def fused(a, w, d):
    """One rounding per term, but for the rare double rounding through float64."""
    for j in range(w.shape[-1]):
        a = (a.astype(np.float64) + w[:, None, j].astype(np.float64) * d[None, :, j]).astype(np.float32)
    return a


def drawn(seed, k):
    rng = np.random.default_rng(seed)
    w, d, a = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((OUTPUTS, k), (OUTPUTS, k), (OUTPUTS, OUTPUTS)))
    return w, d, a


def concluded(model, w, d, a, got):
    """What the statistic says, and the largest error over the bound."""
    wide_w, wide_d, wide_a = w.astype(np.float64), d.astype(np.float64), a.astype(np.float64)
    exact = wide_a + wide_w @ wide_d.T
    products, squares = np.abs(wide_w) @ np.abs(wide_d).T, wide_w**2 @ (wide_d**2).T
    sizes = np.abs(wide_w).sum(1)[:, None] + np.abs(wide_d).sum(1)[None, :]
    bound = bounds.accumulate(model, np.full(exact.shape, float(w.shape[1])), np.abs(wide_a), products, sizes)
    error = np.abs(got - exact)
    statistic, findings = Statistic(model), Findings()
    statistic.add(error, bound, squares)
    statistic.conclude(findings)
    return statistic.mean, findings, float((error / bound.limit).max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [16, 256, 4096])
def test_legal_orders_stay_far_below(k, seed):
    w, d, a = drawn(seed, k)
    terms = w[:, None, :] * d[None, :, :]
    results = {name: add(a, terms) for name, add in ORDERS.items()}
    if k <= 256:
        results["fused"] = fused(a, w, d)
    for name, got in results.items():
        mean, findings, _ = concluded(declared(claims(), "float32"), w, d, a, got)
        assert findings.failed == 0
        assert findings.values == 1
        assert mean < 0.05, name


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("k", [64, 1024, 4096])
def test_downgraded_operands_show_up_to_4096_terms(k, name):
    for seed in SEEDS:
        w, d, a = drawn(seed, k)
        got = sequential(a, NARROW[name](w)[:, None, :] * NARROW[name](d)[None, :, :])
        mean, findings, worst = concluded(declared(claims(), "float32"), w, d, a, got)
        assert mean > 3.0
        assert [failure.kind for failure in findings.failures] == ["declaration"]
        # Declared, they pass.
        honest = concluded(declared(claims(multiply=name), "float32"), w, d, a, got)
        assert honest[0] < 0.5
        assert honest[1].failed == 0
    if k == 4096 and name != "bfloat16":
        assert worst < 1.0  # the bound alone is blind here: the statistic is what catches it


@pytest.mark.parametrize("k", [64, 1024])
def test_narrow_sums_passed_off_as_wide_show(k):
    w, d, a = drawn(5, k)
    got = a
    for j in range(k):
        got = round_narrow(got + w[:, None, j] * d[None, :, j], "float16")
    assert concluded(declared(claims(), "float32"), w, d, a, got)[1].failed == 1


def test_bfloat16_passed_off_as_tf32_shows():
    w, d, a = drawn(6, 1024)
    got = sequential(a, NARROW["bfloat16"](w)[:, None, :] * NARROW["bfloat16"](d)[None, :, :])
    assert concluded(declared(claims(multiply="tf32"), "float32"), w, d, a, got)[1].failed == 1


def test_what_need_not_round_to_nearest_is_only_warned_of():
    w, d, a = drawn(7, 256)
    got = sequential(a, tf32(w)[:, None, :] * tf32(d)[None, :, :])
    _, findings, _ = concluded(declared(claims(rounding="truncate"), "float32"), w, d, a, got)
    assert findings.failed == 0
    assert "mean squared error" in findings.notes[0]


def test_few_outputs_and_few_terms_prove_nothing():
    w, d, a = drawn(8, 8)
    _, findings, _ = concluded(declared(claims(), "float32"), w, d, a, a)
    assert findings.failed == findings.values == 0
    assert f"fewer than {FEWEST}" in findings.notes[0]
