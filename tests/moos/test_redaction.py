import json
import logging

import pytest
from pydantic import BaseModel

from moos.config import load_config
from moos.config_errors import SHOWN_CHARS, show_value
from moos.errors import ConfigError
from moos.redaction import RedactingFormatter, find_secret, is_secret_name, is_secret_url, redact
from pipelines.bench_config import BenchConfig
from pipelines.config import CompressConfig
from pipelines.evaluate_config import EvaluateConfig
from pipelines.label_config import LabelConfig
from pipelines.train_config import TrainConfig

SECRET = "hunter2/hunter+2="


def field_names(schema) -> set[str]:
    if isinstance(schema, dict):
        own = set(schema.get("properties", {})) if "properties" in schema else set()
        return own.union(*map(field_names, schema.values()))
    return set().union(*map(field_names, schema)) if isinstance(schema, list) else set()


@pytest.mark.parametrize(
    "cls", [CompressConfig, LabelConfig, TrainConfig, EvaluateConfig, BenchConfig]
)
def test_no_key_of_a_config_is_taken_for_a_secret(cls: type[BaseModel]):
    names = field_names(cls.model_json_schema())
    assert len(names) > 10
    assert [name for name in sorted(names) if is_secret_name(name)] == []


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *((name, True) for name in ("password", "aws_secret_access_key", "X-Amz-Security-Token")),
        *((name, True) for name in ("accessKey", "AWSAccessKeyId", "x-api-key", "sas", "sig")),
        *((name, True) for name in ("connection_string", "hf_token", "Authorization", "auth")),
        *((name, False) for name in ("target_tokens", "tokenizer", "api_key_env", "author", "")),
        *((name, False) for name in ("key", "monkey", "signal", "token_file", "sassy", "id")),
    ],
)
def test_names_of_secrets(name, is_secret):
    assert is_secret_name(name) == is_secret


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        ("https://me:pw@host/x", True),
        ("s3://key:secret@bucket/x", True),
        ("https://host/x?X-Amz-Expires=1&X-Amz-Signature=ab", True),
        ("https://account.blob.core.windows.net/c/x?sv=2024&sig=ab%3D", True),
        ("abfs://container@account.dfs.core.windows.net/x", False),
        ("https://host:9000/x?version=3", False),
        ("data/what?.jsonl", False),
        ("a:b@c", False),
    ],
)
def test_urls_that_let_in_whoever_reads_them(url, is_secret):
    assert is_secret_url(url) == is_secret
    assert (find_secret({"input": {"path": ["a", url]}}) == "input.path.1") == is_secret


@pytest.mark.parametrize(
    "override",
    [
        "input.storage_options.client_kwargs.aws_session_token=X",
        "input.storage_options={client_kwargs: {config: [{password: X}]}}",
        "pool.labels={secret: X}",
        "checkpoint=https://me:X@host/model",
        "input.path=[a.jsonl, 's3://me:X@bucket/b.jsonl']",
        "output.path=https://host/out?sig=X",
        "hf_token=X",
        "api_key: X",
        "password={X",
        "input.password.deep=X",
        "output.storage_options={secret: 'X}",
    ],
)
def test_a_secret_in_a_config_is_refused_and_not_repeated(override, tmp_path):
    overrides = ["input.path=a", "output.path=b", override.replace("X", SECRET)]
    with pytest.raises(ConfigError) as caught:
        load_config(CompressConfig, None, overrides)
    assert "hunter2" not in str(caught.value)
    path = tmp_path / "config.yaml"
    path.write_text(f"input: {{path: a}}\npassword: {SECRET}\noops: [")
    with pytest.raises(ConfigError, match="line 3, column 8") as caught:
        load_config(CompressConfig, path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at https://me:hunter2@host/k?sig=hunter2 now", "at https://***@host/k?... now"),
        ("s3://me:hunter2@bucket/key was refused", "s3://***@bucket/key was refused"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("{'aws_secret_key': 'hunter2', 'x': 1}", "{'aws_secret_key': '***', 'x': 1}"),
        ('{"password": "hunter2"}', '{"password": "***"}'),
        ("sig=hunter2&se=1", "sig=***&se=1"),
        ("Authorization: AWS4-HMAC hunter2\nHost: h", "Authorization: ***\nHost: h"),
        ("sent Bearer hunter2hunter2", "sent Bearer ***"),
        ("id AKIAABCDEFGHIJKLMNOP.", "id ***."),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----!", "***!"),
        ("3 tokens; target_tokens=5; odd token: x", "3 tokens; target_tokens=5; odd token: x"),
        ("http://host:90/a/@b and host:90@", "http://host:90/a/@b and host:90@"),
    ],
)
def test_what_is_redacted(text, expected):
    assert redact(text) == expected
    assert redact(expected) == expected


def test_values_of_the_environment_are_redacted(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("READER_KEY", "hunter3hunter3")
    monkeypatch.setenv("EDITOR", "what-edits")
    told = f"{SECRET} hunter2%2Fhunter%2B2%3D {json.dumps(['hunter3hunter3'])} what-edits"
    assert redact(told) == '*** *** ["***"] what-edits'


def test_the_working_directory_is_no_secret(monkeypatch):
    monkeypatch.setenv("PWD", "/srv/corpora")
    monkeypatch.setenv("OLDPWD", "/srv/models")
    monkeypatch.setenv("MYSQL_PWD", "hunter3hunter3")
    told = "/srv/corpora/docs.jsonl /srv/models/default hunter3hunter3"
    assert redact(told) == "/srv/corpora/docs.jsonl /srv/models/default ***"


def test_a_value_is_cut_for_a_message_behind_what_is_redacted(monkeypatch):
    monkeypatch.setenv("READER_KEY", "hunter3hunter3")
    shown = show_value("x" * (SHOWN_CHARS - 8) + "hunter3hunter3" + "y" * 300)
    assert shown == "'" + "x" * (SHOWN_CHARS - 8) + "***yyyy..."
    assert len(show_value("z" * 100_000)) == SHOWN_CHARS + 3


def test_a_log_holds_no_secret_in_message_arguments_or_traceback():
    try:
        try:
            raise OSError("https://me:hunter2@host/")
        except OSError as error:
            raise ValueError("password=hunter2") from error
    except ValueError as error:
        record = logging.LogRecord("x", 40, "f", 1, "at %s", ("x?token=hunter2",), None)
        record.exc_info = (type(error), error, error.__traceback__)
    text = RedactingFormatter("%(levelname)s %(message)s").format(record)
    assert text.startswith("ERROR at x?token=***\nTraceback")
    assert "hunter2" not in text
    assert "ValueError: password=***" in text
