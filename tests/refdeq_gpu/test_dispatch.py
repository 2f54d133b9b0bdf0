"""Which way sums are formed and which plan runs (K4): pure functions of counts, sizes and costs."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from refdeq_gpu.plans import conv
from refdeq_gpu.plans.crossovers import DEFAULTS, SCHEMA, WAYS, Cost, Costs, costs_of, fitted, read, record_path, write
from refdeq_gpu.plans.dispatch import FEW_ROWS, LEAST_SPEED, BatchPlan, Counts, choose, family, note

from refdeq import models
from refdeq.errors import ArgumentError, FileFormatError
from refdeq.registry import FusedResult

EVERY = ("dense", *WAYS)


def some_costs(seed):
    """Costs of a device that favours now one way, now another; some ways were not measured on it."""
    rng = np.random.default_rng(seed)
    known = [way for way in WAYS if rng.random() < 0.8]
    ways = {way: Cost(float(rng.choice([0.0, 0.3, 0.99, 1.0, 2.0])), float(rng.choice([0.0, 0.01, 1.0, 5.0]))) for way in known}
    return Costs("a device", ways, True, "a test")


def some_counts(rng):
    rows, columns, tiles = (int(n) for n in rng.integers(1, 50, 3))
    sending, listed = int(rng.integers(0, rows + 1)), int(rng.integers(0, tiles + 1))
    return Counts(rows, sending, columns, int(rng.integers(0, sending * columns + 1)), tiles, listed)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_taken_that_is_predicted_to_be_slower_than_dense(seed):
    rng, costs = np.random.default_rng(seed), some_costs(seed)
    for _ in range(30):
        counts = some_counts(rng)
        choice = choose(counts, costs, EVERY)
        assert choice.times[choice.way] == min(choice.times.values())
        taken = 1.0 if choice.way == "dense" else costs.ways[choice.way].time(counts.share(choice.way))
        assert taken <= 1.0 / LEAST_SPEED
        best = min(1.0, *(cost.time(counts.share(way)) for way, cost in costs.ways.items()), 1.0)
        assert taken == best


@pytest.mark.parametrize("seed", range(30))
def test_fewer_sent_never_leads_back_to_the_dense_way(seed):
    costs = some_costs(seed)
    for way in WAYS:
        chosen = []
        for sent in range(101):
            counts = Counts(rows=100, rows_sending=sent, columns=1, sent=sent, tiles=100, tiles_listed=sent)
            chosen.append(choose(counts, costs, ("dense", way)).way)
        assert [name for name, _ in itertools.groupby(chosen)] in (["dense"], [way], [way, "dense"])


@pytest.mark.parametrize("way", WAYS)
def test_the_crossover_is_where_the_choice_changes(way):
    cost = Cost(0.25, 1.5)
    costs = Costs("a device", {way: cost}, True, "a test")
    assert cost.crossover() == 0.5
    for sent, expected in ((50, "dense"), (49, way)):  # a tie is dense
        counts = Counts(rows=100, rows_sending=sent, columns=1, sent=sent, tiles=100, tiles_listed=sent)
        assert choose(counts, costs, ("dense", way)).way == expected


@pytest.mark.parametrize(("cost", "share"), [(Cost(1.0, 0.0), 0.0), (Cost(0.5, 0.0), 1.0), (Cost(0.0, 0.25), 1.0)])
def test_crossovers_are_shares(cost, share):
    assert cost.crossover() == share


def test_a_choice_follows_from_counts_and_costs_alone():
    counts = Counts(16, 9, 300, 70, 40, 8)
    assert len({choose(counts, DEFAULTS, EVERY).reason for _ in range(50)}) == 1


def test_before_the_first_evaluation_everything_counts_as_sent():
    assert choose(None, DEFAULTS, EVERY).way == "dense"
    assert choose(None, DEFAULTS, EVERY).times == choose(Counts(2, 2, 3, 6, 5, 5), DEFAULTS, EVERY).times


def test_zeros_are_added_only_where_they_may_be():
    everything = Counts(rows=4, rows_sending=4, columns=10, sent=40)
    assert choose(everything, DEFAULTS, ("dense", "row", "axpy")).way == "dense"
    assert choose(everything, DEFAULTS, ("dense", "row", "axpy"), may_fill=False).way == "axpy"
    with pytest.raises(ArgumentError, match="candidates: expected a way that adds no zeros"):
        choose(everything, DEFAULTS, ("dense", "row"), may_fill=False)


def test_a_way_that_was_never_measured_is_taken_only_for_want_of_another():
    unknown = Costs("a device", {}, True, "a test")
    assert choose(Counts(9, 0, 9, 0), unknown, EVERY).way == "dense"
    choice = choose(Counts(9, 0, 9, 0), unknown, ("axpy",))
    assert (choice.way, choice.times, choice.reason) == ("axpy", {}, "nothing is known of axpy on this device")


def test_nothing_to_do_is_a_share_of_nothing():
    assert [Counts(0, 0, 0, 0).share(way) for way in EVERY] == [1.0, 0.0, 0.0, 0.0]


def test_notes_say_what_was_chosen():
    assert note({"tile": 2, "dense": 1, "row": 0}) == "sums 33% dense, 67% tile"
    assert note({}) == ""
    assert choose(Counts(1, 1, 100, 1), DEFAULTS, ("dense", "axpy")).reason == (
        "axpy 0.08 of dense; costs of the model of the H200, not measured"
    )


# Records of devices -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path, monkeypatch):
    path = tmp_path / "crossovers.json"
    monkeypatch.setenv("REFDEQ_GPU_CROSSOVERS", str(path))
    return path


def test_records_are_kept_per_device_and_dtype(record):
    first, second = {"axpy": Cost(0.5, 0.25)}, {"row": Cost(0.0, 1.0), "tile": Cost(0.125, 2.0)}
    assert record_path() == record
    assert read() == {}
    assert write("one", "run 7", {"float32": first, "float64": second}) == record
    write("another", "run 8", {"float32": second})
    write("one", "run 9", {"float32": second})
    assert costs_of("one", "float32") == Costs("one", second, True, "run 9")
    assert costs_of("one", "float64") == DEFAULTS  # the newer record of a device replaces the older one whole
    assert costs_of("another", "float32") == Costs("another", second, True, "run 8")
    assert costs_of("a third", "float32") is DEFAULTS
    assert costs_of("one", "float32").describe() == "costs of run 9, measured"
    assert [path.name for path in record.parent.iterdir()] == [record.name]


RIGHT = {"schema": SCHEMA, "devices": {"one": {"source": "x", "costs": {"float32": {"axpy": {"fixed": 0.5, "slope": 1.0}}}}}}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (SCHEMA, "refdeq-tuning/1"),
        ("axpy", "warp"),
        ("0.5", "-0.5"),
        ("0.5", "NaN"),
        ("0.5", '"half"'),
        ('"slope"', '"steep"'),
        ("{", "["),
    ],
)
def test_a_broken_record_is_refused_by_name(record, right, wrong):
    record.write_text(json.dumps(RIGHT))
    assert len(read()) == 1
    record.write_text(json.dumps(RIGHT).replace(right, wrong, 1))
    with pytest.raises(FileFormatError, match="not a record of crossovers"):
        costs_of("one", "float32")


def test_a_line_is_nowhere_below_what_was_measured():
    rng = np.random.default_rng(3)
    for _ in range(50):
        times = {share: float(rng.integers(0, 64)) for share in (0.0, 0.25, 0.5, 1.0)}
        cost = fitted(times, 16.0)
        assert all(cost.time(share) >= time / 16.0 for share, time in times.items())
    with pytest.raises(ArgumentError, match="two shares or more"):
        fitted({0.5: 1.0}, 1.0)


# Plans ------------------------------------------------------------------------------------------------------------------------


def test_convolutions_have_no_plan_of_whole_solves_and_say_how_they_run():
    rnn = models.rnn(np.eye(2), np.ones((2, 1)), np.zeros(2))
    image = models.monotone_conv(*models.random_monotone_conv(2, 1, np.random.default_rng(0)), (4, 4))
    reasons = [conv.offer(SimpleNamespace(graph=cell.graph), None).reason for cell in (rnn, image)]
    assert reasons == ["the graph has no convolutions", "convolutions are evaluated node by node, over lists of tiles"]


class FakePlan:
    """A plan that remembers what it was bound to and run on."""

    def __init__(self, name, note):
        self.name, self.note, self.bound, self.batches = name, note, 0, []

    def bind(self, parameters, *, threads):
        self.bound += 1
        return SimpleNamespace(run=self.run)

    def run(self, z0, hoisted, memory, stop, trace):
        self.batches.append(len(z0["z"]))
        empty = np.zeros(0)
        return FusedResult(z0, empty, empty, empty, empty, {}, {}, {}, empty, {}, {}, {}, self.note)


def test_the_batch_chooses_between_two_plans():
    plans = {"fc": FakePlan("fc tanh", "sums 100% dense"), "rows": FakePlan("rows tanh", "")}
    plan = BatchPlan(plans)
    assert plan.name == f"fc tanh, from {FEW_ROWS} samples rows tanh"
    executor = plan.bind({}, threads=1)
    assert (plans["fc"].bound, plans["rows"].bound) == (0, 0)
    sizes = (1, FEW_ROWS - 1, FEW_ROWS, 5 * FEW_ROWS, 1)
    notes = [executor.run({"z": np.zeros((batch, 2))}, {}, None, None, None).note for batch in sizes]
    assert plans["fc"].batches == [1, FEW_ROWS - 1, 1]
    assert plans["rows"].batches == [FEW_ROWS, 5 * FEW_ROWS]
    assert (plans["fc"].bound, plans["rows"].bound) == (1, 1)
    assert notes[0] == "fc tanh for 1 samples; sums 100% dense"
    assert notes[2] == f"rows tanh for {FEW_ROWS} samples"
    assert [family(batch) for batch in sizes] == ["fc", "fc", "rows", "rows", "fc"]
