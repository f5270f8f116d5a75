"""Writes happen whole or not at all, on any filesystem; secrets stay out."""

import os

import fsspec
import pytest

from moos.config import load_config
from moos.errors import ConfigError
from moos.storage import Storage, describe_file, is_below
from pipelines.config import CompressConfig


@pytest.fixture(params=["disk", "memory"])
def storage(request, tmp_path):
    if request.param == "disk":
        return Storage(str(tmp_path / "place"))
    fsspec.filesystem("memory").store.clear()
    return Storage("memory://place")


def test_what_is_put_can_be_got_listed_and_removed(storage):
    assert storage.list("a") == []
    assert not storage.exists("a/x")
    storage.put("a/y", b"2")
    storage.put("a/x", b"1")
    storage.put("a/b/z", b"3")
    storage.put("a/x", b"changed")
    assert storage.list("a") == ["x", "y"]
    assert (storage.get("a/x"), storage.get("a/b/z")) == (b"changed", b"3")
    assert storage.exists("a/x")
    storage.remove("a/x")
    storage.remove("a/x")  # gone already
    assert storage.list("a") == ["y"]
    with pytest.raises(FileNotFoundError):
        storage.get("a/x")


def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    storage.put("a/x", b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        storage.put("a/x", b"new")
    assert storage.get("a/x") == b"old"
    assert storage.list("a") == ["x"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))

    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.put("x", b"new")
    assert storage.list("") == []


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ConfigError, match="nosuch://place cannot be opened"):
        Storage("nosuch://place")


def test_a_changed_file_is_described_differently(tmp_path):
    path = tmp_path / "x"
    filesystem = fsspec.filesystem("file")
    path.write_bytes(b"1")
    before = describe_file(filesystem, str(path))
    assert describe_file(filesystem, str(path)) == before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert describe_file(filesystem, str(path)) != before
    path.unlink()
    with pytest.raises(FileNotFoundError):
        describe_file(filesystem, str(path))


@pytest.mark.parametrize(
    ("path", "parent", "below"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a/", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
    ],
)
def test_is_below(path, parent, below):
    assert is_below(path, parent) == below


SECRET = "hunter2"


@pytest.mark.parametrize("section", ["input", "output"])
@pytest.mark.parametrize(
    "options",
    [
        "{secret: X}",
        "{key: X}",
        "{Password: X}",
        "{client_kwargs: {aws_secret_access_key: X}}",
        "{aws_session_token: X}",
        "{sas_token: X}",
        "{account_key: X}",
        "{a: [{password: X}]}",
        "{private_key: X}",
        "{headers: {Authorization: X}}",
    ],
)
def test_a_secret_is_refused_without_being_repeated(section, options):
    overrides = (
        "input.path=in",
        "output.path=out",
        f"{section}.storage_options={options.replace('X', SECRET)}",
    )
    with pytest.raises(ConfigError, match="looks like a secret") as caught:
        load_config(CompressConfig, None, overrides)
    assert SECRET not in str(caught.value)
    assert f"{section}.storage_options" in str(caught.value)


@pytest.mark.parametrize(
    "options", ["{endpoint_url: 'http://x'}", "{anon: true}", "{client_kwargs: {region_name: eu}}"]
)
def test_other_options_are_taken(options):
    overrides = ("input.path=in", "output.path=out", f"input.storage_options={options}")
    assert load_config(CompressConfig, None, overrides).input.storage_options


def test_a_wrong_option_names_the_place():
    with pytest.raises(ConfigError, match="memory://x cannot be opened"):
        Storage("memory://x", {"asynchronous_nonsense": object(), "loop": 1, "": 1, "self": 2})
