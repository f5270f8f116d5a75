"""The config loader: whatever stands in a file and on the command line, a config or `ConfigError`.

A case: a byte chooses the job, one the number of overrides; the rest is overrides and then the
file, parted by NUL. A config that loads is printed, and what is printed loads to the same. Secrets
are planted under names of secrets, and looked for in whatever comes out.
"""

import atexit
import contextlib
import functools
import io
import os
import re
import tempfile
from pathlib import Path

from pydantic import BaseModel

from jobs.command import print_config
from moos.config import load_config
from moos.errors import ConfigError
from moos.redaction import find_secret
from pipelines.bench_config import BenchConfig
from pipelines.config import CompressConfig
from pipelines.evaluate_config import EvaluateConfig
from pipelines.label_config import LabelConfig
from pipelines.train_config import TrainConfig
from tests.fuzz.choices import Choices

CONFIGS: tuple[type[BaseModel], ...] = (
    CompressConfig,
    LabelConfig,
    TrainConfig,
    EvaluateConfig,
    BenchConfig,
)
SECRET = "hunter2hunter2"
PLANTED = tuple(
    form.replace("X", SECRET).encode()
    for form in ("token: X\n", "password: X\n", "password=X\0", "secret: X}", "://me:X@host")
)
_PLANTED = re.compile(rb"(?<![\w.\-])(?:" + b"|".join(map(re.escape, PLANTED)) + rb")")
"""Where nobody can say that a secret is none: `ptoken: X` may be anything."""
_SHIPPED = Path(__file__).parent.parent.parent / "configs"
_FILES = {0: "compress.s3", 1: "label.endpoint", 2: "train.local", 3: "evaluate.local", 4: "bench"}
_PARTS = (
    "input: {path: a.jsonl, storage_options: {endpoint_url: 'http://x'}}\noutput: {path: out}\n",
    "input: {path: [a, b]}\noutput: {path: o}\nselection: {rate: 3e-1, protect_words: [x]}",
    f"input: {{path: a, storage_options: {{x: {{secret: {SECRET}}}}}}}\noutput: {{path: o}}",
    f"input: {{path: 's3://me:{SECRET}@host/b'}}\noutput: {{path: o}}",
    f"a: &a [1, 2]\nb: [*a, *a]\npassword: {SECRET}\nc: !!timestamp x\nd: !!int ''\n",
    "pool: {replicas: {min: 1, max: 3}, labels: {a: b}}\nmax_quarantined: .nan\nengine: 12:30\n",
    "checkpoint: |\n  text\nselection: !!python/object:os.system {}\n? [a, b]\n: c\n",
)
SEEDS = tuple(
    bytes([job, 1]) + b"output.path=x\x00" + (_SHIPPED / f"{name}.yaml").read_bytes()
    for job, name in _FILES.items()
) + tuple(bytes([0, 2]) + f"input.path=a\x00output.path=o\x00{part}".encode() for part in _PARTS)
_WORDS = """input: output: path: storage_options: selection. rate: pool. replicas: teacher: reader:
methods: tasks: training: input.path= kind:endpoint &a *a <<:*a !!int !!float !!timestamp !!bool
!!set !!binary !!omap !!pairs !!str !!null !!map !!seq !!python/name:os --- ? .nan .inf 1:1 0x 0b
1e400 2001-01-01 null yes ~ { } [ ] - ="""
DICTIONARY = (*(f"{word} ".encode() for word in _WORDS.split()), b"\x00", b": ", *PLANTED)


def check(data: bytes) -> None:
    """One case; raises where something other than `ConfigError` comes, or a secret."""
    choices = Choices(data)
    cls, num_overrides = choices.pick(CONFIGS), choices.byte() % 5
    content = choices.rest()
    *overrides, text = content.split(b"\x00", num_overrides)
    path = _file()
    path.write_bytes(text)
    words = [part.decode("utf-8", "surrogateescape") for part in overrides]
    try:
        config = load_config(cls, path, words)
    except ConfigError as error:
        message = str(error)
        assert SECRET not in message or SECRET.encode() in _PLANTED.sub(b"", content), message
        assert len(message) < 20_000 + 8 * len(data), "a message is for people"
        return
    printed = _print(config)
    assert not find_secret(config.model_dump(mode="json")), "a config that holds a secret loads"
    path.write_text(printed, encoding="utf-8")
    again = load_config(cls, path)
    assert again == config or _print(again) == _print(config), "what is printed loads to the same"


def _print(config: BaseModel) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        print_config(config)
    return printed.getvalue()


@functools.cache
def _file() -> Path:
    handle, name = tempfile.mkstemp(prefix="moos-fuzz-", suffix=".yaml")
    os.close(handle)
    atexit.register(lambda: Path(name).unlink(missing_ok=True))
    return Path(name)
