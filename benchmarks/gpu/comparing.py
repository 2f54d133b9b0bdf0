"""Variants of one piece of work measured by turns, each with its ratio to the baseline, as measurements of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import Samples, measure, ratio_of, spread_of, summary

__all__ = ["Variant", "compare"]


@dataclass
class Variant:
    """Something that can be timed.

    Attributes
    ----------
    name, backend : str
    call : callable
    goal, point : str
        Goal that its ratio counts for, and which part of it; empty for none.
    per : int
        Evaluations of one call: times are per evaluation.
    about : dict
        Further fields of the measurement.
    """

    name: str
    backend: str
    call: Callable[[], Any]
    goal: str = ""
    point: str = ""
    per: int = 1
    about: dict[str, Any] = field(default_factory=dict)


def compare(
    setup: Setup,
    run: Run,
    label: str,
    workload: str,
    variants: list[Variant],
    kind: str,
    shape: Mapping[str, Any],
) -> Samples:
    """Time all variants by turns; the first is the baseline of the ratios, and of A/A.

    Parameters
    ----------
    label : str
        First part of the ids, which must be new.
    kind : str
        What the ratios are, such as ``vs_graph_dense``.

    Returns
    -------
    Samples
        Of the variants that could be called; empty where none could.
    """
    first = variants[0]
    variants = [variant for variant in variants if _works(setup, run, label, variant)]
    if not variants:
        return {}
    samples = measure(setup.clock, {variant.name: variant.call for variant in variants}, setup.settings)
    baseline = variants[0]
    is_comparable = baseline is first and (setup.is_simulated or kind == "vs_own_dense" or first.backend == "torch")
    baseline_id = f"{label}/{baseline.name}"
    spread = spread_of(samples)
    for variant in variants:
        is_baseline = variant is baseline or not is_comparable  # ratios over something else would not be what `kind` says
        parts = [label, variant.point, variant.name] if variant.point else [label, variant.name]
        run.add(
            Measurement(
                "/".join(parts),
                workload,
                variant.backend,
                variant.name,
                goal="" if is_baseline else variant.goal,
                shape=dict(shape),
                iterations=variant.per,
                time_us=_per_evaluation(summary(samples[variant.name]), variant.per),
                baseline_id="" if is_baseline else baseline_id,
                ratio=None
                if is_baseline
                else _scaled(ratio_of(samples, baseline.name, variant.name), variant.per, baseline.per),
                ratio_kind="" if is_baseline else kind,
                spread=spread,
                **variant.about,
            )
        )
    return samples


def _works(setup: Setup, run: Run, label: str, variant: Variant) -> bool:
    """Call once and wait, so that a variant that fails takes no other with it."""
    try:
        setup.clock.microseconds(variant.call, 1)
    except Exception as error:
        run.failed(f"{label}/{variant.name}", error)
        return False
    return True


def _per_evaluation(times: dict[str, float] | None, per: int) -> dict[str, float] | None:
    if times is None:
        return None
    return {name: value if name == "samples" else value / per for name, value in times.items()}


def _scaled(ratio: dict[str, float] | None, per: int, baseline_per: int) -> dict[str, float] | None:
    """Ratios are per evaluation too."""
    return None if ratio is None else {name: value * per / baseline_per for name, value in ratio.items()}
