"""Hostile documents from file to verified output, whatever the settings.

What becomes of bad lines and files, each by itself, stands in `tests/data/bad`.
"""

import base64
import json

import pytest

from moos.storage import Storage
from pipelines.outputs import iterate_rows, read_manifest

GOOD = {
    "empty": "",
    "white space": " \t\r\n \u00a0\u3000\u2003 ",
    "one word": "word",
    "long word": "x" * 500_000,
    "long Chinese": "的" * 20_000,
    "only punctuation": "!?.,;:—…()[]{}\u201c\u201d",
    "Chinese": "的一是不了人我在有他。，這是中文沒有空格的文章，真的。",
    "Japanese": "これはペンです。私はニューヨークに住んでいます。",
    "Thai": "ภาษาไทยไม่มีช่องว่าง",
    "Arabic": "السلام عليكم ورحمة الله، كيف حالك؟ 3.5",
    "bidirectional": "שלום \u202eabc\u202c עולם \u2066x\u2069",
    "emoji": "👩🏽‍🚀👨‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿🇩🇪🇫🇷❤️👍🏿 1️⃣",
    "combining marks": "e\u0301\u0323a\u0300\u0301 \u0301 Z" + "\u0351" * 300 + "algo",
    "control characters": "nul\x00 bell\x07 esc\x1b[0m del\x7f \x1c\x1d\x1e\x1f \x85 end",
    "line separators": "line\u2028paragraph\u2029form\x0cvertical\x0bend\r\n\r\n",
    "special tokens": "[CLS] a [SEP] b [PAD] [MASK] <s> c </s> <unk> <|endoftext|> |||EMAIL|||",
    "not characters": "\ufeffbom \ufffd \ufffe \uffff \U0010ffff \ue000",
    "ligatures": "ﬁﬂ ½ ² Ⅷ ㍿ ǅ ﷺ İ ẞ ß ı",
    "many lines": "\n" * 3000 + "end",
    "html": '<script>alert(\'&amp;\')</script> "quoted" \\back\\slash {"json": [1]}',
    "numbers": "1,234.5 -3 15% $2.3 1e-9 0x1F 192.168.0.1 2020-01-02T03:04:05Z",
    "never-ending url": "https://example.org/" + "a/" * 5000,
    "all protected": "not 1 not 2 never 3 " * 50,
}
BAD = [
    b'{"id": "x", "text": "a \\ud83d b"}',
    b'{"id": "x", "text": "caf\xe9"}',
    b'{"id": "\\ud800", "text": null}',
    b'{"id": "x", "text": "a',
]


def run(moos, tmp_path, tiny_checkpoint, lines, *extra):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    result = moos(
        "compress",
        f"input.path={path}",
        f"output.path={tmp_path / 'out'}",
        f"checkpoint={tiny_checkpoint}",
        "executor=local",
        "pool.cpus_per_replica=1",
        "input.id_column=id",
        *extra,
    )
    assert "Traceback" not in result.err
    verified = moos("verify", tmp_path / "out")
    assert verified.code == 0, verified.err
    return result


def read_rows(output):
    storage = Storage(str(output))
    for entry in read_manifest(storage)["splits"]:
        if entry["data"]:
            yield from iterate_rows(entry["data"]["name"], storage.get(entry["data"]["name"]))


def read_quarantine(output):
    for path in sorted((output / "quarantine").iterdir()):
        yield from (json.loads(line) for line in path.read_bytes().split(b"\n") if line)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["output.format=parquet"], marks=pytest.mark.slow),
        ["output.format=jsonl", "selection.rate=0.2"],
        pytest.param(
            ["output.annotations=all", "selection.target_tokens=3"], marks=pytest.mark.slow
        ),
        ["selection.threshold=0.6", "scoring.alpha=1", "selection.protect=[]"],
    ],
    ids=" ".join,
)
def test_every_hostile_document_is_compressed_and_verifies(
    moos, tmp_path, tiny_checkpoint, ascii_only, extra
):
    lines = [
        json.dumps({"id": name, "text": text}, ensure_ascii=ascii_only).encode()
        for name, text in GOOD.items()
    ]
    result = run(moos, tmp_path, tiny_checkpoint, lines, *extra)
    assert (result.code, result.summary["documents"]) == (0, len(GOOD))
    assert {row["id"]: row["text"] for row in read_rows(tmp_path / "out")} == GOOD


@pytest.mark.parametrize("split_bytes", ["1KiB", "8MiB"])
def test_bad_and_good_records_across_small_splits(moos, tmp_path, tiny_checkpoint, split_bytes):
    texts = [text for text in GOOD.values() if len(text) < 2000]
    lines = [json.dumps({"id": str(i), "text": t}).encode() for i, t in enumerate(texts)]
    mixed = [*lines, *BAD, b"", b"  ", *lines]
    overrides = (f"input.split_bytes={split_bytes}", "max_quarantined=1")
    result = run(moos, tmp_path, tiny_checkpoint, mixed, *overrides)
    assert result.code == 0
    assert [row["text"] for row in read_rows(tmp_path / "out")] == texts * 2
    found = list(read_quarantine(tmp_path / "out"))
    assert [base64.b64decode(record["raw"]) for record in found] == BAD
    assert [record["id"] for record in found] == ["x", None, "\ud800", None]


def test_a_document_over_the_limit_is_quarantined_whole(moos, tmp_path, tiny_checkpoint):
    lines = [b'{"id": "long", "text": "%s"}' % (b"word " * 100), b'{"id": "short", "text": "a"}']
    overrides = ("input.max_document_chars=400", "max_quarantined=0.5")
    result = run(moos, tmp_path, tiny_checkpoint, lines, *overrides)
    assert (result.code, result.summary["quarantined"]) == (0, 1)
    (record,) = read_quarantine(tmp_path / "out")
    assert (record["id"], base64.b64decode(record["raw"])) == ("long", lines[0])
    assert "text of 500 characters is longer than input.max_document_chars=400" in record["reason"]


def test_a_catastrophic_pattern_quarantines_its_document_and_no_other(
    moos, tmp_path, tiny_checkpoint
):
    lines = [b'{"id": "slow", "text": "%s!"}' % (b"a" * 5000), b'{"id": "fast", "text": "b c"}']
    overrides = ("selection.protect_patterns=['(a|a)*(a|a)*(a|a)*b$']", "max_quarantined=1")
    result = run(moos, tmp_path, tiny_checkpoint, lines, *overrides)
    assert result.code == 0
    names = [row["id"] for row in read_rows(tmp_path / "out")]
    assert "fast" in names
