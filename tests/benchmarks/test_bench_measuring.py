"""Interleaved timing with a clock that the test turns by hand: who runs when, how often, and what is made of the times."""

from __future__ import annotations

import math

import numpy as np
import pytest
from refdeq_bench.measuring import Measured, Noise, Ratio, Settings, interval_of_median, measure, turns


class Hand:
    """A clock that stands still unless a contender, or a pause, moves it; it keeps a diary."""

    def __init__(self):
        self.now, self.diary, self.slowdown = 0.0, [], 1.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.diary.append("|")

    def contender(self, name, seconds):
        def run():
            self.diary.append(name)
            self.now += seconds * self.slowdown

        return run


def timed(hand, durations, settings):
    contenders = {name: hand.contender(name, seconds) for name, seconds in durations.items()}
    return measure(contenders, settings, clock=hand, sleep=hand.sleep)


def samples(hand):
    """What ran in each sample: the diary from the first pause on."""
    text = "".join(hand.diary)
    return text[text.index("|") + 1 :].split("|")


def test_ratios_are_those_of_the_durations():
    measured = timed(Hand(), {"a": 3.0, "b": 1.5}, Settings(rounds=5))
    assert measured.ratio("a", "b").median == 2.0
    assert measured.median("b") == 1.5
    assert measured.fastest(["a", "b"]) == "b"
    assert measured.noise().spread == 0.0


def test_a_drift_that_slows_every_round_leaves_the_ratios_alone():
    hand = Hand()
    durations = {"a": 2.0, "b": 1.0}
    contenders = {name: hand.contender(name, seconds) for name, seconds in durations.items()}

    def advance(done, rounds):
        hand.slowdown = 2.0**done  # powers of two: nothing is rounded

    measured = measure(contenders, Settings(rounds=4), clock=hand, sleep=hand.sleep, advance=advance)
    assert measured.seconds["b"].tolist() == [1.0, 2.0, 4.0, 8.0]
    ratio = measured.ratio("a", "b")
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 2.0)


def test_every_round_has_everybody_and_the_first_one_twice():
    hand = Hand()
    timed(hand, {"a": 1.0, "b": 1.0, "c": 1.0}, Settings(rounds=4))
    found = samples(hand)
    assert len(found) == 4 * 4
    assert all(sorted(found[4 * r : 4 * r + 4]) == ["a", "a", "b", "c"] for r in range(4))
    # a round later everybody has moved up by one place: a b (a) c, then b (a) c a, ...
    assert [found[4 * r] for r in range(4)] == ["a", "b", "a", "c"]


def test_the_two_entries_of_the_first_are_not_neighbours():
    order = ["a", "b", "", "c"]
    for turn in turns(order, 4):
        places = turn.index("a"), turn.index("")
        assert abs(places[0] - places[1]) == 2


def test_a_short_call_is_repeated_until_a_sample_is_long_enough():
    hand = Hand()
    measured = timed(hand, {"a": 0.25, "b": 2.0}, Settings(rounds=2, sample_seconds=1.0))
    assert measured.calls == {"a": 4, "b": 1}
    assert "aaaa" in samples(hand)
    assert measured.median("a") == 0.25


def test_a_call_below_the_clocks_resolution_has_a_limit():
    measured = timed(Hand(), {"a": 0.0, "b": 1.0}, Settings(rounds=1, most_calls=7))
    assert measured.calls["a"] == 7


def test_a_budget_takes_rounds_away_but_not_the_last_five():
    # a round is 2 * 1 s of "a" and 1 s of "b"
    def rounds(budget):
        settings = Settings(rounds=15, pause_seconds=0.0, budget_seconds=budget)
        return timed(Hand(), {"a": 1.0, "b": 1.0}, settings).rounds

    assert [rounds(budget) for budget in (math.inf, 45.0, 44.0, 30.0, 1.0)] == [15, 15, 13, 9, 5]


def test_contenders_run_before_they_count():
    hand = Hand()
    timed(hand, {"a": 1.0, "b": 1.0}, Settings(rounds=1, sample_seconds=0.5))
    assert "".join(hand.diary).startswith("aabb|")


def test_noise_is_what_the_first_is_away_from_itself():
    seconds = {"a": np.array([1.0, 1.0, 1.0, 1.0, 1.0]), "b": np.ones(5)}
    noise = Measured(seconds, np.array([1.0, 1.25, 1.0, 0.5, 1.0])).noise()
    assert noise.ratio.median == 1.0
    assert (noise.ratio.q1, noise.ratio.q3) == (1.0, 1.0)
    assert noise.spread == 0.0
    assert noise.of_median == 1.0  # five rounds: the interval goes from one extreme to the other, 0.8 to 2


@pytest.mark.parametrize(("q1", "q3", "spread"), [(0.8, 1.1, 0.25), (0.9, 1.5, 0.5), (1.0, 1.0, 0.0)])
def test_spread_is_that_of_the_worse_side(q1, q3, spread):
    assert Noise(Ratio(1.0, 1.0, 1.0, q1, q3, 0.95)).spread == spread


@pytest.mark.parametrize("n", range(1, 40))
def test_the_interval_of_the_median_has_its_confidence(n):
    low, high, confidence = interval_of_median(range(n))
    k = int(low) + 1
    assert high == n - k
    outside = sum(math.comb(n, i) for i in range(k)) * 2
    assert confidence == pytest.approx(max(0.0, 1 - outside / 2**n), abs=2.0**-50)  # sums of n <= 39 exact terms, rounded
    wider = outside + 2 * math.comb(n, k)
    assert confidence >= 0.95 or k == 1
    assert k + 1 > (n + 1) // 2 or 1 - wider / 2**n < 0.95


def test_the_interval_does_not_depend_on_the_order_of_the_rounds(rng):
    values = rng.standard_normal(15)
    assert interval_of_median(values) == interval_of_median(np.sort(values)[::-1])
