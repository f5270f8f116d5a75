"""Checks an output against its own promises, without a model.

For every file that the manifest names: its hash and row count; for every row: spans sorted,
disjoint and in range, `render` equal to `compressed_text`, and counts, budget, protection and
kept words as the run's own tokenizer and settings give them. Where the input is still as it was
planned: every record exactly once and every column unchanged.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from moos.config import SelectionConfig
from moos.errors import DataError
from moos.rendering import merge_kept_words, render
from moos.scores import GRID
from moos.selector import Selector
from moos.splits import InputSplit
from moos.storage import Storage
from moos.tokens import TextTokenizer
from moos.words import Words, count_tokens, cut_words, map_tokens
from pipelines.findings import Findings
from pipelines.outputs import iterate_batches, read_manifest
from pipelines.run_state import (
    BUDGET_TOKENIZER,
    OBJECT_DIRECTORIES,
    TOKENIZER,
    named_objects,
    read_plan,
)
from pipelines.verify_source import SourceChecker

logger = logging.getLogger(__name__)


class RowChecker:
    """Checks one row's promises with the run's own settings."""

    def __init__(self, signature: Mapping[str, Any], output: Storage) -> None:
        """Prepare the selection's expressions and the tokenizers that counted."""
        self._tokenizer = _read_tokenizer(output, TOKENIZER)
        self._text_column = signature["input.text_column"]
        self._annotations = signature["output.annotations"]
        prefix = "selection."
        settings = {k[len(prefix) :]: v for k, v in signature.items() if k.startswith(prefix)}
        reader = None
        if settings.pop("budget_tokenizer") is not None:
            reader = _read_tokenizer(output, BUDGET_TOKENIZER)
        self._selector = Selector(SelectionConfig.model_validate(settings), reader)

    def check(self, row: Mapping[str, Any]) -> Iterator[str]:
        """Every promise that the row breaks."""
        text = row[self._text_column]
        if not isinstance(text, str):
            yield f"{self._text_column} is {type(text).__name__}, not a string"
            return
        spans = [(span["start"], span["end"]) for span in row["kept_spans"]]
        try:
            rendered = render(text, spans)
        except DataError as error:
            yield f"kept_spans: {error}"
            return
        if rendered != row["compressed_text"]:
            yield "compressed_text is not render(text, kept_spans)"
        words = cut_words(text)
        keep = _kept_words(words, spans)
        if merge_kept_words(keep, words, len(text)) != spans:
            yield "kept_spans do not begin and end with words"
        yield from self._check_counts(row, text, rendered, words, keep)
        yield from self._check_annotations(row, words, keep)

    def _check_counts(
        self, row: Mapping[str, Any], text: str, rendered: str, words: Words, keep: Any
    ) -> Iterator[str]:
        num_tokens, num_kept = row["num_tokens"], row["num_kept_tokens"]
        tokens = self._tokenizer.tokenize([text])[0]
        counts = count_tokens(map_tokens(tokens, words), len(words))
        expected = len(tokens)
        expected_kept = int(counts[keep].sum()) if len(words) else expected
        if (reader := self._selector.budget_tokenizer) is not None:
            expected, expected_kept = reader.count(text), reader.count(rendered)
        if num_tokens != expected:
            yield f"num_tokens is {num_tokens}, the tokenizer gives {expected}"
        if num_kept != expected_kept:
            yield f"num_kept_tokens is {num_kept}, the kept words hold {expected_kept}"
        rate = num_kept / num_tokens if num_tokens else 1.0
        if abs(row["rate"] - rate) > 1e-6:
            yield f"rate is {row['rate']}, num_kept_tokens / num_tokens is {rate:.6f}"
        budget = self._selector.budget(num_tokens)
        over = budget is not None and num_kept > budget
        if over != row["over_budget"]:
            yield f"over_budget is {row['over_budget']} with {num_kept} tokens kept of {budget}"
        protected = self._selector.protected(text, words)
        lost = np.flatnonzero(protected & ~keep)
        if len(lost):
            word = text[words.starts[lost[0]] : words.ends[lost[0]]]
            yield f"protected word {word!r} at {words.starts[lost[0]]} was dropped"
        dropped = counts[~keep]
        if self._selector.budget_tokenizer is None and budget is not None and len(dropped):
            unused = budget - num_kept
            if unused >= dropped.max():
                yield f"{unused} tokens of the budget are unused, and any dropped word would fit"
        if over and np.any(keep & ~protected & (counts > 0)):
            yield "over budget, yet a word that is not protected was kept"

    def _check_annotations(self, row: Mapping[str, Any], words: Words, keep: Any) -> Iterator[str]:
        if self._annotations == "none":
            return
        listed = row["kept_words"]
        wanted = np.ones_like(keep) if self._annotations == "all" else keep
        expected = list(
            zip(words.starts[wanted].tolist(), words.ends[wanted].tolist(), strict=True)
        )
        if [(word["start"], word["end"]) for word in listed] != expected:
            yield "kept_words are not the kept words of the text"
        if self._annotations == "all" and [w["kept"] for w in listed] != keep.tolist():
            yield "kept flags differ from kept_spans"
        for name in ("preserve_probability", "outlier_score", "score"):
            values = np.array([word[name] for word in listed], dtype=np.float64)
            if np.any((values < 0) | (values > 1) | (values * GRID != np.rint(values * GRID))):
                yield f"{name} leaves [0, 1] or its grid of 1/{GRID}"


def _read_tokenizer(output: Storage, name: str) -> TextTokenizer:
    return TextTokenizer(output.get(name).decode("utf-8"))


def _kept_words(words: Words, spans: list[tuple[int, int]]) -> Any:
    """True for each word that lies in a span."""
    if not spans:
        return np.zeros(len(words), dtype=np.bool_)
    bounds = np.array(spans)
    index = np.searchsorted(bounds[:, 0], words.starts, side="right") - 1
    return (index >= 0) & (words.ends <= bounds[np.maximum(index, 0), 1])


def verify_output(path: str, options: dict[str, Any] | None = None) -> Findings:
    """Check a complete run's output.

    Raises:
        ConfigError: There is no complete run at `path`.
    """
    output = Storage(path, options)
    manifest = read_manifest(output)
    findings = Findings()
    checker = RowChecker(manifest["signature"], output)
    plan = {split.id: split for split in read_plan(output)}
    _check_plan(plan, manifest, findings)
    _check_listing(output, manifest, findings)
    source = SourceChecker(output, manifest["signature"])
    for entry in manifest["splits"]:
        _check_split(output, entry, checker, source, plan.get(entry["split"]), findings)
    _check_totals(manifest, findings)
    return findings


def _check_plan(
    plan: Mapping[str, InputSplit], manifest: Mapping[str, Any], findings: Findings
) -> None:
    """Every planned split once, and the splits of a file side by side from its start to its end."""
    listed = [entry["split"] for entry in manifest["splits"]]
    for split_id in sorted(set(plan) - set(listed)):
        findings.breach("manifest.json", f"planned split {split_id} is missing")
    for split_id in sorted({s for s in listed if listed.count(s) > 1} | (set(listed) - set(plan))):
        findings.breach("manifest.json", f"split {split_id} is listed twice or was never planned")
    ends: dict[str, int] = {}
    for split in plan.values():
        if split.start != ends.get(split.relative, 0):
            findings.breach(f"_run/plan.parquet {split.id}", "splits overlap or leave a gap")
        ends[split.relative] = split.stop


def _check_listing(output: Storage, manifest: Mapping[str, Any], findings: Findings) -> None:
    counted = {name for entry in manifest["splits"] for name in named_objects(entry)}
    for directory in OBJECT_DIRECTORIES:
        for name in output.list(directory):
            if f"{directory}/{name}" not in counted:
                findings.breach(f"{directory}/{name}", "the manifest does not name this file")


def _check_totals(manifest: Mapping[str, Any], findings: Findings) -> None:
    totals = manifest["totals"]
    for name in ("documents", "quarantined", "tokens", "kept_tokens"):
        if totals[name] != getattr(findings, name):
            findings.breach(
                "manifest.json",
                f"totals.{name} is {totals[name]}, files hold {getattr(findings, name)}",
            )


def _read_object(output: Storage, part: Mapping[str, Any], findings: Findings) -> bytes | None:
    try:
        data = output.get(part["name"])
    except FileNotFoundError:
        findings.breach(part["name"], "the file is missing")
        return None
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        findings.breach(part["name"], f"sha256 is not {part['sha256']}")
        return None
    return data


def _check_split(
    output: Storage,
    entry: Mapping[str, Any],
    checker: RowChecker,
    source: SourceChecker,
    split: InputSplit | None,
    findings: Findings,
) -> None:
    num_rows = 0
    stored: list[pa.RecordBatch | list[bytes]] = []
    if entry["data"] is not None and (data := _read_object(output, entry["data"], findings)):
        name = entry["data"]["name"]
        findings.files += 1
        for rows, form in iterate_batches(name, data):
            for row in rows:
                for problem in checker.check(row):
                    findings.breach(f"{name} row {num_rows}", problem)
                num_rows += 1
                findings.tokens += row["num_tokens"]
                findings.kept_tokens += row["num_kept_tokens"]
            stored.append(form)
    if num_rows != entry["documents"]:
        findings.breach(
            entry["split"], f"holds {num_rows} rows, the manifest says {entry['documents']}"
        )
    positions: list[int] = []
    part = entry["quarantine"]
    if part is not None and (data := _read_object(output, part, findings)):
        findings.files += 1
        records = [json.loads(line) for line in data.splitlines()]
        positions = [record["position"] for record in records]
        is_damaged = any(record["raw_format"] == "file" for record in records)
    else:
        is_damaged = False
    if len(positions) != entry["quarantined"]:
        findings.breach(
            entry["split"],
            f"{len(positions)} quarantined, the manifest says {entry['quarantined']}",
        )
    findings.documents += num_rows
    findings.quarantined += len(positions)
    if split is not None and not is_damaged:
        source.check(split, stored, positions, findings)
