import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from moos.checkpoint import read_checkpoint
from moos.errors import ModelError
from moos.evaluation.methods.selective_context import SurprisalScorer
from moos.evaluation.readers.local import LocalReader
from moos.model import load_model
from moos.pretrained import load_causal_model
from moos.teachers.extractive import ExtractiveTeacher
from moos.teachers.prompts import Prompt
from moos.training import load_base

CAUSAL = {
    "reader": LocalReader.load,
    "selective-context": SurprisalScorer.load,
    "teacher": lambda path: ExtractiveTeacher.load(path, Prompt("", "Shorten: {text}", ())),
}
CLASSIFIER = {
    "compressor": lambda path: load_model(read_checkpoint(path)),
    "training base": lambda path: load_base(path, 64),
}
LOADERS = CAUSAL | CLASSIFIER


@pytest.fixture
def write_model(teacher_directory, make_checkpoint, tmp_path):
    """`write_model("reader")`: a directory of its own with what that loader takes."""

    def write(name):
        path = tmp_path / "model"
        shutil.copytree(teacher_directory if name in CAUSAL else make_checkpoint("bert"), path)
        return path

    return write


@pytest.fixture
def bring_code(tmp_path):
    """`bring_code(path, is_known=True)`: code beside a model, named wherever it can be."""

    def bring(path, *, is_known):
        (path / "evil.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n")
        kinds = (
            "AutoConfig",
            "AutoModel",
            "AutoModelForCausalLM",
            "AutoModelForTokenClassification",
        )
        config = json.loads((path / "config.json").read_text())
        config["auto_map"] = {kind: f"evil.{kind}" for kind in kinds}
        if not is_known:
            config["model_type"] = "evil"
        (path / "config.json").write_text(json.dumps(config))
        tokenizer = json.loads((path / "tokenizer_config.json").read_text())
        tokenizer["auto_map"] = {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))

    return bring


@pytest.mark.parametrize("name", LOADERS)
def test_code_beside_a_model_that_transformers_knows_is_left_alone(
    name, write_model, bring_code, tmp_path
):
    path = write_model(name)
    bring_code(path, is_known=True)
    LOADERS[name](str(path))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", LOADERS)
def test_a_model_that_is_its_own_code_is_refused(name, write_model, bring_code, tmp_path):
    path = write_model(name)
    bring_code(path, is_known=False)
    with pytest.raises(ModelError, match="brings code of its own") as caught:
        LOADERS[name](str(path))
    assert "trust_remote_code" not in str(caught.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", LOADERS)
def test_pickled_weights_are_refused_by_every_loader(name, write_model, tmp_path):
    path = write_model(name)

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "was-run"), "w")

    weights = load_file(path / "model.safetensors")
    torch.save({**weights, "evil": Evil()}, path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickled weights \(pytorch_model\.bin\)"):
        LOADERS[name](str(path))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", LOADERS)
def test_an_adapter_is_refused_by_every_loader(name, write_model):
    """Whether peft is there or not: with it, transformers would load what the adapter points to."""
    path = write_model(name)
    (path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "somebody/else"})
    )
    with pytest.raises(ModelError, match=r"a PEFT adapter .*; merge it .*merge_and_unload\(\)"):
        LOADERS[name](str(path))


@pytest.mark.parametrize("kind", ["local", "hub"])
def test_an_adapter_without_a_model_is_told_as_one(kind, write_model, monkeypatch):
    """peft's save_pretrained writes no config.json, and a hub id is no directory to look into."""
    path = write_model("reader")
    (path / "adapter_config.json").write_text("{}")
    (path / "config.json").unlink()
    location = str(path)
    if kind == "hub":
        location = "somebody/adapter"
        monkeypatch.setattr(
            "transformers.utils.peft_utils.cached_file",
            lambda name, file, **options: str(path / file),
        )
    with pytest.raises(ModelError, match="a PEFT adapter"):
        load_causal_model(location)
