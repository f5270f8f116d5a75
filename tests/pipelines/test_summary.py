"""What a run says of its texts at its end: shares that its checkpoint may not be made for."""

import logging
from dataclasses import asdict

import pytest

from moos.config import load_config
from moos.storage import Storage
from pipelines.config import CompressConfig
from pipelines.counts import SplitCounts
from pipelines.outputs import read_manifest
from pipelines.summary import summarise

MULTILINGUAL = (
    "give checkpoint= of a multilingual model, such as LLMLingua-2's "
    "microsoft/llmlingua-2-xlm-roberta-large-meetingbank, or of one of your own"
)


@pytest.fixture
def warnings_of(tmp_path, caplog):
    """`warnings_of(counts, *overrides)`: what a run with these counts warns of."""

    def run(counts, *overrides):
        paths = ("input.path=in", f"output.path={tmp_path / 'out'}")
        config = load_config(CompressConfig, None, [*paths, *overrides])
        manifest = {
            "totals": {**asdict(counts), "rate": 0.5},
            "splits": [],
            "quarantined_by_reason": {},
        }
        storage = Storage(str(tmp_path / "out"))
        with caplog.at_level(logging.WARNING, logger="pipelines"):
            summarise(
                config,
                storage,
                manifest,
                worked=(),
                splits_resumed=1,
                documents_scored=0,
                seconds=1.0,
            )
        return caplog.messages

    return run


COUNTS = SplitCounts(
    documents=9,
    chars=1000,
    tokens=200,
    encoder_tokens=200,
    unknown_tokens=5,
    letters=500,
    non_latin_letters=101,
)


def test_both_shares_are_warned_of_with_the_key_the_checkpoint_and_what_to_do(warnings_of):
    assert warnings_of(COUNTS) == [
        "2.5 % of tokens are unknown to the vocabulary of checkpoint=default, over "
        f"warn.unknown_share=0.02: it decides about them blindly; {MULTILINGUAL}",
        "20.2 % of letters are of non-Latin scripts, over warn.non_latin_share=0.2, and "
        "checkpoint=default, which is English and uncased, decides about them by chance; "
        f"{MULTILINGUAL}",
    ]


def test_of_a_checkpoint_of_ones_own_it_is_not_said_what_it_knows(warnings_of):
    _, told = warnings_of(COUNTS, "checkpoint=out/train/checkpoint")
    assert (
        "checkpoint=out/train/checkpoint, unless it was trained on such text, decides about them "
        "by chance"
    ) in told


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (("warn.unknown_share=0.025", "warn.non_latin_share=0.202"), 0),
        (("warn.unknown_share=1", "warn.non_latin_share=1"), 0),
        (("warn.unknown_share=0.024", "warn.non_latin_share=0.201"), 2),
    ],
    ids=["reached", "never", "exceeded"],
)
def test_a_share_is_warned_of_above_its_limit(warnings_of, overrides, warned):
    assert len(warnings_of(COUNTS, *overrides)) == warned


def test_a_run_without_a_letter_or_a_token_has_no_share(warnings_of):
    counts = SplitCounts(documents=1)
    assert warnings_of(counts, "warn.unknown_share=0", "warn.non_latin_share=0") == []


def test_a_run_over_no_record_says_so(warnings_of):
    assert warnings_of(SplitCounts()) == ["input.path='in' holds no record; the output is empty"]


def test_a_run_over_no_record_missed_no_rate(compress, tmp_path, caplog):
    (tmp_path / "zero.jsonl").write_bytes(b"")
    overrides = ("selection.corpus_rate=0.5", "scoring.alpha=1")
    compress(tmp_path / "zero.jsonl", tmp_path / "out", *overrides)
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [
        f"input.path={str(tmp_path / 'zero.jsonl')!r} holds no record; the output is empty"
    ]


def test_digits_and_spaces_do_not_hide_the_script_of_a_text(
    compress, write_jsonl, tmp_path, caplog
):
    texts = ["12 34 56 78 90 12 34 56 78 90: да", "1 2 3 4 5 6 7 8 9 ½ one"]
    source, output = write_jsonl("docs.jsonl", [{"text": t} for t in texts]), tmp_path / "out"
    compress(source, output, "warn.unknown_share=1")
    totals = read_manifest(Storage(str(output)))["totals"]
    assert (totals["letters"], totals["non_latin_letters"]) == (5, 2)
    assert totals["non_latin_letters"] < 0.05 * totals["chars"]
    assert "40.0 % of letters are of non-Latin scripts" in caplog.text
    page = (output / "report.html").read_text(encoding="utf-8")
    assert '<div class="card">non-Latin letters<b>40.0%</b></div>' in page
    share = totals["unknown_tokens"] / totals["encoder_tokens"]
    assert f'<div class="card">unknown tokens<b>{share:.1%}</b></div>' in page


def test_one_pass_and_the_two_of_a_corpus_rate_count_the_same_letters(
    compress, write_jsonl, documents, tmp_path
):
    records = [*documents(6), {"id": "x", "text": "да, это так: 7 слов."}]
    source = write_jsonl("docs.jsonl", records)
    totals = []
    for place, overrides in enumerate([(), ("selection.corpus_rate=0.5", "scoring.alpha=1")]):
        output = tmp_path / f"out-{place}"
        compress(source, output, *overrides)
        found = read_manifest(Storage(str(output)))["totals"]
        totals.append((found["letters"], found["non_latin_letters"]))
    assert totals[0] == totals[1]
    assert totals[0][0] == sum(c.isalpha() for r in records for c in r["text"])
    assert totals[0][1] == 12
