"""Cases as C arrays, with the judge in C beside them: for programs that read no files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.types import DeltaRule
from refdeq_validation.cases.model import Call, Case, array_digest
from refdeq_validation.packs.digests import prompt_digest
from refdeq_validation.packs.expected import expected_steps, operand_sizes
from refdeq_validation.packs.rows import case_digest
from refdeq_validation.protocol.problem import Problem

__all__ = ["c_files", "fits_c"]

Array = np.ndarray[Any, Any]

_UNIONS = {"float32": ("uint32_t", "float", 8), "float64": ("uint64_t", "double", 16)}
_PLAIN = {"bool": "uint8_t", "int64": "int64_t"}
_FORMATS = {None: 0, "float16": 16, "bfloat16": 17, "float32": 32}
_OPTIONS = {"session", "batch"}
_CALLS = ("reset", "set_state", "step")


def fits_c(case: Case) -> bool:
    """Whether a case can be asked of a program in C: unit steps behind a gate, nothing to be refused, plain storage."""
    return (
        case.level in ("L1", "L2")
        and case.problem.gate_rule is not None
        and case.problem.storage is None
        and len(case.problem.shape) <= 3
        and all(call.name in _CALLS and not call.refused and set(call.options) <= _OPTIONS for call in case.calls)
        and all(int(call.options.get("session", 0)) < 2 for call in case.calls)
        and not any(array.strides and not all(array.strides) and array.size > 2**20 for array in _inputs(case))
    )


def _inputs(case: Case) -> list[Array]:
    return [*case.problem.arrays().values(), *(array for call in case.calls for array in call.arrays.values())]


def c_files(cases: Sequence[Case]) -> dict[str, bytes]:
    """Files of the folder ``c/``: the two headers, and the cases.

    Parameters
    ----------
    cases : sequence of Case
        Those that do not fit (:func:`fits_c`) are left out; how many is said in the header.

    Raises
    ------
    ArgumentError
        When no case fits.
    """
    chosen = [case for case in cases if fits_c(case)]
    if not chosen:
        raise ArgumentError("--c-arrays", expected="a profile with unit steps", got=f"{len(cases)} cases, none of which fits")
    writer = _Writer()
    for number, case in enumerate(chosen):
        writer.case(number, case)
    names = ", ".join(f"&case_{number}" for number in range(len(chosen)))
    source = [
        f"/* {len(chosen)} cases of refdeq; {len(cases) - len(chosen)} of the profile are no unit steps and are left out. */",
        '#include "refdeq_cases.h"',
        *writer.lines,
        f"const rp_case *const rp_cases[] = {{{names}}};",
        f"const size_t rp_case_count = {len(chosen)};",
        f'const char rp_prompt[] = "{prompt_digest((case.id, case_digest(case)) for case in cases)}";',
    ]
    header = [
        "#ifndef REFDEQ_CASES_H",
        "#define REFDEQ_CASES_H",
        '#include "refdeq_pack.h"',
        f"/* {len(chosen)} cases; {len(cases) - len(chosen)} of the profile are left out. */",
        "extern const rp_case *const rp_cases[];",
        "extern const size_t rp_case_count;",
        "extern const char rp_prompt[]; /* digest of the questions of the pack */",
        "#endif",
    ]
    folder = resources.files("refdeq_validation.packs") / "c"
    files = {f"c/{name}": (folder / name).read_bytes() for name in ("refdeq_judge.h", "refdeq_pack.h")}
    texts = {"c/refdeq_cases.c": source, "c/refdeq_cases.h": header}
    return files | {name: ("\n".join(lines) + "\n").encode() for name, lines in texts.items()}


class _Writer:
    """Lines of C; equal arrays are written once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, str] = {}

    def array(self, array: Array | None) -> str:
        """Expression that points to the first element."""
        if array is None:
            return "0"
        array = np.asarray(array)
        digest = array_digest(array)
        if digest not in self.names:
            self.names[digest] = self._declare(f"array_{len(self.names)}", array)
        return self.names[digest]

    def _declare(self, name: str, array: Array) -> str:
        flat = np.ascontiguousarray(array).reshape(-1)
        size = max(flat.size, 1)
        if array.dtype.name in _UNIONS:
            bits, number, digits = _UNIONS[array.dtype.name]
            values = [f"0x{int(value):0{digits}x}" for value in flat.view(f"u{flat.itemsize}")] or ["0"]
            kind = f"static const union {{ {bits} bits[{size}]; {number} value[{size}]; }}"
            self.lines.append(f"{kind} {name} = {{{{{', '.join(values)}}}}};")
            return f"{name}.value"
        values = [str(int(value)) for value in flat] or ["0"]
        self.lines.append(f"static const {_PLAIN[array.dtype.name]} {name}[{size}] = {{{', '.join(values)}}};")
        return name

    def case(self, number: int, case: Case) -> None:
        """One ``rp_case`` and its calls."""
        sizes = operand_sizes(case)
        calls = [self._call(call, step, size) for call, step, size in zip(case.calls, expected_steps(case), sizes, strict=True)]
        problem = self._problem(case.problem)
        exact = int(case.expect == "exact")
        self.lines.append(f"static const rp_call calls_{number}[] = {{\n  " + ",\n  ".join(calls) + "};")
        fields = [f'.id = "{case.id}"', f".exact = {exact}", *problem, f".calls = {len(calls)}", f".call = calls_{number}"]
        self.lines.append(f"static const rp_case case_{number} = {{" + ", ".join(fields) + "};")

    def _call(self, call: Call, step: dict[str, Array] | None, sizes: Array | None) -> str:
        fields = [f".name = RP_{call.name.upper()}", f".session = {int(call.options.get('session', 0))}"]
        if call.name == "reset":
            fields.append(f".batch = {int(call.options['batch'])}")
        elif call.name == "set_state":
            fields.append(f".batch = {len(call.arrays['count'])}")
            fields += [f".{name} = {self.array(call.arrays[name])}" for name in ("r", "a", "count")]
        elif step is not None:
            names = {"mask": "mask", "fresh": "fresh", "r_after": "r", "a_strict": "a", "y_strict": "y", "k": "k"}
            names |= {"high": "sum_hi", "low": "sum_lo", "gauge": "gauge"}
            fields.append(f".u = {self.array(call.arrays['u'])}")
            step = {**step, "k": step["k"].astype(np.int64)}
            fields += [f".{field} = {self.array(step[name])}" for field, name in names.items()]
            fields.append(f".sizes = {self.array(sizes)}")
        return "{" + ", ".join(fields) + "}"

    def _problem(self, problem: Problem) -> list[str]:
        fields = [
            f".op = RP_{problem.op.upper()}",
            f".bits = {32 if problem.dtype == 'float32' else 64}",
            f".inputs = {int(np.prod(problem.shape))}",
            f".outputs = {int(np.prod(problem.out_shape))}",
            f".sites = {int(np.prod(problem.out_shape[1:]))}",
            f".rank = {len(problem.shape)}",
            f".shape = {_braces(problem.shape)}",
            f".out_shape = {_braces(problem.out_shape)}",
            f".weight = {self.array(problem.weight)}",
            f".bias = {self.array(problem.bias)}",
        ]
        if problem.op == "Conv":
            strides, pads, dilations = problem.geometry
            geometry = {"kernel": problem.weight.shape[2:], "strides": strides, "pads": pads, "dilations": dilations}
            fields += [f".{name} = {_braces(values)}" for name, values in geometry.items()]
            fields.append(f".group = {problem.group}")
        rule = problem.gate_rule
        assert rule is not None
        return fields + self._rule(rule, folded=rule.bias == "folded" and problem.bias is not None)

    def _rule(self, rule: DeltaRule, *, folded: bool) -> list[str]:
        threshold = np.atleast_1d(np.asarray(rule.threshold, np.float64))
        fields = [
            f".compare = RP_{rule.compare.upper()}",
            f".memory = RP_{rule.memory.upper()}",
            f".dense_start = {int(rule.start == 'dense')}",
            f".folded = {int(folded)}",
            f".granularity = RP_{rule.granularity.upper()}",
            f".refresh = {rule.refresh}",
            f".feedback_format = {_FORMATS[rule.feedback_format]}",
            f".delta_format = {_FORMATS[rule.delta_dtype]}",
            f".thresholds = {threshold.size}",
            f".threshold = {self.array(threshold)}",
        ]
        return fields + ([f".tile = {_braces(rule.tile)}"] if rule.tile is not None else [])


def _braces(values: Sequence[int]) -> str:
    return "{" + ", ".join(str(int(value)) for value in values) + "}"
