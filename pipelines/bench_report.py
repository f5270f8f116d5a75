"""The figures of `moos bench compress` as tables for people, and as the one line of its summary."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

REFERENCES = {"llmlingua2": "x llmlingua2", "llmlingua2-tuned": "x tuned", "library": "x library"}
"""Whom the table compares with, by the heading of the column."""

BUSY = 0.5
"""Load average above which something else is at work."""


def summarise_bench(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the command prints: medians by geometry, corpus and contestant."""
    return {
        "status": "incomplete" if result["exit_code"] else "complete",
        "exit_code": result["exit_code"],
        "threads": result["threads"],
        "left_out": sorted(result["left_out"]),
        "geometries": {
            geometry["name"]: {
                corpus["name"]: {
                    name: _summarise_contestant(contestant)
                    for name, contestant in corpus["contestants"].items()
                }
                for corpus in geometry["corpora"]
            }
            for geometry in result["geometries"]
        },
        "output": result["config"]["output"],
        "seconds": result["seconds"],
    }


def _summarise_contestant(contestant: Mapping[str, Any]) -> dict[str, Any]:
    if contestant["error"]:
        return {"error": contestant["error"]}
    ratios = contestant["speed_ratio"].items()
    return {
        "tokens_per_s": contestant["tokens_per_s"]["median"],
        "speed_ratio": {other: ratio["median"] for other, ratio in ratios},
    }


def print_bench(result: Mapping[str, Any], console: Console) -> None:
    """Print all tables: the machine, then for each corpus its contestants and stages."""
    machine = result["machine"]
    versions = machine["versions"]
    shown = ("torch", "transformers", "llmlingua", "openvino", "ray")
    console.print(
        f"{machine['cpu']}, {result['threads']} of {machine['cores']} cores, load "
        f"{machine['load_average']} at the beginning; "
        + ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
    )
    if machine["load_average"] > BUSY:
        console.print(
            "The machine was not idle, so nothing here is to be quoted: a contestant whose `cores "
            "used` is far from the others' was held up.",
            style="red",
        )
    for name, reason in result["left_out"].items():
        console.print(f"{name} left out: {reason}")
    dtype = "bf16" if result["config"]["gpu"] else "fp32"
    for geometry in result["geometries"]:
        for corpus in geometry["corpora"]:
            console.print(_contestant_table(geometry, corpus, dtype))
            for name, contestant in corpus["contestants"].items():
                if contestant["error"]:
                    console.print(f"{name} failed: {contestant['error']}", style="red")
            if corpus["stages"]:
                console.print(_stage_table(corpus))
                for line in _describe_cpu(corpus["stages"], result["threads"]):
                    console.print(line)
            console.print(_describe_ceilings(corpus["ceilings"]))


def _contestant_table(geometry: Mapping[str, Any], corpus: Mapping[str, Any], dtype: str) -> Table:
    contestants = corpus["contestants"]
    table = Table(
        title=f"{geometry['name']}, {corpus['name']}: {corpus['documents']:,} documents, "
        f"{corpus['tokens']:,} tokens",
        caption="median over rounds (least-most); start-up is not in tokens/s",
    )
    table.add_column("contestant", no_wrap=True)
    for column in ("tokens/s", *REFERENCES.values(), f"of {dtype}"):
        table.add_column(column, justify="right")
    for column in ("cores used", "kept", "start s", "peak MB", "written MB"):
        table.add_column(column, justify="right")
    for name, contestant in contestants.items():
        if "tokens_per_s" not in contestant:
            table.add_row(name, "[red]failed[/red]")
            continue
        share = contestant["share_of_ceiling"].get(dtype)
        memory = geometry["peak_memory_mb"].get(name)
        written = contestant["bytes_written"]
        starts = contestant["starts_s"].items()
        table.add_row(
            name,
            f"{contestant['tokens_per_s']['median']:,.0f}",
            *(_show(contestant["speed_ratio"].get(other), ".2f") for other in REFERENCES),
            "" if share is None else f"{share:.0%}",
            _show(contestant["cores_used"], ".1f"),
            _kept(contestant),
            "\n".join(f"{what} {values['median']:.1f}" for what, values in starts),
            "" if memory is None else f"{memory:,.0f}",
            "" if written is None else f"{written / 1e6:.2f}",
        )
    return table


def _kept(contestant: Mapping[str, Any]) -> str:
    failed = contestant["failed_documents"]
    return f"{contestant['kept_rate']:.3f}" + (f", {failed} failed" if failed else "")


def _show(values: Mapping[str, float] | None, form: str) -> str:
    if values is None:
        return ""
    least, most = format(values["min"], form), format(values["max"], form)
    median = format(values["median"], form)
    return median if least == most else f"{median} ({least}-{most})"


def _stage_table(corpus: Mapping[str, Any]) -> Table:
    table = Table(
        title="time by stage, in a turn of its own",
        caption="seconds summed over threads, which overlap in a job; 'in turn': what a job's "
        "workers themselves did, and waited for, one after the other",
    )
    table.add_column("stage")
    columns = list(_stage_columns(corpus["stages"]))
    for name, _ in columns:
        table.add_column(name, justify="right")
    for stage in dict.fromkeys(stage for _, seconds in columns for stage in seconds):
        cells = (
            f"{seconds[stage]:.2f} s {seconds[stage] / (sum(seconds.values()) or 1):>4.0%}"
            if stage in seconds
            else ""
            for _, seconds in columns
        )
        table.add_row(stage, *cells)
    besides = (
        (seconds["score"], sum(seconds.values())) if "score" in seconds else None
        for _, seconds in columns
    )
    cells = ("" if found is None else f"{1 - found[0] / found[1]:.1%}" for found in besides)
    table.add_row("all but score", *cells)
    return table


def _stage_columns(
    stages: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, Mapping[str, float]]]:
    for name, times in stages.items():
        yield name, times["seconds"]
        if times["in_turn_s"] is not None:
            yield f"{name}, in turn", times["in_turn_s"]


def _describe_cpu(stages: Mapping[str, Mapping[str, Any]], threads: int) -> Iterator[str]:
    """CPU seconds of the jobs' processes, beside what the cores could have given."""
    for name, times in stages.items():
        if times["cpu_s"] is not None:
            parts = ", ".join(f"{who} {value:.1f} s" for who, value in times["cpu_s"].items())
            had = times["wall_s"] * threads
            yield f"CPU time of {name}: {parts}; {threads} cores had {had:.1f} s"


def _describe_ceilings(ceilings: Mapping[str, Any]) -> str:
    units = {"_gflop_s": "GFLOP/s", "_gb_s": "GB/s"}
    parts = []
    for key, values in ceilings.items():
        for ending, unit in units.items():
            if key.endswith(ending) and values is not None:
                parts.append(f"{key.removesuffix(ending)} {_show(values, ',.1f')} {unit}")
    return "machine: " + "; ".join(parts)
