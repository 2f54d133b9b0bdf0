"""Numbers of cases are those of SplitMix64, as a few lines of plain Python compute them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refdeq_validation.cases import draw
from refdeq_validation.cases.building import SEED, Numbers

WORD = (1 << 64) - 1


def plain_splitmix(seed, name, count):
    """SplitMix64 (Steele, Lea, Flood 2014) in integers."""
    state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") ^ (seed & WORD)
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        yield z ^ (z >> 31)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, WORD), st.text(max_size=12), st.integers(1, 40))
def test_words(seed, name, count):
    assert draw.splitmix64(seed, name, count).tolist() == list(plain_splitmix(seed, name, count))


def test_the_published_first_output_for_state_zero():
    head = int.from_bytes(hashlib.sha256(b"").digest()[:8], "little")
    assert int(draw.splitmix64(head, "", 1)[0]) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 24), ("float64", 53)])
def test_uniform_numbers_are_exact_fractions(dtype, bits):
    values = draw.uniform(5, "u", (500,), dtype)
    expected = [(word >> (64 - bits)) / 2 ** (bits - 1) - 1 for word in plain_splitmix(5, "u", 500)]
    assert values.tolist() == expected
    assert values.dtype == dtype


def test_integers_and_signs():
    number = Numbers("slug", "float32")
    expected = [word % 9 - 4 for word in plain_splitmix(SEED, "slug/n", 50)]
    assert (number.integers("n", (50,), -4, 4, 0.5) * 2).tolist() == expected
    signed = number.signed("n", (200,), 2, 3)
    assert set(np.abs(signed).tolist()) == {2.0, 3.0}
    assert set(np.sign(signed).tolist()) == {-1.0, 1.0}


def test_tensors_of_other_names_differ():
    number = Numbers("slug", "float64")
    assert (number.full("a", (20,)) != number.full("b", (20,))).all()
    assert (number.full("a", (20,)) != Numbers("other", "float64").full("a", (20,))).all()
