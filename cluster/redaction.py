"""Takes passwords, tokens and keys out of text before it is written down.

What is taken out: the values of environment variables whose names say that they are secret, the user's part of an
address (`scheme://user:password@host`), what follows a name that says so (`x_token=...`, `--password ...`,
`Authorization: ...`), and what is a key by its form alone. Rather too much than too little: `***` in a traceback costs
nobody anything. A text that has been through once stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 6  # letters of an environment variable's value: a shorter one would blot out ordinary words

# The last word of a name that says so: `x_token`, `apiKey`, `AWS_SECRET_ACCESS_KEY`, `PGPASSWORD`; not `tokens`. What
# stands before it is not part of the pattern, which would take quadratic time in a long word.
_LAST_WORD = (
    r"(?:(?<![A-Za-z])(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|authorization"
    r"|(?:api|secret|private|account|access)[_-]?key|access[_-]?key[_-]?id)"
    r"|(?<=[a-z])(?-i:Password|Secret|Token)|(?-i:PASSWORD))"
)
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|\\+\"(?:(?!\\+\").)*\\+\""
_BARE = rf"(?!{re.escape(HIDDEN)})[^\s,;&\"'\\]+"

SECRETS_BY_FORM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bhf_\w{30,}|\bxox[abposr]-[\w-]{10,}"
    r"|\bsk-[\w-]{20,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    re.DOTALL,
)
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"<>?#]+(?:@[^\s/@'\"<>?#]+)*@")
_AFTER_A_NAME = (
    re.compile(r"(?P<name>\bBearer\s+)[\w.~+/-]{8,}=*", re.IGNORECASE),
    re.compile(rf"(?P<name>(?<!\S)--?[\w.-]{{0,80}}?{_LAST_WORD}\s+)(?!-)(?:{_QUOTED}|{_BARE})", re.IGNORECASE),
    re.compile(
        rf"(?P<name>{_LAST_WORD}(?:\\*[\"'])?\s*(?>=>|[=:])\s*(?:(?:Basic|Bearer|Token)\s+)?+)(?:{_QUOTED}|{_BARE})",
        re.IGNORECASE,
    ),
)
_SECRET_NAME = re.compile(rf"[\w.-]*?{_LAST_WORD}", re.IGNORECASE)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without secrets; those in `environment` (default: this process's) are found wherever they stand."""
    return _redact(text, _secrets_of(os.environ if environment is None else environment))


def redacted(value: Any) -> Any:
    """`value` with every text in it redacted; mappings and lists are walked through, anything else stays."""
    return _redacted(value, _secrets_of(os.environ))


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line's arguments, redacted one by one: blanks within one end no value."""
    shown: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if is_value and not argument.startswith("-"):
            shown.append(HIDDEN)
        elif equals and is_secret_name(name.lstrip("-")):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(redact(argument))
        is_value = argument.startswith("-") and not equals and is_secret_name(name.lstrip("-"))
    return shown


def is_secret_name(name: str) -> bool:
    """Whether a field, option or variable of this name holds a secret, by what it is called."""
    return _SECRET_NAME.fullmatch(name) is not None


def secret_fields(value: Any, path: str = "") -> list[str]:
    """The dotted paths of the texts in a nested mapping that are secrets, by their name or as part of an address."""
    if isinstance(value, str):
        return [path] if _USER_OF_ADDRESS.search(value) else []
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    found: list[str] = []
    for key, item in items:
        below = f"{path}.{key}" if path else str(key)
        found += [below] if _hides(key, item) else secret_fields(item, below)
    return found


def _redact(text: str, known: frozenset[str]) -> str:
    if known:
        text = _any_of(known).sub(HIDDEN, text)
    text = _USER_OF_ADDRESS.sub(f"{HIDDEN}@", SECRETS_BY_FORM.sub(HIDDEN, text))
    for pattern in _AFTER_A_NAME:
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


def _redacted(value: Any, known: frozenset[str]) -> Any:
    if isinstance(value, str):
        return _redact(value, known)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _hides(key, item) else _redacted(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, known) for item in value]
    return value


def _hides(key: object, value: object) -> bool:
    """A short value is no secret: `token: mean` is an option of a model."""
    return isinstance(key, str) and isinstance(value, str) and len(value) >= SHORTEST and is_secret_name(key)


def _secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """Values by their variable's name, and passwords in addresses."""
    found: set[str] = set()
    for name, value in environment.items():
        if is_secret_name(name) and name != "PWD":  # the shell's working directory
            found.add(value)
        elif "://" in value and "@" in value:
            found.add(_password(value))
    return frozenset(value for value in found if len(value) >= SHORTEST)


def _password(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


@lru_cache(maxsize=16)
def _any_of(known: frozenset[str]) -> re.Pattern[str]:
    """Finds each of these, also as it stands in an address; the longest first, since one may begin with another."""
    forms = {form for value in known for form in (value, quote(value, safe=""), unquote(value))}
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
