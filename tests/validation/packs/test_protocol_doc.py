"""The conversation in docs/protocol.md happens as it stands there, with any program that speaks the protocol."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from refdeq_validation.lab.session import Lab
from refdeq_validation.packs.serving import serve

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


def conversation():
    block = TEXT.partition("### A complete conversation")[2].partition("```text\n")[2].partition("```")[0]
    questions = [line[2:] for line in block.splitlines() if line.startswith("> ")]
    answers = [json.loads(line[2:]) for line in block.splitlines() if line.startswith("< ")]
    assert len(questions) == len(answers) == 9
    return questions, answers


def comparable(answer):
    """An answer without what is a program's own: its manifest, and the wording of its errors."""
    return {key: value for key, value in answer.items() if key not in ("manifest", "text")}


@pytest.mark.parametrize("program", ["python", "c"])
def test_the_conversation_is_what_programs_say(program, request):
    questions, answers = conversation()
    text = "".join(question + "\n" for question in questions)
    if program == "python":
        out = io.StringIO()
        serve(Lab(), io.StringIO(text), out)
        said = out.getvalue()
    else:
        client = request.getfixturevalue("compiled")("jsonl_client", ROOT / "examples/jsonl_client_c/jsonl_client.c")
        said = subprocess.run([client], input=text, capture_output=True, text=True, check=True, timeout=60).stdout
    assert [comparable(json.loads(line)) for line in said.splitlines()] == [comparable(answer) for answer in answers]


def test_every_call_of_the_server_is_documented():
    from refdeq_validation.packs import serving

    source = Path(serving.__file__).read_text(encoding="utf-8")
    calls = {"hello", "open", "reset", "set_state", "step", "get_state", "solve", "gradient", "threads", "close"}
    for call in calls:
        assert f'"{call}"' in source
        assert f"| `{call}`" in TEXT
