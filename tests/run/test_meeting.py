"""Where a scheduler is, as its file says: also while the file is being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.run import meeting, serving
from profiler.run.meeting import Meeting

WHOLE = json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:8786", "workers": {}}, indent=2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fleet.json"


@pytest.mark.parametrize("part", ["", WHOLE[:1], WHOLE[:40]])
def test_a_file_that_is_being_written_is_waited_for(file: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(part)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            file.write_text(WHOLE)

    monkeypatch.setattr(meeting.time, "sleep", sleep)
    assert Meeting(file=file).found(60.0) == "tcp://10.0.0.1:8786"
    assert len(naps) == 3


def test_a_file_that_stays_half_written_is_said_to_be(file: Path) -> None:
    for part, what in (("", "it is empty"), (WHOLE[:40], "it is only half written")):
        file.write_text(part)
        with pytest.raises(UserError, match=f"{what}; is its scheduler still there"):
            Meeting(file=file).found(0.05)


def test_a_file_of_something_else_is_refused_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting.time, "sleep", lambda _s: pytest.fail("waited"))
    for text in ("[]", '{"adress": 1}', '{"address": 8786}', '{"address": "10.0.0.1"}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"^--scheduler-file .*fleet.json: it says no address") as refused:
            Meeting(file=file).found(60.0)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="No such file"):
        Meeting(file=file.parent / "none").found(60.0)


def test_a_scheduler_writes_its_file_in_one_step_and_takes_it_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    seen: list[str] = []

    def say(said: str) -> None:
        seen.append(said)
        seen.append(json.loads(file.read_text())["address"])
        raise RuntimeError("enough")

    def parts(*_: object, **__: object) -> None:
        pytest.fail("the file was written in parts")

    monkeypatch.setattr(json, "dump", parts)
    with pytest.raises(UserError, match="enough"):
        serving.serve_scheduler("127.0.0.1", 0, file, None, say)
    assert seen[1] in seen[0]
    assert not list(file.parent.iterdir())


def test_a_file_that_cannot_be_written_ends_a_scheduler_with_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UserError, match=r"--scheduler-file .*none/fleet.json cannot be written \(No such file"):
        serving.serve_scheduler("127.0.0.1", 0, tmp_path / "none/fleet.json", None, print)
