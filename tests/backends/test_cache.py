import errno
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.backends import cache

NAME = cache.content_name(model="net", shape=(1, 3, 8, 8))


def write(content=b"weights"):
    def build(folder):
        (folder / "model").write_bytes(content)
        (folder / "extra").write_bytes(b"graph")

    return build


def never(folder):
    raise AssertionError("built although cached")


def read(root, build, name=NAME):
    with cache.entry(root, name, build) as entry:
        return (entry.folder / "model").read_bytes(), entry.cached, entry.note


@given(st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text("xyz")))
def test_a_key_depends_on_content_and_not_on_order(parts):
    assert cache.content_name(**parts) == cache.content_name(**dict(reversed(parts.items())))
    assert cache.content_name(**parts) != cache.content_name(**parts, another=1)
    assert len(cache.content_name(**parts)) == 32


def test_builds_once(tmp_path):
    assert read(tmp_path / "new" / "cache", write()) == (b"weights", False, None)
    assert read(tmp_path / "new" / "cache", never) == (b"weights", True, None)


@pytest.mark.parametrize(("root", "name"), [(None, NAME), ("cache", None)])
def test_without_folder_or_key_nothing_is_kept(root, name, tmp_path):
    root = root and tmp_path / root
    for _ in range(2):
        content, cached, note = read(root, write(), name)
        assert (content, cached) == (b"weights", False)
        assert "nothing kept" in note
    assert list(tmp_path.iterdir()) == []


def test_scratch_files_are_removed(tmp_path):
    with cache.entry(tmp_path, NAME, write()) as entry:
        scratch = entry.folder
    assert not scratch.exists()
    assert [path.name.startswith(NAME) for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("damage", ["torn", "flipped", "missing", "added", "renamed"])
def test_a_damaged_entry_is_made_again(damage, tmp_path):
    read(tmp_path, write())
    (folder,) = tmp_path.iterdir()
    file = folder / "model"
    {
        "torn": lambda: file.write_bytes(b"weig"),
        "flipped": lambda: file.write_bytes(b"weightS"),
        "missing": file.unlink,
        "added": (folder / "zzz").touch,
        "renamed": lambda: file.rename(folder / "weights"),
    }[damage]()
    assert read(tmp_path, write()) == (b"weights", False, None)
    assert read(tmp_path, never) == (b"weights", True, None)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_costs_the_cache_and_leaves_nothing_behind(tmp_path, monkeypatch):
    copied = []

    def fills_up(source, target):
        if copied:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(target)
        target.write_bytes(source.read_bytes()[:1])

    monkeypatch.setattr(shutil, "copyfile", fills_up)
    content, cached, note = read(tmp_path, write())
    assert (content, cached) == (b"weights", False)
    assert note == f"nothing kept in {tmp_path}: No space left on device"
    assert copied
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_the_cache(tmp_path):
    (tmp_path / "file").touch()
    assert read(tmp_path / "file" / "cache", write())[1:] == (
        False,
        f"nothing kept in {tmp_path}/file/cache: Not a directory",
    )


def test_what_the_builder_raises_passes_through_and_keeps_nothing(tmp_path):
    def broken(folder):
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_wins(tmp_path):
    def slow(folder):
        read(tmp_path, write())  # the other one, which finishes first
        write()(folder)

    assert read(tmp_path, slow) == (b"weights", False, None)
    assert read(tmp_path, never) == (b"weights", True, None)
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_with_different_results_both_leave_a_valid_entry(tmp_path):
    def slow(folder):
        read(tmp_path, write(b"theirs"))
        write(b"ours")(folder)

    assert read(tmp_path, slow)[0] == b"ours"
    assert read(tmp_path, never)[0] in (b"ours", b"theirs")


def test_remains_of_killed_processes_are_swept_and_those_at_work_are_not(tmp_path):
    old, young = tmp_path / ".pending-old", tmp_path / ".pending-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "half").touch()
    os.utime(old, (0, 0))
    read(tmp_path, write())
    assert not old.exists()
    assert young.exists()


WORKER = """
import sys
from pathlib import Path
from profiler.backends import cache
root = Path(sys.argv[1])
for i in range(40):
    def build(folder):
        for part in range(4):
            (folder / str(part)).write_bytes(bytes([i]) * 50_000)
    with cache.entry(root, cache.content_name(i=i), build) as entry:
        assert entry.note is None, entry.note
        for part in range(4):
            assert (entry.folder / str(part)).read_bytes() == bytes([i]) * 50_000
"""


def test_processes_at_once_only_see_whole_entries(tmp_path):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(3)
    ]
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [(worker.returncode, error) for worker, error in zip(workers, errors, strict=True)] == [(0, b"")] * 3
    assert len(list(tmp_path.iterdir())) == 40


def test_pruning_removes_what_was_used_longest_ago(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        with cache.entry(tmp_path, name, lambda folder: folder.joinpath("weights").write_bytes(b"x" * 1000)):
            pass
        (folder,) = tmp_path.glob(f"{name}-*")
        os.utime(folder, (1e9 - age, 1e9 - age))
    assert cache.prune(tmp_path, 2500) == 1000
    assert sorted(folder.name.partition("-")[0] for folder in tmp_path.iterdir()) == ["middle", "new"]
    # Using an entry makes it the last to go.
    with cache.entry(tmp_path, "middle", lambda folder: None) as used:
        assert used.cached
    assert cache.prune(tmp_path, 1000) == 1000
    assert [folder.name.partition("-")[0] for folder in tmp_path.iterdir()] == ["middle"]


def test_pruning_what_is_not_there_removes_nothing(tmp_path):
    assert cache.prune(tmp_path / "none", 0) == 0
