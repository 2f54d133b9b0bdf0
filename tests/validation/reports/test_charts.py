"""Matrix, heat map and histograms, by their numbers."""

from __future__ import annotations

import re

from refdeq_validation.reports.charts import heat_map, histogram, matrix, segments
from refdeq_validation.reports.failure_cards import card


def result(disposition="passed", worst=0.0, **changes):
    base = {
        "backend": "lab",
        "family": "tie",
        "level": "L1",
        "dtype": "float32",
        "values": 3,
        "id": "gemm/tie/x-1",
        "bug_types": (),
    }
    return {**base, "disposition": disposition, "worst_error_over_bound": worst, **changes}


def words(text):
    return re.sub(r"<[^>]*>", " ", text).split()


def test_matrix_cells_say_passed_failed_and_idle():
    names = ["passed"] * 5 + ["failed", "error", "xpassed", "missing", "skipped", "not_applicable", "xfailed"]
    text = matrix([*map(result, names), result(family="ramp", level="L2"), result(backend="other")], "lab")
    assert words(text) == [
        "lab",
        "family",
        "L1",
        "L2",
        "tie",
        "5",
        "✓",
        "4",
        "✗",
        "3",
        "n.a.",
        "\N{EN DASH}",
        "ramp",
        "\N{EN DASH}",
        "1",
        "✓",
    ]
    assert 'class="cell bad"' in text
    assert 'aria-label="tie, L1: 5 passed, 4 failed, 3 did not run"' in text


def test_heat_cells_show_the_worst_ratio():
    def shown(*results):
        return words(heat_map(list(results)))[8:]

    assert shown(result(worst=0.25), result(worst=0.5)) == ["0.50"]
    assert shown(result()) == ["bits"]
    assert shown(result(worst=1e-4)) == ["&lt;", "0.01"]
    assert shown(result(), result("failed", 1.5)) == ["1.5", "✗"]
    assert shown(result("failed", 0.5)) == ["0.50", "✗"]
    assert shown(result(worst=None)) == ["not", "finite"]
    assert "more columns" in heat_map([result(backend=f"b{i}") for i in range(20)], limit=12)


def test_histograms_name_their_bins():
    data = {"edges": [-2, -1, 0, 1], "counts": [4, 0, 2, 3, 1]}
    text = histogram(data, "Error over bound", "ratio", True)
    assert re.findall(r"<title>([^<]*)</title>", text) == [
        "below 2^-2: 4",
        "2^-1 to 2^0: 2",
        "2^0 to 2^1: 3",
        "2^1 and above: 1",
    ]
    assert text.count('class="bar over"') == 2
    assert 'class="one"' in text
    assert "10 values, the most in below 2^-2" in text
    free = histogram(data, "Margins", "margin", False)
    assert 'class="one"' not in free
    assert "over" not in re.findall(r'class="([^"]*)"', free)


def test_segments_are_as_long_as_what_they_count():
    text = segments({"planned": 4, "passed": 3, "failed": 1, "missing": 0})
    assert re.findall(r'class="s (\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', text) == [
        ("passed", "0.00", "750.00"),
        ("failed", "750.00", "250.00"),
    ]


def test_a_card_counts_what_it_does_not_show():
    failure = {
        "kind": "mask",
        "evaluation": 1,
        "tensor": "mask",
        "index": [0],
        "failing": 1,
        "expected": "True",
        "actual": "False",
    }
    assert "and 15 more failing checks" in card(result("failed", failures=[failure] * 20, failed_checks=20))
    assert "and 40 more failing checks" in card(result("failed", failures=[failure] * 20, failed_checks=45))
    assert "more failing checks" not in card(result("failed", failures=[failure] * 5, failed_checks=5))
