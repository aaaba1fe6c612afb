"""The cache of what takes long to compute."""

import pytest

from seg_node.core.engines import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "seg_node"


def counted(answer: bytes):
    calls = []

    def make() -> bytes:
        calls.append(answer)
        return answer

    return make, calls


def test_is_computed_once_per_key(folder):
    make, calls = counted(b"answer")
    assert [cache.remembered(b"key", make) for _ in range(3)] == [b"answer"] * 3
    assert len(calls) == 1
    cache.remembered(b"other key", make)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 40])
def test_damaged_files_are_computed_again(folder, damage):
    make, calls = counted(b"answer")
    cache.remembered(b"key", make)
    (file,) = folder.iterdir()
    file.write_bytes(damage)
    assert cache.remembered(b"key", make) == b"answer" and len(calls) == 2
    assert cache.remembered(b"key", make) == b"answer" and len(calls) == 2


def test_folder_that_cannot_be_written_costs_no_answer(folder):
    folder.write_bytes(b"a file in its place")
    make, calls = counted(b"answer")
    assert [cache.remembered(b"key", make) for _ in range(2)] == [b"answer"] * 2
    assert len(calls) == 2


def test_no_home_costs_no_answer(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    make, calls = counted(b"answer")
    assert cache.remembered(b"key", make) == b"answer" and len(calls) == 1


def test_folder_is_bounded_and_keeps_what_is_used(folder):
    make, calls = counted(b"answer")
    cache.remembered(b"used", make)
    for number in range(20):
        cache.remembered(str(number).encode(), make)
        cache.remembered(b"used", make)
    assert len(list(folder.iterdir())) == 8
    assert len(calls) == 21
