"""How a labelling run ended: its totals, its summary, and what it warns of."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from moos.alignment import PairBounds
from moos.labelled_rows import LabelSums
from pipelines.label_config import LabelConfig
from pipelines.prepared_run import PreparedRun
from pipelines.reasons import add_kinds
from pipelines.summary import EXIT_COMPLETE, judge, warn_about_ids

logger = logging.getLogger(__name__)


def sum_labels(done: Mapping[str, Mapping[str, Any]], bounds: PairBounds | None) -> dict[str, Any]:
    """What the manifest says of all splits together, from their done records."""
    sums = LabelSums()
    counts = {"documents": 0, "quarantined": 0, "damaged_files": 0, "input_bytes": 0}
    for record in done.values():
        sums.add(LabelSums(**record["sums"]))
        counts = {name: value + record["counts"][name] for name, value in counts.items()}
    names = ("chars", "words", "labelled_words", "kept_words", "passed")
    return {
        "totals": {**counts, **{name: sums.counts.get(name, 0) for name in names}},
        "quarantined_by_reason": add_kinds(
            record.get("quarantined_by_reason", {}) for record in done.values()
        ),
        "domains": sums.domains,
        "histograms": sums.histograms,
        "bounds": None if bounds is None else asdict(bounds),
    }


def summarise_labels(
    config: LabelConfig,
    run: PreparedRun,
    manifest: Mapping[str, Any],
    worked: Mapping[str, Mapping[str, Any]],
    num_labelled: int,
    began: float,
) -> dict[str, Any]:
    """What the job prints, its exit code in it; warnings are logged."""
    totals = manifest["totals"]
    exit_code = judge(config, run.state.output, manifest)
    if totals["documents"] and totals["passed"] < totals["documents"] / 2:
        logger.warning(
            "only %d of %d documents pass the filters (%s); see %s/report.html",
            totals["passed"],
            totals["documents"],
            json.dumps(manifest["bounds"]),
            config.output.path,
        )
    if (ids := manifest.get("ids")) is not None:
        warn_about_ids(config.input.id_column, ids, totals["documents"])
    if ids is not None and ids["repeated_ids"]:
        logger.warning("`moos train` refuses labels of which two have one id")
    seconds = time.monotonic() - began
    words = sum(record["counts"]["words"] for record in worked.values())
    return {
        "status": "complete" if exit_code == EXIT_COMPLETE else "quarantined",
        "exit_code": exit_code,
        "output": config.output.path,
        **totals,
        "repeated_ids": 0 if ids is None else ids["repeated_ids"],
        "quarantined_by_reason": manifest["quarantined_by_reason"],
        "keep_rate": round(totals["kept_words"] / max(1, totals["labelled_words"]), 6),
        "splits": len(manifest["splits"]),
        "splits_resumed": len(run.done),
        "documents_labelled": num_labelled,
        "seconds": round(seconds, 1),
        "words_per_s": round(words / max(seconds, 1e-9)),
    }
