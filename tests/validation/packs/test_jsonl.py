"""The live protocol: a program answers as the implementation behind it would, and whatever it does wrong is named."""

import json
import os
import sys
import time

import numpy as np
import pytest
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.packs.jsonl import JsonlImplementation, LiveProcessError
from refdeq_validation.packs.serving import serve
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.timeout import CallTimeoutError

from refdeq.errors import ArgumentError
from refdeq.types import DeltaRule, StopRule

LAB = """
from refdeq_validation.lab.session import Lab
from refdeq_validation.packs.serving import serve
serve(Lab())
"""

SCRIPTED = """
import json, os, sys, time
for line in sys.stdin:
    message = json.loads(line)
    call, answer = message["call"], {"id": message["id"]}
    if call == "hello":
        answer |= {"protocol": "refdeq-live/1", "manifest": {"backend": {"name": "scripted"}, "claims": {"timeout": 1.5}}}
    if call == "step":
        pass
        STEP
    print(answer if isinstance(answer, str) else json.dumps(answer), flush=True)
"""

HELLO = '{"id":1,"protocol":"refdeq-live/1"}'

PROBLEM = Problem("Gemm", "float32", (2,), np.array([[1, 2]], "float32"), np.array([0.5], "float32"), DeltaRule(threshold=0.5))


@pytest.fixture
def lab():
    implementation = JsonlImplementation([sys.executable, "-c", LAB], CLAIMS.manifest())
    yield implementation
    implementation.close()


def scripted(step):
    return JsonlImplementation([sys.executable, "-c", SCRIPTED.replace("STEP", step)])


def stepped(implementation):
    session = implementation.open(PROBLEM)
    session.reset(1)
    mask, y = np.zeros((1, 2), bool), np.zeros((1, 1), "float32")
    session.step(np.ones((1, 2), "float32"), mask, y)
    return session, mask, y


@pytest.mark.parametrize("inline", [1 << 20, 8])
def test_a_program_is_judged_like_the_object_in_it(cases, transcripts, inline):
    implementation = JsonlImplementation([sys.executable, "-c", LAB], inline=inline)
    assert implementation.manifest() == CLAIMS.manifest()
    for case, direct in zip(cases, transcripts, strict=True):
        transcript = execute(case, implementation, CLAIMS)
        assert judge(case, transcript, CLAIMS).passed, case.id
        for one, other in zip(direct.answers, transcript.answers, strict=True):
            assert one.error == other.error
            assert one.results.keys() == other.results.keys()
            for name in one.results:
                assert one.results[name].tobytes() == other.results[name].tobytes()
    assert list(implementation.process.shared.iterdir()) == [] or inline == 8
    implementation.close()


def test_solves_and_gradients_cross_the_pipe(lab):
    weight = np.array([[0.5, 0.25], [0.0, 0.5]], "float32")
    problem = Problem(
        "Gemm",
        "float32",
        (2,),
        weight,
        None,
        DeltaRule(threshold=0.01),
        activation="Tanh",
        stop=StopRule(rtol=1e-3, max_eval=30),
    )
    x, z = np.array([[0.5, -0.25]], "float32"), np.zeros((1, 2), "float32")
    direct, piped = Lab().open(problem), lab.open(problem)
    for session in (direct, piped):
        session.reset(1)
    one, other = (session.solve(x, z, keep=False, trace=True) for session in (direct, piped))
    assert one.keys() == other.keys()
    for name in one:
        assert np.asarray(one[name]).tobytes() == other[name].tobytes(), name
    given = {"cotangent": np.ones((1, 2), "float32"), "jacobian": "dense"}
    one, other = (session.gradient(x, np.asarray(one["z"]), **given) for session in (direct, piped))
    assert {name: np.asarray(array).tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }


def test_refusals_change_nothing(lab):
    session, _, _ = stepped(lab)
    mask, y = np.zeros((1, 2), bool), np.zeros((1, 1), "float32")
    with pytest.raises(ValueError, match="shape"):
        session.step(np.ones((1, 3), "float32"), mask, y)
    for bad in ((np.zeros((1, 3), bool), y), (mask, y.astype("float64")), (mask, np.zeros((2, 1), "float32"))):
        with pytest.raises((ValueError, TypeError)):
            session.step(np.ones((1, 2), "float32"), *bad)
    r, a = np.zeros((1, 2), "float32"), np.zeros((1, 1), "float32")
    session.get_state(r, a)
    assert (r.tolist(), a.tolist()) == ([[1.0, 1.0]], [[3.0]])


def test_sessions_know_nothing_of_each_other(lab):
    one, _, _ = stepped(lab)
    other, _, _ = stepped(lab)
    other.reset(1)
    r, a = np.zeros((1, 2), "float32"), np.zeros((1, 1), "float32")
    one.get_state(r, a)
    assert a[0, 0] == 3.0
    one.close()
    other.get_state(r, a)
    assert a[0, 0] == 0.0


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("sys.exit(3)", "ended with code 3"),
        ("os.kill(os.getpid(), 9)", "ended with code -9"),
        ("sys.exit('out of memory')", "out of memory"),
        ("answer = 'debug: starting'", "expected one JSON object"),
        ("answer = '[1]'", "expected one JSON object"),
        ("answer['id'] += 1", "expected the answer to message"),
        ("answer.pop('id')", "expected the answer to message"),
        ("answer['error'] = 'crash'; answer['text'] = 'segfault'", "segfault"),
        ("pass", "got nothing"),
        ("answer['results'] = 3", "expected an object"),
        ("answer['results'] = {'mask': 'bool:1,1'}", "expected dtype"),
        ("answer['results'] = {'y': {'dtype': 'float32', 'shape': [3], 'bits': 'f32:'}}", "numbers of"),
        ("answer['results'] = {'y': {'dtype': 'float32', 'shape': [1], 'file': '/etc/hostname'}}", "a file in"),
        ("answer['results'] = {'mask': {'dtype': 'bool', 'shape': [2], 'bits': 'bool:1,1'}}", "mask: expected bool"),
    ],
)
def test_what_a_program_does_wrong_is_named(step, said):
    implementation = scripted(step)
    with pytest.raises(LiveProcessError, match=said):
        stepped(implementation)
    implementation.close()


@pytest.mark.parametrize(("kind", "error"), [("refused", ValueError), ("unsupported", NotImplementedError)])
def test_errors_keep_their_kind(kind, error):
    implementation = scripted(f"answer['error'] = {kind!r}; answer['text'] = 'because'")
    with pytest.raises(error, match="because"):
        stepped(implementation)
    implementation.close()


def test_a_call_that_takes_too_long_kills_the_program():
    implementation = scripted("time.sleep(600)")
    session = implementation.open(PROBLEM)
    session.reset(1)
    popen, began = implementation.process.pipe.popen, time.monotonic()
    with pytest.raises(CallTimeoutError, match=r"1\.5 s"):
        session.step(np.ones((1, 2), "float32"), np.zeros((1, 2), bool), np.zeros((1, 1), "float32"))
    assert 1.0 < time.monotonic() - began < 30.0
    assert popen.poll() is not None
    session.close()
    assert implementation.open(PROBLEM).process.pipe.popen is not popen
    implementation.close()


def test_a_program_that_does_not_read_is_killed_too():
    reader = f"import time; input(); print({HELLO!r}, flush=True); time.sleep(600)"
    manifest = {"backend": {"name": "deaf"}, "claims": {"timeout": 0.5}}
    implementation = JsonlImplementation([sys.executable, "-c", reader], manifest, inline=1 << 30)
    implementation.timeout = 20.0
    implementation._started().timeout = 0.5
    weight = np.zeros((600, 600), "float32")
    with pytest.raises(CallTimeoutError):
        implementation.open(Problem("Gemm", "float32", (600,), weight, None, DeltaRule(threshold=0.5)))
    implementation.close()


@pytest.mark.parametrize("command", [["/no/such/program"], [os.devnull]])
def test_a_program_that_cannot_be_started_is_named(command):
    with pytest.raises(LiveProcessError, match="cannot be started"):
        JsonlImplementation(command)


@pytest.mark.parametrize("hello", ['{"id":1,"protocol":"refdeq-live/2"}', '{"id":1}'])
def test_another_protocol_is_refused(hello):
    with pytest.raises(LiveProcessError, match="expected protocol"):
        JsonlImplementation([sys.executable, "-c", f"input(); print({hello!r})"])


def test_a_manifest_must_come_from_somewhere():
    program = f"input(); print({HELLO!r}, flush=True); input()"
    with pytest.raises(ArgumentError, match="manifest"):
        JsonlImplementation([sys.executable, "-c", program])


def test_prints_do_not_look_like_answers(capfd):
    class Chatty(Lab):
        def open(self, problem):
            print("opening")
            return super().open(problem)

    import io

    questions = [
        {"id": 1, "call": "hello"},
        {"id": 2, "call": "open", "session": 1, "problem": PROBLEM.as_data(), "arrays": {}},
        {"id": 3, "call": "dance", "session": 1},
    ]
    stdin, sys.stdin = sys.stdin, io.StringIO("".join(json.dumps(question) + "\n" for question in questions))
    try:
        serve(Chatty())
    finally:
        sys.stdin = stdin
    out = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [answer["id"] for answer in out] == [1, 2, 3]
    assert out[1]["error"] == "crash"
    assert out[2]["error"] == "crash"
