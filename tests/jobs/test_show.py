import gzip
import io
import json
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos.config import load_config
from pipelines.compress import run_compress
from pipelines.config import CompressConfig

TEXT = "The committee met on Tuesday and decided that no further <action> was needed, not even 3."
RECORDS = [
    {"id": "first", "text": "Some words to begin with."},
    {"id": "second", "text": TEXT},
    {"id": "third", "text": "A test of what can be left out without harm to the report."},
    {"id": "bad", "text": None},
    {"id": "fourth", "text": "Prices rose by 3.5 percent before the next report."},
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


@pytest.fixture
def make_output(source, tmp_path, tiny_checkpoint):
    def make(*overrides, name="out"):
        path = tmp_path / name
        base = (f"input.path={source}", f"output.path={path}", f"checkpoint={tiny_checkpoint}")
        rest = ("executor=local", "engine=torch", "max_quarantined=1")
        run_compress(load_config(CompressConfig, None, (*base, *rest, *overrides)))
        return path

    return make


@pytest.fixture(scope="module")
def output(tmp_path_factory, tiny_checkpoint):
    """A run over `RECORDS`; not to be changed."""
    directory = tmp_path_factory.mktemp("run")
    source = directory / "docs.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    base = (f"input.path={source}", f"output.path={directory / 'out'}", "input.id_column=id")
    rest = (f"checkpoint={tiny_checkpoint}", "executor=local", "engine=torch", "max_quarantined=1")
    run_compress(load_config(CompressConfig, None, (*base, *rest)))
    return directory / "out"


@pytest.fixture
def show(moos, tiny_checkpoint):
    def run(*arguments):
        return moos("show", *arguments, f"checkpoint={tiny_checkpoint}", "engine=torch")

    return run


def undone(marked):
    """The text whose marks these are."""
    for mark in ("[-", "-]", "{", "}"):
        marked = marked.replace(mark, "")
    return marked


def test_the_first_documents_of_a_run_are_shown_with_marks(moos, output):
    result = moos("show", output)
    assert (result.code, result.err) == (0, "")
    titles = [line for line in result.out.splitlines() if " tokens kept, rate " in line]
    assert [title.partition(":")[0] for title in titles] == [
        "docs.jsonl, document 0, id first",
        "docs.jsonl, document 1, id second",
        "docs.jsonl, document 2, id third",
    ]
    assert "[-" in result.out
    assert "{3}" in result.out, "a protected word"
    assert undone(TEXT) in undone(result.out)


def test_one_document_is_shown_by_its_id_or_its_position(moos, output):
    by_id = moos("show", output, "--id", "fourth").out
    assert "docs.jsonl, document 3, id fourth" in by_id
    assert moos("show", output, "--position", "3").out == by_id
    assert moos("show", output, "--first", "1").out.startswith("docs.jsonl, document 0,")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--id", "frst"], "no document with id 'frst'; near it: 'first'"),
        (["--id", "bad"], "'bad' is in quarantine: 'text' is null"),
        (["--position", "4"], "holds 4 documents; --position counts from 0, so it is 3 at most"),
        (["--position", "-1"], "--position counts from 0, got -1"),
        (["--first", "0"], "--first must be at least 1, got 0"),
        (["--id", "first", "--position", "0"], "give one of them"),
        (["--rate", "1.5"], "selection.rate: Input should be less than or equal to 1"),
        (["selection.rat=0.5"], "did you mean 'rate'?"),
        (["selection.corpus_rate=0.5"], "takes a whole corpus"),
        (["--compare", "1.5"], "a rate in (0, 1] or a checkpoint, got 1.5"),
        (["--compare", "nowhere/at/all"], "nowhere/at/all"),
        (["--chars", "0"], "--chars must be at least 1"),
        (["--html", "no/such/page.html"], "there is no directory no/such"),
        (["other"], "'other' is no key=value"),
    ],
)
def test_what_cannot_be_shown_of_a_run_is_exit_code_2(moos, output, arguments, told):
    result = moos("show", output, *arguments)
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_only_the_source_is_required(moos):
    result = moos("show")
    assert result.code == 2
    assert "the following arguments are required: SOURCE\n" in result.err


def test_an_id_needs_a_column_of_ids(moos, make_output, source):
    source.write_text('{"text": "a word"}\n')
    output = make_output()
    assert "--id needs a run made with input.id_column" in moos("show", output, "--id", "a").err


def test_a_run_is_shown_at_another_rate(moos, make_output):
    """Scored afresh, or selected from the scores that the output holds: it is the same."""
    lean, whole = (
        make_output("output.annotations=none"),
        make_output("output.annotations=all", name="all"),
    )
    at_rate = [moos("show", path, "--rate", "0.2", "--id", "third").out for path in (lean, whole)]
    assert "(rate 0.2" in at_rate[0]
    assert at_rate[0].splitlines()[-2] == at_rate[1].splitlines()[-2]
    assert at_rate[0].count("[-") > 0
    again = make_output("selection.rate=0.2", name="again")
    assert moos("show", again, "--id", "third").out.splitlines()[1] == at_rate[1].splitlines()[1]


def test_a_budget_takes_the_place_of_the_runs(moos, make_output):
    output = make_output("selection.target_tokens=5")
    assert "(rate 0.3" in moos("show", output, "--rate", "0.3").out
    assert "(target_tokens 5" in moos("show", output).out


def test_two_rates_are_shown_as_their_differences(moos, output):
    result = moos("show", output, "--id", "third", "--compare", "0.9")
    assert result.code == 0
    assert "1. docs.jsonl, document 2, id third" in result.out
    assert "(rate 0.9)" in result.out
    assert "[2+" in result.out
    assert "[1+" not in result.out, "a higher rate keeps a superset"


def test_two_checkpoints_are_shown_as_their_differences(show, source, make_checkpoint):
    other = make_checkpoint("xlm-r")
    result = show(source, "--position", "1", "--compare", other)
    assert result.code == 0, result.err
    assert f"Checkpoint {other}." in result.out


def page_data(path):
    """The data that a page's script reads, and the rest of the page."""
    before, data, behind = re.split(
        r'<script type="application/json" id="moos-data">(.*?)</script>', path.read_text("utf-8")
    )
    return json.loads(data), before + behind


@pytest.mark.parametrize("annotations", ["kept", "none", "all"])
def test_a_page_tells_where_its_scores_come_from(moos, make_output, tmp_path, annotations):
    """With the decision of the output, whatever was scored afresh for the slider."""
    output = make_output(f"output.annotations={annotations}")
    page = tmp_path / "page.html"
    assert moos("show", output, "--html", page).code == 0
    data, rest = page_data(page)
    assert [len(documents) for documents in data] == [1, 1, 1]
    assert "<action>" not in rest
    rows = pq.read_table(output / "data").to_pylist()
    for (document,), row in zip(data, rows, strict=False):
        assert document["canSelect"] is True
        assert (document["text"], document["kept_tokens"]) == (row["text"], row["num_kept_tokens"])
        (note,) = document["notes"] or [""]
        assert note.startswith("Scored afresh with checkpoint") == (annotations != "all")


def test_a_page_compares_two_rates(moos, output, tmp_path):
    page = tmp_path / "page.html"
    arguments = ["--rate", "0.2", "--compare", "0.8", "--id", "second", "--html", page]
    result = moos("show", output, *arguments)
    assert (result.code, result.out) == (0, "")
    assert f"INFO the page is in {page}; open it in a browser\n" in result.err
    assert moos("show", output, *arguments, "--quiet").err == ""
    ((low, high),), _ = page_data(page)
    assert [low["budget"], high["budget"]] == ["rate 0.2", "rate 0.8"]
    assert low["kept"].count("1") < high["kept"].count("1")


def test_a_document_is_found_by_an_id_of_another_type_than_the_others(moos, make_output, source):
    """What does not fit the column of ids stands in `extra_json`."""
    records = [{"id": id_, "text": f"Text number {id_}."} for id_ in ("a", "b", 7, "c", None)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    output = make_output("input.id_column=id")
    result = moos("show", output, "--id", "7")
    assert (result.code, "document 2, id 7" in result.out) == (0, True), result.err
    assert "no document with id 'None'" in moos("show", output, "--id", "None").err
    assert "no document with id 'None'" in moos("show", source, "--id", "None").err


@pytest.mark.parametrize(
    "kind", ["jsonl", "jsonl.gz", "parquet", "parquet.gz", "directory", "ndjson.zst"]
)
def test_an_input_is_compressed_now(show, source, tmp_path, kind):
    data, path = source.read_bytes(), tmp_path / f"input.{kind}"
    if kind == "directory":
        (tmp_path / "dir" / "b").mkdir(parents=True)
        path = tmp_path / "dir"
        (path / "a.jsonl").write_bytes(b"")
        (path / "b" / "c.jsonl").write_bytes(data)
    elif kind.startswith("parquet"):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(RECORDS), sink)
        path.write_bytes(gzip.compress(sink.getvalue()) if kind.endswith("gz") else sink.getvalue())
    else:
        pack = {"jsonl": bytes, "jsonl.gz": gzip.compress}.get(
            kind, lambda data: pa.compress(data, codec="zstd", asbytes=True)
        )
        path.write_bytes(pack(data))
    result = show(path, "--rate", "0.4", "--id", "fourth")
    assert result.code == 0, result.err
    assert "document 3, id fourth" in result.out, "as it would be numbered in an output"
    assert "(rate 0.4" in result.out
    assert show(path, "--rate", "0.4", "--position", "3").out == result.out
    assert "bad" in show(path, "--id", "bad").err
    assert "so it is 3 at most, got 9" in show(path, "--position", "9").err
    told = show(path, "input.text_column=body").err
    assert "'body'" in told, "what is not there is told, compressed or not"


def test_what_is_shown_of_an_input_is_what_a_run_keeps(moos, show, source, output):
    for position in range(4):
        kept = moos("show", output, "--position", position).out
        assert show(source, "--position", position).out == kept


@pytest.mark.parametrize("through", ["file", "stdin"])
def test_a_text_is_compressed_now(show, tmp_path, monkeypatch, through):
    path = tmp_path / "notes.txt"
    path.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    result = show(path if through == "file" else "-", "--rate", "0.3", "selection.protect=[]")
    assert result.code == 0, result.err
    assert undone(TEXT) in undone(result.out)
    assert "{" not in result.out, "nothing is protected"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("image.png", b"\x89PNG\r\n\x1a\n\0\0", "is no text: byte 0x00 at 8"),
        ("old.txt", "na\xefve".encode("latin-1"), "is no text: byte 0xef at 2"),
        ("empty.jsonl", b"", "holds no document"),
        ("no.jsonl", b'{"id": 1, "body": "x"}\n', "no key 'text' (input.text_column)"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:30], "is damaged"),
        ("no.parquet", b"none", "no.parquet is damaged"),
    ],
)
def test_a_file_that_is_neither_text_nor_documents_is_an_error(show, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    result = show(tmp_path / name, "--position", "0")
    assert result.code in (1, 2)
    assert told in result.err


def test_a_data_file_of_a_run_is_told_from_an_input(show, output):
    (path,) = (output / "data").iterdir()
    assert "give the run's output.path" in show(path).err


def test_a_place_without_anything_is_exit_code_2(moos, tmp_path):
    result = moos("show", tmp_path)
    assert (result.code, "names no file" in result.err) == (2, True)
    result = moos("show", tmp_path / "nowhere")
    assert (result.code, "names no file" in result.err) == (2, True)


def test_a_run_that_did_not_finish_is_exit_code_2(moos, make_output):
    output = make_output()
    (output / "_SUCCESS").unlink()
    result = moos("show", output)
    assert (result.code, "holds no complete run" in result.err) == (2, True)


def test_a_labelled_output_is_shown_by_its_labels(moos, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pair = {"id": "a", "text": "The committee met on Tuesday.", "compressed": "committee Tuesday"}
    pairs.write_text(json.dumps(pair) + "\n")
    output = tmp_path / "labels"
    arguments = ["configs/label.pairs.yaml", f"input.path={pairs}", f"output.path={output}"]
    result = moos("label", *arguments, "executor=local", "input.text_column=text")
    if result.code == 2:
        pytest.fail(result.err)
    shown = moos("show", output)
    assert shown.code == 0, shown.err
    assert "words kept" in shown.out
    assert "committee" in shown.out
    assert "holds labels" in moos("show", output, "--rate", "0.5").err


def test_help_needs_no_torch():
    script = (
        "import sys; from jobs.show import build_parser; build_parser().format_help(); "
        "print(*sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
