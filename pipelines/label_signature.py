"""The labelling job's signature: what tells one run's output from another's."""

import hashlib
from pathlib import Path
from typing import Any

from moos.label_config import EndpointTeacherConfig, LocalTeacherConfig, to_prompt
from moos.teachers.answer_cache import version_of
from pipelines.label_config import LabelConfig
from pipelines.run_state import CONTRACT_VERSION


def sign_label(config: LabelConfig) -> dict[str, Any]:
    """Everything that decides the labels, as dotted keys.

    Where work runs, where a model is served, and how much may fail, is not part of it.
    """
    signature: dict[str, Any] = {"contract_version": CONTRACT_VERSION, "job": "label"}
    left_out = {"storage_options", "retries", "dataset", "path"}
    if config.input.partitioning == "auto":  # as it was before there was such a key
        left_out.add("partitioning")
    parts = {
        "input": config.input.model_dump(mode="json", exclude=left_out),
        "filters": config.filters.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
        "teacher": _sign_teacher(config),
    }
    for part, values in parts.items():
        signature.update({f"{part}.{name}": value for name, value in values.items()})
    return {**signature, "input.path": list(config.input.paths)}


def _sign_teacher(config: LabelConfig) -> dict[str, Any]:
    teacher = config.teacher
    if isinstance(teacher, EndpointTeacherConfig):
        fields = {
            "kind",
            "model",
            "temperature",
            "max_tokens",
            "max_words",
            "extra_body",
            "aligner",
        }
        prompt = version_of(to_prompt(teacher.prompt))
        return {**teacher.model_dump(mode="json", include=fields), "prompt": prompt}
    if isinstance(teacher, LocalTeacherConfig):
        values = teacher.model_dump(mode="json", exclude={"path"})
        prompt = version_of(to_prompt(teacher.prompt))
        return {**values, "prompt": prompt, **_identify_model(teacher)}
    return teacher.model_dump(mode="json")


def _identify_model(teacher: LocalTeacherConfig) -> dict[str, str]:
    """The hub id, or a hash of a directory's small files and the sizes of its large ones.

    Weights of gigabytes are not read only to be told from others: their size, with the config and
    the tokenizer, tells them in practice.
    """
    directory = Path(teacher.path)
    if not directory.is_dir():
        return {"path": teacher.path}
    digest = hashlib.sha256()
    for path in sorted(item for item in directory.iterdir() if item.is_file()):
        content = path.read_bytes() if path.suffix == ".json" else b""
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + content)
    return {"model_sha256": digest.hexdigest()}
