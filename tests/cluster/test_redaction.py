"""What is taken out of texts before they are written down, and what stays."""

from __future__ import annotations

import json
import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.redaction import is_secret_name, redact, redact_arguments, redacted, secret_fields
from cluster.tracking.values import why
from cluster.work import Fault

SECRET = "pl4nted-S3cret"
NAMES = ["password", "x_token", "db.passwd", "apiKey", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "api-key", "accessToken"]

PLANTED = {
    "an address": f"postgresql://user:{SECRET}@host:5432/db",
    "an address without a user": f"redis://:{SECRET}@host",
    "an address with a token for a user": f"https://{SECRET}@host/x.git",
    "a password with an at sign": f"http://user:a@{SECRET}@host/",
    "an option": f"altformer train --password {SECRET} --lr 3",
    "an option with an equals sign": f"--x-token={SECRET}",
    "a setting": f"--set model.x_token={SECRET} --lr 3",
    "a query": f"GET /x?access_token={SECRET}&page=1",
    "a header": f"Authorization: Basic {SECRET}==",
    "a bearer": f"curl -H 'authorization: Bearer {SECRET}'",
    "a bearer alone": f"sent Bearer {SECRET} to it",
    "quotes": f"password='{SECRET} with blanks'",
    "a repr": repr({"lr": 1, "api_key": SECRET}),
    "json": json.dumps({"lr": 1, "token": SECRET}),
    "json within json": json.dumps(json.dumps({"token": SECRET, "x": 1})),
    "yaml": f"user: me\npassword: {SECRET}\nlr: 3",
    "a shell": f"export MLFLOW_TRACKING_PASSWORD={SECRET}",
    "a traceback": f'  File "x.py", line 3, in f\n    login(token="{SECRET}")\nValueError: secret_key = {SECRET}',
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_secret_goes(case: str) -> None:
    shown = redact(PLANTED[case], {})
    assert SECRET not in shown
    assert "***" in shown
    assert redact(shown, {}) == shown


BY_FORM = {
    "AWS": "AKIA" + "ABCDEFGHIJ234567",
    "GitHub": "ghp_" + "a1B2" * 9,
    "Hugging Face": "hf_" + "a1B2" * 9,
    "Slack": "xoxb-" + "1234567890-abcdef",
    "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "c2lnbmF0dXJl",
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
    "half a private key": "-----BEGIN " + "PRIVATE KEY-----\nMIIE\nabc=",
}


@pytest.mark.parametrize("case", BY_FORM)
def test_a_key_goes_by_its_form_alone(case: str) -> None:
    assert redact(f"it said {BY_FORM[case]}", {}) == "it said ***"


ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": "pass of MLflow",
    "RAY_AUTH_TOKEN": "0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "aws/key+of=mine",
    "MLFLOW_BACKEND": "postgresql://user:database-pass@host/db",
}


@pytest.mark.parametrize(
    "value", ["pass of MLflow", "0123456789abcdef", "aws/key+of=mine", "aws%2Fkey%2Bof%3Dmine", "database-pass"]
)
def test_values_of_the_environment_go_wherever_they_stand(value: str) -> None:
    assert redact(f"<<{value}>>", ENVIRONMENT) == "<<***>>"


def test_variables_that_hold_no_secret_and_short_values_stay() -> None:
    plain = {
        "RAY_AUTH_TOKEN_PATH": "/home/me/token",
        "TOKENIZERS_PARALLELISM": "false",
        "X_TOKEN": "1",
        "HOME": "/home",
        "PWD": "/home/me/runs",
        "OLDPWD": "/home/me/data",
    }
    text = "/home/me/token false 1 /home /home/me/runs/cells /home/me/data"
    assert redact(text, plain) == text


@pytest.mark.parametrize(
    "text",
    [
        "altformer ablate depth --seeds 3 --set dropout=0.2 --set model.patch_len=3",
        "patch of 3 tokens, tokens=12, 4 tokens: a, b",
        "KeyError: 'key' key=3 keys: 1",
        "sqlite:////home/me@work/runs/mlflow.db and http://host:5000/#/experiments/1",
        "mail me@example.org about the password of admin",
        "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/home/me/.ray/auth_token",
        "monkey=1 turnkey: 2 bypass=3",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text, {}) == text


words = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\",;&\\"), min_size=8)


@given(st.text(), st.sampled_from(NAMES), words, st.sampled_from(["=", ": ", " = ", "=>"]), st.text())
def test_nothing_around_it_keeps_a_named_secret(before: str, name: str, secret: str, sign: str, after: str) -> None:
    shown = redact(f"{before} {name}{sign}{secret} {after}", {})
    assert f"{name}{sign}{secret}" not in shown or secret.startswith("***")


@given(st.text())
def test_once_is_as_good_as_twice(text: str) -> None:
    once = redact(text, ENVIRONMENT)
    assert redact(once, ENVIRONMENT) == once


@given(st.text(min_size=6), st.text())
def test_a_value_of_the_environment_is_found_in_any_text(secret: str, around: str) -> None:
    assert secret in "***" or secret not in redact(around + secret + around, {"MY_SECRET": secret})


@pytest.mark.parametrize(
    "text", ["a", "a_", "--", "://", "token ", "'", '\\"', "password=", "http://a@", "-----BEGIN PRIVATE KEY"]
)
def test_long_texts_take_no_time(text: str) -> None:
    began = time.monotonic()
    redact(text * (200_000 // len(text)), {})
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", [*NAMES, "token", "model.options.secret", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokens", "key", "num_tokens", "patch_len", "RAY_AUTH_TOKEN_PATH", "token_dim", ""])
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_arguments_with_blanks_are_one_value() -> None:
    given = [
        "ablate",
        "depth",
        "--set",
        f"x_token={SECRET} {SECRET}",
        "--password",
        f"{SECRET} x",
        "--token",
        "--seeds",
        "3",
    ]
    shown = redact_arguments(given)
    assert shown == ["ablate", "depth", "--set", "x_token=***", "--password", "***", "--token", "--seeds", "3"]
    assert SECRET not in shlex.join(redact_arguments([f"--address=http://u:{SECRET}@head:8265"]))


def test_whatever_is_nested() -> None:
    found = redacted(
        {"tags": {"note": f"x_token={SECRET}", "x_token": SECRET, "lr": 3}, "list": [f"http://u:{SECRET}@h", 1.5]}
    )
    assert found == {"tags": {"note": "x_token=***", "x_token": "***", "lr": 3}, "list": ["http://***@h", 1.5]}


def test_fields_that_hold_a_secret() -> None:
    fields = {
        "model": {"options": {"x_token": SECRET, "token": "mean", "tokens": 12}, "hosts": [f"http://u:{SECRET}@h"]}
    }
    assert secret_fields(fields) == ["model.options.x_token", "model.hosts.0"]


def test_a_fault_never_holds_one() -> None:
    assert Fault("error", f"ValueError: x_token={SECRET}").text == "ValueError: x_token=***"


def test_nor_what_is_said_of_a_server_that_is_away() -> None:
    said = why(RuntimeError(f"API request to http://user:{SECRET}@host:5000/api/2.0/mlflow/runs/search failed"))
    assert said == "RuntimeError: API request to http://***@host:5000/api/2.0/mlflow/runs/search failed"
