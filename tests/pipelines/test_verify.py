"""A good output verifies; whatever is changed in it is found, with file, row and promise."""

import hashlib
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moos.errors import ConfigError
from moos.rendering import merge_kept_words, render
from moos.tokens import TextTokenizer
from moos.words import count_tokens, cut_words, map_tokens
from pipelines.run_state import dump_json
from pipelines.verify import verify_output


@pytest.fixture(scope="module")
def good_outputs(tmp_path_factory, tiny_checkpoint):
    """An output of each format, made once; tests tamper with copies."""
    from moos.config import load_config
    from pipelines.compress import run_compress
    from pipelines.config import CompressConfig

    root = tmp_path_factory.mktemp("good")
    texts = [
        "The committee met on Tuesday and paid 3.5 million to nobody at all.",
        "Nothing was decided before the next report, which is late.",
        "A short one.",
        "",
        "It is a test of what can be left out without harm, not of memory.",
    ] * 6
    lines = [json.dumps({"id": i, "text": text}).encode() for i, text in enumerate(texts)]
    lines.insert(3, b"nope")
    (root / "docs.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    for form in ("parquet", "jsonl"):
        overrides = [
            f"input.path={root}/docs.jsonl",
            f"output.path={root}/{form}",
            f"output.format={form}",
            f"checkpoint={tiny_checkpoint}",
            "executor=local",
            "input.split_bytes=1KiB",
            "output.chunks={tokens: 16, overlap: 4}",
            "pool.cpus_per_replica=1",
            "max_quarantined=1",
        ]
        run_compress(load_config(CompressConfig, None, overrides))
    return root


class Output:
    """A copy of an output to tamper with, and its first data file."""

    def __init__(self, path):
        self.path = path
        self.manifest = json.loads((path / "manifest.json").read_bytes())
        self.entry = self.manifest["splits"][0]
        self.data = self.entry["data"]["name"]

    def rows(self):
        data = (self.path / self.data).read_bytes()
        if self.data.endswith(".parquet"):
            return pq.read_table(io.BytesIO(data)).to_pylist()
        text = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
        return [json.loads(line) for line in text.splitlines()]

    def write_rows(self, rows):
        """Other rows in the first data file, its hash recomputed all the way up."""
        if self.data.endswith(".parquet"):
            sink = io.BytesIO()
            schema = pq.read_schema(self.path / self.data)
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, row_group_size=4)
            data = sink.getvalue()
        else:
            text = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
            data = pa.compress(text, "zstd", asbytes=True)
        (self.path / self.data).write_bytes(data)
        self.entry["data"]["sha256"] = hashlib.sha256(data).hexdigest()
        self.entry["data"]["bytes"] = len(data)
        self.seal()

    def change(self, row, **values):
        rows = self.rows()
        rows[row] |= values
        self.write_rows(rows)

    def seal(self):
        data = dump_json(self.manifest)
        (self.path / "manifest.json").write_bytes(data)
        (self.path / "_SUCCESS").write_text(hashlib.sha256(data).hexdigest() + "\n")

    def broken(self):
        findings = verify_output(str(self.path))
        assert findings.num_broken == len(findings.broken)
        return findings.broken

    def breach(self, *parts):
        """The one line that holds all parts."""
        found = self.broken()
        assert any(all(part in line for part in parts) for line in found), found
        return found


@pytest.fixture(params=["parquet", "jsonl"])
def output(request, good_outputs, tmp_path):
    shutil.copytree(good_outputs / request.param, tmp_path / "out")
    return Output(tmp_path / "out")


def test_a_good_output_verifies(output):
    findings = verify_output(str(output.path))
    assert findings.broken == []
    assert (findings.documents, findings.quarantined) == (30, 1)
    assert findings.splits_checked_against_source == len(output.manifest["splits"]) > 1
    assert findings.splits_without_source == 0


def test_rows_written_again_unchanged_still_verify(output):
    output.write_rows(output.rows())
    assert output.broken() == []


def test_a_chunk_that_is_not_of_its_document(output):
    chunks = output.rows()[0]["chunks"]
    chunks[0]["text"] = chunks[0]["text"].upper()
    output.change(0, chunks=chunks)
    output.breach(f"{output.data} row 0", "text of chunk 0 is not render(text, its kept_spans)")


def test_a_chunk_that_is_missing(output):
    output.change(0, chunks=output.rows()[0]["chunks"][1:])
    output.breach(f"{output.data} row 0", "chunks are not those of at most 16 tokens")


def test_an_altered_compressed_text(output):
    output.change(1, compressed_text="made up")
    output.breach(f"{output.data} row 1", "compressed_text is not render(text, kept_spans)")


@pytest.mark.parametrize(
    ("spans", "promise"),
    [
        ([{"start": 0, "end": 10_000}], "kept_spans: span [0, 10000)"),
        ([{"start": 4, "end": 8}, {"start": 0, "end": 3}], "kept_spans: span [0, 3)"),
        ([{"start": 0, "end": 5}, {"start": 4, "end": 9}], "kept_spans: span [4, 9)"),
        ([{"start": 3, "end": 3}], "kept_spans: span [3, 3)"),
        ([{"start": -4, "end": 3}], "kept_spans: span [-4, 3)"),
        ([{"start": 1, "end": 6}], "kept_spans do not begin and end with words"),
    ],
)
def test_an_altered_span(output, spans, promise):
    output.change(0, kept_spans=spans)
    output.breach(f"{output.data} row 0", promise)


@pytest.mark.parametrize(
    ("column", "value", "promise"),
    [
        ("num_kept_tokens", 1, "num_kept_tokens is 1, the kept words hold"),
        ("num_tokens", 1000, "num_tokens is 1000, the tokenizer gives"),
        ("rate", 0.125, "rate is 0.125"),
        ("over_budget", True, "over_budget is True"),
    ],
)
def test_an_altered_count(output, column, value, promise):
    output.change(0, **{column: value})
    output.breach(f"{output.data} row 0", promise)


def test_a_dropped_protected_word(output):
    rows = output.rows()
    assert "3.5" in rows[0]["compressed_text"]
    at = rows[0]["text"].index("3.5")
    spans = []
    for span in rows[0]["kept_spans"]:
        if span["start"] <= at < span["end"]:
            spans += [
                {"start": span["start"], "end": at - 1},
                {"start": at + 4, "end": span["end"]},
            ]
        else:
            spans.append(span)
    output.change(0, kept_spans=[span for span in spans if span["start"] < span["end"]])
    output.breach(f"{output.data} row 0", "protected word '3.5' at", "was dropped")


def test_a_kept_word_that_is_not_listed(output):
    words = output.rows()[0]["kept_words"]
    output.change(0, kept_words=words[1:])
    output.breach(f"{output.data} row 0", "kept_words are not the kept words of the text")


def test_a_score_off_its_grid(output):
    words = output.rows()[0]["kept_words"]
    words[0]["score"] = 0.123
    output.change(0, kept_words=words)
    output.breach(f"{output.data} row 0", "score leaves [0, 1] or its grid")


def test_an_altered_text(output):
    row = output.rows()[2]
    output.change(2, text=row["text"].replace("short", "SHORT"))
    assert output.broken()


def test_an_altered_value_of_another_column(output):
    output.change(1, id=99)
    output.breach(output.entry["split"])


def test_a_removed_data_file(output):
    (output.path / output.data).unlink()
    output.breach(output.data, "missing")


def test_a_flipped_byte(output):
    path = output.path / output.data
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    output.breach(output.data, f"sha256 is not {output.entry['data']['sha256']}")


def test_a_truncated_file(output):
    path = output.path / output.data
    path.write_bytes(path.read_bytes()[:-1])
    output.breach(output.data, "sha256 is not")


@pytest.mark.parametrize("directory", ["data", "quarantine"])
def test_an_extra_file(output, directory):
    (output.path / directory / "extra.parquet").write_bytes(b"hello")
    output.breach(f"{directory}/extra.parquet", "the manifest does not name this file")


@pytest.mark.parametrize("honest", [False, True])
def test_a_dropped_row(output, honest):
    """Even where the manifest was made to agree, the source tells."""
    rows = output.rows()
    gone = rows.pop(1)
    if honest:
        output.entry["documents"] -= 1
        output.manifest["totals"]["documents"] -= 1
        output.manifest["totals"]["tokens"] -= gone["num_tokens"]
        output.manifest["totals"]["kept_tokens"] -= gone["num_kept_tokens"]
    output.write_rows(rows)
    found = output.broken()
    assert any(output.entry["split"] in line for line in found), found
    if not honest:
        output.breach(output.entry["split"], f"holds {len(rows)} rows, the manifest says")
        output.breach("manifest.json", "totals.documents is 30, files hold 29")


@pytest.mark.parametrize("at", [0, -1])
def test_a_doubled_row(output, at):
    rows = output.rows()
    rows.insert(len(rows) if at else 0, rows[at])
    output.entry["documents"] += 1
    output.manifest["totals"]["documents"] += 1
    output.manifest["totals"]["tokens"] += rows[at]["num_tokens"]
    output.manifest["totals"]["kept_tokens"] += rows[at]["num_kept_tokens"]
    output.write_rows(rows)
    output.breach(output.entry["split"])


def test_swapped_rows(output):
    rows = output.rows()
    rows[0], rows[1] = rows[1], rows[0]
    output.write_rows(rows)
    output.breach(output.entry["split"])


def test_a_removed_quarantine_record(output):
    (part,) = [e["quarantine"] for e in output.manifest["splits"] if e["quarantine"]]
    (output.path / part["name"]).unlink()
    output.breach(part["name"], "missing")


def test_a_quarantine_record_that_the_manifest_forgot(output):
    (entry,) = [e for e in output.manifest["splits"] if e["quarantine"]]
    (output.path / entry["quarantine"]["name"]).unlink()
    entry["quarantine"], entry["quarantined"] = None, 0
    output.manifest["totals"]["quarantined"] = 0
    output.seal()
    output.breach(entry["split"], "is lost, or quarantined without being there")


def test_a_split_that_the_manifest_forgot(output):
    gone = output.manifest["splits"].pop(1)
    output.seal()
    output.breach("manifest.json", f"planned split {gone['split']} is missing")
    output.breach(gone["data"]["name"], "the manifest does not name this file")


def test_a_split_that_is_listed_twice(output):
    output.manifest["splits"].append(output.manifest["splits"][0])
    output.seal()
    output.breach("manifest.json", "is listed twice or was never planned")


def test_altered_totals(output):
    output.manifest["totals"]["kept_tokens"] += 1
    output.seal()
    output.breach("manifest.json", "totals.kept_tokens is")


@pytest.mark.parametrize("name", ["manifest.json", "_SUCCESS"])
def test_an_output_that_is_not_complete_is_refused(output, name):
    (output.path / name).unlink()
    with pytest.raises(ConfigError, match="no complete run"):
        verify_output(str(output.path))


def test_a_manifest_that_success_does_not_belong_to_is_refused(output):
    path = output.path / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"documents"', b'"documentz"', 1))
    with pytest.raises(ConfigError, match="_SUCCESS does not belong to"):
        verify_output(str(output.path))


def test_a_place_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no complete run"):
        verify_output(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_without_its_source_an_output_is_checked_by_itself(
    compress, write_jsonl, documents, tmp_path, how
):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out")
    if how == "gone":
        source.unlink()
    else:
        write_jsonl("docs.jsonl", documents(7))
    findings = verify_output(str(tmp_path / "out"))
    assert findings.broken == []
    assert (findings.splits_checked_against_source, findings.splits_without_source) == (0, 1)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_value_changed_behind_parquet_input_is_found(compress, write_parquet, tmp_path, form):
    source = write_parquet("docs.parquet", {"id": [1, 2], "text": ["One two.", "Three."]})
    compress(source, tmp_path / "out", f"output.format={form}")
    output = Output(tmp_path / "out")
    output.change(0, id=5)
    output.breach(output.entry["split"])


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_text_that_became_null_is_a_breach_and_no_crash(
    compress, write_jsonl, documents, tmp_path, form
):
    compress(write_jsonl("docs.jsonl", documents(3)), tmp_path / "out", f"output.format={form}")
    output = Output(tmp_path / "out")
    output.change(1, text=None)
    output.breach(f"{output.data} row 1")


def test_a_number_that_begins_like_its_source_is_still_another(compress, write_jsonl, tmp_path):
    source = write_jsonl("docs.jsonl", [{"text": "One two.", "n": 1}])
    compress(source, tmp_path / "out", "output.format=jsonl")
    output = Output(tmp_path / "out")
    output.change(0, n=12)
    output.breach(output.entry["split"])


def test_many_breaches_are_counted_and_some_are_shown(output):
    rows = output.rows()
    output.write_rows([row | {"compressed_text": "x", "num_tokens": -1} for row in rows] * 40)
    findings = verify_output(str(output.path))
    assert findings.num_broken > len(findings.broken) == 100


CORPUS = ("selection.corpus_rate=0.4", "scoring.alpha=1")


def keep_otherwise(output, row, change):
    """Another decision about a row's words, and everything in it that follows from that.

    `change(keep, scores, token_counts)` alters the keep mask; only with `annotations: all` has
    every word a score.
    """
    rows = output.rows()
    text = rows[row]["text"]
    words = cut_words(text)
    tokenizer = TextTokenizer((output.path / "_run/tokenizer.json").read_text())
    (tokens,) = tokenizer.tokenize([text])
    counts = count_tokens(map_tokens(tokens, words), len(words))
    listed = {word["start"]: word for word in rows[row]["kept_words"]}
    entries = [listed.get(start) for start in words.starts.tolist()]
    keep = np.array([e is not None and e.get("kept", True) for e in entries], dtype=np.bool_)
    scores = np.array([e["score"] if e else 0.0 for e in entries], dtype=np.float32)
    before = keep.copy()
    change(keep, scores, counts)
    spans = merge_kept_words(keep, words, len(text))
    kept_words = []
    for index, entry in enumerate(entries):
        if entry is None and keep[index]:
            entry = dict.fromkeys(next(iter(listed.values())), 0.0) | {
                "start": int(words.starts[index]),
                "end": int(words.ends[index]),
                "protected": False,
            }
        if entry is not None and "kept" in entry:
            kept_words.append(entry | {"kept": bool(keep[index])})
        elif keep[index]:
            kept_words.append(entry)
    num_kept = int(counts[keep].sum())
    num_tokens = rows[row]["num_tokens"]
    output.manifest["totals"]["kept_tokens"] += num_kept - int(counts[before].sum())
    output.change(
        row,
        kept_spans=[{"start": start, "end": end} for start, end in spans],
        compressed_text=render(text, spans),
        num_kept_tokens=num_kept,
        rate=num_kept / num_tokens,
        kept_words=kept_words,
    )


def swap_best_and_worst(keep, scores, counts):
    """Keep a word that was dropped for one that was kept: as many tokens, other words."""
    of_one = counts == 1
    worst = min(np.flatnonzero(~keep & of_one), key=lambda i: scores[i])
    best = max(np.flatnonzero(keep & of_one), key=lambda i: scores[i])
    keep[worst], keep[best] = True, False


def add_one_word(keep, scores, counts):
    """Keep the worst of the dropped words too."""
    worst = min(np.flatnonzero(~keep & (counts > 0)), key=lambda i: scores[i])
    keep[worst] = True


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("annotations", ["kept", "all", "none"])
def test_a_corpus_verifies_by_its_threshold(
    compress, write_jsonl, documents, tmp_path, form, annotations
):
    source = write_jsonl("docs.jsonl", [*documents(40), b"nope", {"text": ""}])
    overrides = (f"output.format={form}", f"output.annotations={annotations}", "max_quarantined=1")
    compress(source, tmp_path / "out", *CORPUS, *overrides, "input.split_bytes=1KiB")
    findings = verify_output(str(tmp_path / "out"))
    assert (findings.broken, findings.documents, findings.quarantined) == ([], 41, 1)
    assert findings.splits_checked_against_source > 3


@pytest.mark.parametrize("selection", [["selection.rate=0.5"], CORPUS], ids=" ".join)
def test_words_that_others_outscore(compress, write_jsonl, documents, tmp_path, selection):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out", *selection, "output.annotations=all")
    output = Output(tmp_path / "out")
    keep_otherwise(output, 1, lambda *_: None)
    assert output.broken() == []
    keep_otherwise(output, 1, swap_best_and_worst)
    output.breach(f"{output.data} row 1", "the words kept are not those that their scores")


def test_a_word_kept_under_a_corpus_threshold(compress, write_jsonl, documents, tmp_path):
    source = write_jsonl("docs.jsonl", documents(5))
    compress(source, tmp_path / "out", *CORPUS)
    output = Output(tmp_path / "out")
    keep_otherwise(output, 1, lambda *_: None)
    assert output.broken() == []
    keep_otherwise(output, 1, add_one_word)  # it has no score of its own there: 0
    output.breach(f"{output.data} row 1", "a word that scores 0.0000 was kept, under the threshold")


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_splits_of_a_compressed_file_are_compared_with_their_source(
    compress, write_jsonl, documents, tmp_path, extension
):
    source = write_jsonl(f"docs.jsonl.{extension}", documents(40))
    compress(source, tmp_path / "out", "input.split_bytes=1KiB")
    findings = verify_output(str(tmp_path / "out"))
    assert findings.broken == []
    assert findings.splits_checked_against_source > 3
    output = Output(tmp_path / "out")
    output.change(0, id="made up")
    output.breach(output.entry["split"])


def test_ranges_of_rows_are_compared_with_their_source(
    compress, write_parquet, documents, tmp_path
):
    records = documents(60)
    columns = {key: [record[key] for record in records] for key in ("id", "text")}
    source = write_parquet("docs.parquet", columns, row_group_size=60)
    compress(source, tmp_path / "out", "input.split_bytes=1KiB")
    output = Output(tmp_path / "out")
    assert len(output.manifest["splits"]) > 3
    assert output.broken() == []
    output.entry = output.manifest["splits"][2]
    output.data = output.entry["data"]["name"]
    rows = output.rows()
    output.write_rows([rows[1], rows[0], *rows[2:]])
    output.breach(output.entry["split"])
