"""Checks an output against its own promises, without a model.

For every file that the manifest names: its hash and row count. For every row of a compressed
corpus: spans sorted, disjoint and in range, `render` equal to `compressed_text`, and counts,
budget, protection and kept words as the run's own tokenizer and settings give them. For every
labelled row: words, labels, split and filters as text, compression and settings give them. Where
the input is still as it was planned: every record exactly once and every column unchanged.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from moos.splits import InputSplit
from moos.storage import Storage
from pipelines.findings import Findings
from pipelines.outputs import iterate_batches, read_manifest
from pipelines.quarantine import read_quarantine
from pipelines.run_state import (
    OBJECT_DIRECTORIES,
    named_objects,
    read_plan,
)
from pipelines.verify_labels import LabelChecker
from pipelines.verify_row import RowChecker
from pipelines.verify_source import SourceChecker

logger = logging.getLogger(__name__)


def verify_output(path: str, options: dict[str, Any] | None = None) -> Findings:
    """Check a complete run's output.

    Raises:
        ConfigError: There is no complete run at `path`.
    """
    output = Storage(path, options)
    manifest = read_manifest(output)
    findings = Findings()
    is_labelled = manifest["signature"].get("job") == "label"
    checker = LabelChecker(manifest) if is_labelled else RowChecker(manifest, output)
    plan = {split.id: split for split in read_plan(output)}
    _check_plan(plan, manifest, findings)
    _check_listing(output, manifest, findings)
    source = SourceChecker(output, manifest["signature"], text_only=is_labelled)
    for entry in manifest["splits"]:
        _check_split(output, entry, checker, source, plan.get(entry["split"]), findings)
    _check_totals(manifest, checker, findings)
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


def _check_totals(
    manifest: Mapping[str, Any], checker: RowChecker | LabelChecker, findings: Findings
) -> None:
    sums = {name: findings.sums.get(name, 0) for name in checker.sums}
    found = {"documents": findings.documents, "quarantined": findings.quarantined, **sums}
    for name, value in found.items():
        if manifest["totals"][name] != value:
            findings.breach(
                "manifest.json", f"totals.{name} is {manifest['totals'][name]}, files hold {value}"
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
    checker: RowChecker | LabelChecker,
    source: SourceChecker,
    split: InputSplit | None,
    findings: Findings,
) -> None:
    num_rows = 0
    stored: list[pa.RecordBatch | list[bytes]] = []
    if entry["data"] is not None and (data := _read_object(output, entry["data"], findings)):
        name = entry["data"]["name"]
        findings.files += 1
        for rows, form in iterate_batches(name, data, checker.columns):
            for row in rows:
                for problem in checker.check(row):
                    findings.breach(f"{name} row {num_rows}", problem)
                num_rows += 1
                findings.count(checker.count(row))
            stored.append(form)
    if num_rows != entry["documents"]:
        findings.breach(
            entry["split"], f"holds {num_rows} rows, the manifest says {entry['documents']}"
        )
    positions: list[int] = []
    part = entry["quarantine"]
    if part is not None and (data := _read_object(output, part, findings)):
        findings.files += 1
        records = read_quarantine(data)
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
