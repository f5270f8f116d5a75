"""Names and ids from data, and secrets, through the real command: where they may not end up."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos.storage import Storage
from pipelines.outputs import iterate_rows, read_manifest

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED00",
    "AWS_SECRET_ACCESS_KEY": "planted-secret/with+all==",
    "AWS_SESSION_TOKEN": "planted-session-token",
    "HF_TOKEN": "hf_plantedplantedplantedplanted",
}
ESCAPES = (
    "../../x",
    "/etc/moos-was-here",
    "a\x00b",
    "..",
    "",
    "~root",
    "C:\\x",
    "%2e%2e/x",
    "a/../b",
)
NAMES = (
    "a b.jsonl",
    "-rf.jsonl",
    "<img src=x onerror=alert(1)>.jsonl",
    "new\nline.jsonl",
    "quote'\"`$(touch x).jsonl",
    "*?[a].jsonl",
    "überß漢.jsonl",
    "%2e%2e%2fx.jsonl",
    "x" * 240 + ".jsonl",
)


def files_below(path):
    return sorted(os.path.join(root, name) for root, _, names in os.walk(path) for name in names)


def read_rows(output):
    storage = Storage(str(output))
    entries = [entry["data"] for entry in read_manifest(storage)["splits"]]
    return [row for e in entries if e for row in iterate_rows(e["name"], storage.get(e["name"]))]


@pytest.fixture
def local(tiny_checkpoint):
    return ["executor=local", f"checkpoint={tiny_checkpoint}", "pool.cpus_per_replica=1"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_ids_that_are_paths_lead_nowhere(moos, local, tmp_path, suffix):
    place = tmp_path / "in"
    place.mkdir()
    rows = [{"id": id_, "text": f"Text of {id_!r}.", "path": id_} for id_ in ESCAPES]
    if suffix == "jsonl":
        lines = [json.dumps(row) for row in [*rows, {"id": "../../bad", "text": None}]]
        (place / "docs.jsonl").write_text("".join(f"{line}\n" for line in lines))
    else:
        pq.write_table(pa.Table.from_pylist(rows), place / "docs.parquet")
    arguments = (f"input.path={place}", f"output.path={tmp_path}/out", "max_quarantined=1")
    result = moos("compress", *arguments, "input.id_column=id", *local)
    assert result.code == 0, result.err
    assert [row["id"] for row in read_rows(tmp_path / "out")] == list(ESCAPES)
    files = files_below(tmp_path)
    assert {os.path.relpath(name, tmp_path).split(os.sep)[0] for name in files} == {"in", "out"}
    assert not [name for name in files if "bad" in name or "moos-was-here" in name]
    assert not os.path.exists("/etc/moos-was-here")
    for id_ in ESCAPES[1:]:
        assert moos("show", tmp_path / "out", "--id", id_).code == 0
    assert files_below(tmp_path) == files, "nothing is written to show a document"


def test_files_may_be_called_anything(moos, local, tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for name in NAMES:
        (place / name).write_text(json.dumps({"text": f"Words of a file, {len(name)} of name."}))
    result = moos("compress", f"input.path={place}", f"output.path={tmp_path}/out", *local)
    assert result.code == 0, result.err
    assert result.summary["documents"] == len(NAMES)
    for path in files_below(tmp_path / "out"):
        assert os.path.basename(path).isascii()
        assert "<" not in path
        with open(path, "rb") as file:
            assert path.endswith((".parquet", ".arrow")) or file.read().decode("utf-8") is not None
    assert moos("verify", tmp_path / "out").code == 0
    assert moos("compress", f"input.path={place}", f"output.path={tmp_path}/out", *local).code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;.jsonl" in page
    assert "<img" not in page


def test_a_name_that_is_not_utf_8_is_refused_by_name(moos, local, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jsonl")
    with open(path, "w") as file:
        file.write('{"text": "Some words."}')
    result = moos("compress", f"input.path={tmp_path}", f"output.path={tmp_path}/out", *local)
    assert result.code == 2
    assert "input.path: the name of the file 'caf\\udce9.jsonl' is not valid UTF-8" in result.err
    assert not (tmp_path / "out").exists()


def test_secrets_of_the_environment_are_written_nowhere(
    moos, local, tmp_path, docs, monkeypatch, recwarn
):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    shown = [moos("compress", f"input.path={docs}", f"output.path={tmp_path}/out", *local)]
    # What a client says of a call that failed: with all that it was told.
    said = f"403: https://me:pw-planted@host/?X-Amz-Signature=planted0 {' '.join(SECRETS.values())}"

    def fail(*arguments, **options):
        raise OSError(said)

    monkeypatch.setattr("pipelines.compress.prepare_compress", fail)
    failed = moos(
        "compress", f"input.path={docs}", f"output.path={tmp_path}/two", "--verbose", *local
    )
    assert (shown[0].code, failed.code) == (0, 1)
    assert "403: https://***@host/" in failed.err
    assert "Traceback" in failed.err
    for result in (*shown, failed):
        assert not [value for value in SECRETS.values() if value in result.out + result.err]
        assert "planted" not in (result.out + result.err).lower().replace("planted secrets", "")
    for path in files_below(tmp_path / "out"):
        with open(path, "rb") as file:
            assert b"planted" not in file.read().lower(), path


@pytest.mark.parametrize(
    "setting",
    [
        "input.storage_options={secret: planted}",
        "output.storage_options={client_kwargs: {aws_secret_access_key: planted}}",
        "input.path=s3://key:planted@bucket/x.jsonl",
        "checkpoint=https://host/model?sig=planted",
        "hub_token=planted",
    ],
)
def test_a_secret_on_the_command_line_is_refused_by_every_way_in(
    moos, arguments, tmp_path, setting
):
    for extra in ((), ("--print-config",), ("--dry-run",)):
        result = moos("compress", *arguments, setting, *extra)
        assert result.code == 2
        assert "looks like a secret" in result.err
        assert "planted" not in result.out + result.err
    assert not (tmp_path / "out").exists()
