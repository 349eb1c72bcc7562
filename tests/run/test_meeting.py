"""Where a scheduler is, as its file says: also while the file is being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiler.errors import UserError
from profiler.run import meeting
from profiler.run.meeting import Meeting, told_in

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


def test_a_file_is_written_in_one_step_and_taken_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("of an earlier scheduler")
    seen: list[str] = []
    replace = Path.replace

    def watched(part: Path, target: Path) -> Path:
        seen.extend((file.read_text(), part.read_text()))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", watched)
    with told_in(file, json.loads(WHOLE)):
        assert seen == ["of an earlier scheduler", WHOLE]
        assert file.read_text() == WHOLE
    assert not list(file.parent.iterdir())


def test_the_file_of_the_next_scheduler_stays(file: Path) -> None:
    with told_in(file, json.loads(WHOLE)):
        file.write_text("of the next one")
    assert file.read_text() == "of the next one"
    with told_in(None, {}):
        pass


def test_a_file_that_cannot_be_written_is_a_sentence(file: Path) -> None:
    for text, why in (("", "No such file"), ("no folder", "Not a directory")):
        if text:
            file.write_text(text)
        said = rf"^--scheduler-file .*fleet.json/x cannot be written \({why}.*\); choose another place$"
        with pytest.raises(UserError, match=said), told_in(file / "x", {}):
            pass
