"""What is no file is never opened, never followed in a circle, and never passed over in silence."""

import ctypes
import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from moos.errors import ConfigError
from moos.listing import describe_file, list_sources
from moos.storage import Storage
from pipelines.plan import plan_run

ODD = {
    "a named pipe": lambda path: os.mkfifo(path),
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a named pipe": lambda path: (
        os.mkfifo(path.parent / ".pipe"),
        path.symlink_to(path.parent / ".pipe"),
    ),
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a link that leads to itself": lambda path: path.symlink_to(path.name),
    "a link to the directory above": lambda path: path.symlink_to(".."),
}
KINDS = {
    "a link that leads to itself": "a link that leads nowhere",
    "a link to the directory above": "a link to a directory",
}


@pytest.fixture(params=ODD)
def odd(request, tmp_path):
    """An entry beside a good file: its path, and what it is called."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.jsonl").write_text('{"text": "a"}\n')
    path = tmp_path / "in" / "odd.jsonl"
    ODD[request.param](path)
    return path, KINDS.get(request.param, request.param)


@pytest.mark.parametrize("pattern", ["", "/*.jsonl", "/**"])
def test_what_is_no_file_is_told_and_not_read(odd, caplog, pattern):
    path, kind = odd
    found = list_sources([f"{path.parent}{pattern}"], {})
    assert [source.relative for source in found] == ["good.jsonl"]
    assert f"1 entries are no files and are not read: {path} ({kind})" in caplog.text


def test_what_is_no_file_cannot_be_the_input(odd):
    path, kind = odd
    if kind == "a link to a directory":  # which is read, but not in a circle
        assert [s.relative for s in list_sources([str(path)], {})] == ["in/good.jsonl"]
        return
    with pytest.raises(ConfigError, match=r"odd\.jsonl' names no file; .*: ") as caught:
        list_sources([str(path)], {})
    assert f"({kind})" in str(caught.value) or f"it is {kind}" in str(caught.value)


def test_a_file_that_became_a_pipe_is_gone(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError):
        describe_file(Storage(str(tmp_path)), str(tmp_path / "a.jsonl"))


def test_hidden_entries_are_not_told(odd, caplog):
    path, _ = odd
    for name in (".odd.jsonl", "_odd.jsonl"):
        path = path.rename(path.parent / name)
        for pattern in ("", "/*.jsonl", "/**"):
            list_sources([f"{path.parent}{pattern}"], {})
    assert "odd.jsonl" not in caplog.text


def test_a_link_to_a_file_is_that_file(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "a.jsonl"
    target.write_bytes(b"12345\n")
    place = tmp_path / "in"
    place.mkdir()
    (place / "link.jsonl").symlink_to(place / "second.jsonl")
    (place / "second.jsonl").symlink_to(target)
    found, second = list_sources([str(place)], {})
    assert (found.relative, found.size) == ("link.jsonl", 6)
    assert (second.size, second.etag) == (found.size, found.etag)
    assert [s.etag for s in list_sources([found.path], {})] == [found.etag]
    assert describe_file(Storage(str(place)), found.path) == (found.size, found.etag)
    assert caplog.text == ""
    os.utime(target, ns=(1, 1))
    assert describe_file(Storage(str(place)), found.path) != (found.size, found.etag)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("", ["in/link"]),
        ("/*", ["in/x.jsonl", "in/y", "in/link"]),
        ("/*.jsonl", ["in/x.jsonl"]),
        ("/*/*.jsonl", ["in/link"]),
        ("/?/*.jsonl", []),
        ("/**/*.jsonl", ["in/link"]),
    ],
)
def test_a_directory_that_is_not_read_is_told(tmp_path, caplog, pattern, told):
    """One that a glob names, and a link to one that lies on the way of what is read."""
    for name in ("in/a.jsonl", "in/x.jsonl/part-0.jsonl", "in/y/b.jsonl", "elsewhere/c.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "a"}\n')
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    found = {source.relative for source in list_sources([f"{tmp_path}/in{pattern}"], {})}
    assert found & {"a.jsonl", "y/b.jsonl", "b.jsonl"}
    assert ("x.jsonl/part-0.jsonl" in found) == (pattern in ("", "/*/*.jsonl", "/**/*.jsonl"))
    shown = [name for name in ("in/x.jsonl", "in/y", "in/link") if f"{name} (a" in caplog.text]
    assert shown == told


def test_of_many_entries_some_are_told(tmp_path, caplog):
    (tmp_path / "a.jsonl").touch()
    for number in range(9):
        (tmp_path / f"link{number}").symlink_to("nowhere")
    list_sources([str(tmp_path)], {})
    assert "9 entries are no files" in caplog.text
    assert caplog.text.count("(a link that leads nowhere)") == 5


@pytest.mark.parametrize("path", ["a\0b", "in/a**.jsonl"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ConfigError, match="is no path or glob"):
        list_sources([path], {})


@contextmanager
def without_override():
    """This thread has no right to read what a file's mode forbids, which root else has."""
    if sys.platform != "linux":
        pytest.skip("rights of a process are taken away as Linux does it")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3; this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, each in two halves
    assert libc.capget(header, rights) == 0
    effective = rights[0]
    rights[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[0] = effective
        assert libc.capset(header, rights) == 0


@pytest.fixture
def forbidden(tmp_path):
    """`with forbidden(path):` its mode allows nothing to anybody, and that holds for root too."""

    @contextmanager
    def forbid(path: Path):
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            with without_override():
                yield
        finally:
            path.chmod(mode)

    return forbid


def test_a_file_that_may_not_be_read_is_refused_before_work_starts(
    forbidden, config, tmp_path, write_jsonl
):
    path = write_jsonl("in/b.jsonl", [{"text": "b"}])
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    with forbidden(path):
        with pytest.raises(PermissionError):
            path.open()
        with pytest.raises(
            ConfigError, match=r"input\.path: permission to read is denied for 1 files: .*b\.jsonl"
        ):
            plan_run(config(path.parent, tmp_path / "out"))
    assert plan_run(config(path.parent, tmp_path / "out")).num_files == 2


def test_a_file_that_moos_does_not_read_may_be_forbidden(forbidden, config, tmp_path, write_jsonl):
    path = write_jsonl("in/a.jsonl", [{"text": "a"}]).parent / "key.pem"
    path.touch()
    with forbidden(path):
        assert plan_run(config(path.parent, tmp_path / "out")).num_files == 1


@pytest.mark.parametrize("pattern", ["in", "in/*/*.jsonl"])
def test_a_directory_that_may_not_be_listed_is_refused(forbidden, tmp_path, write_jsonl, pattern):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    path = write_jsonl("in/sub/b.jsonl", [{"text": "b"}]).parent
    with forbidden(path), pytest.raises(ConfigError, match=r"to list .*sub is denied"):
        list_sources([str(tmp_path / pattern)], {})


@pytest.mark.parametrize("second", ["in/sub", "in/sub/b.jsonl", "in/sub/*.jsonl", "link/sub"])
def test_a_file_that_two_inputs_name_differently_is_refused(tmp_path, write_jsonl, second):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    path = write_jsonl("in/sub/b.jsonl", [{"text": "b"}])
    (tmp_path / "link").symlink_to("in")
    first, second = f"{tmp_path}/in/**/*.jsonl", f"{tmp_path}/{second}"
    for one, other in ((first, second), (second, first)):
        with pytest.raises(ConfigError, match=r"^input\.path: .*; give each file once$") as caught:
            list_sources([one, other], {})
        assert path.name in str(caught.value)
        assert f"{one!r} and {other!r} both name it" in str(caught.value)


@pytest.mark.parametrize("second", ["in", "in/**/*.jsonl", "in/a.jsonl"])
def test_a_file_that_two_inputs_name_alike_is_read_once(tmp_path, write_jsonl, second):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    write_jsonl("in/sub/b.jsonl", [{"text": "b"}])
    found = list_sources([f"{tmp_path}/in", f"{tmp_path}/{second}"], {})
    assert [source.relative for source in found] == ["a.jsonl", "sub/b.jsonl"]


def test_inputs_on_different_filesystems_are_refused(tmp_path, write_jsonl):
    write_jsonl("in/a.jsonl", [{"text": "a"}])
    write_jsonl("in/b.jsonl", [{"text": "b"}])
    Storage("memory://").put("/c.jsonl", b'{"text": "c"}\n')
    first = f"{tmp_path}/in/a.jsonl"
    assert len(list_sources([first, f"file://{tmp_path}/in/b.jsonl"], {})) == 2
    with pytest.raises(ConfigError, match="are on different filesystems") as caught:
        list_sources([first, "memory://c.jsonl"], {})
    assert f"input.path: {first!r} and 'memory://c.jsonl'" in str(caught.value)
