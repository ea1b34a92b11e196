# The types of settings, each with the rule that a person reads when a value is refused.
#
# Only what one value may be is decided here. A setting's name, purpose and default are in model.py, contradictions between
# settings in cross_checks.py.

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo

from worker.domain.contract.actions import USER_ID_BYTES
from worker.domain.contract.timestamps import instant_of
from worker.domain.contract.visible_text import hidden_in
from worker.secret_key import is_secret_key
from worker.settings import addresses

SECRET_OPTIONS: Final = frozenset({"sasl_plain_password", "ssl_password", "proxy_url", "socks5_proxy"})
"""Options of the Kafka client that contain a secret (a proxy's URL may). Each can also be given as ``<option>_file``."""
PROXY_OPTIONS: Final = frozenset({"proxy_url", "socks5_proxy"})
"""Those whose secret is a proxy's URL."""
SCOPE_CHARACTERS: Final = 2_048
NAME_BYTES: Final = 249
"""Kafka's limit for the name of a topic or a static member. A group's name is part of each transactional id."""


class RuleText(str):
    """What a value must be, as the end of "give …"."""

    __slots__ = ()


class Region(StrEnum):
    """Where an app lives. A key, a plan and an app exist in one region only."""

    CHINA = "china"
    SINGAPORE = "singapore"
    SEOUL = "seoul"
    TOKYO = "tokyo"
    FRANKFURT = "frankfurt"
    USA = "usa"
    JAKARTA = "jakarta"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")  # noqa: TRY004 - pydantic collects ValueErrors only
    return value


def _listed(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _listed_users(value: object) -> object:
    # A list that was meant to be JSON would become users of strange names, and nobody would be protected.
    if isinstance(value, str) and re.search(r"""(?:^|,)\s*[\[{"']|;""", value):
        raise ValueError("write a JSON list, or words separated by commas")
    return _listed(value)


def _topic(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in {".", ".."}:
        raise ValueError("Kafka would refuse this name")
    return text


def _start(text: str) -> str:
    if text not in {"earliest", "latest"}:
        instant_of(text)
    return text


def _user(text: str) -> str:
    if not 1 <= len(text.encode()) <= USER_ID_BYTES:
        raise ValueError(f"it has {len(text.encode())} bytes")
    return _visible(text)


def _name(text: str) -> str:
    if not 1 <= len(text.encode()) <= NAME_BYTES:
        raise ValueError(f"it has {len(text.encode()):,} bytes")
    return _visible(text)


def _visible(text: str) -> str:
    # What a command may not name, nobody can protect: a user with a filler in its id would be none of those that are named.
    if (hidden := hidden_in(text)) is not None:
        raise ValueError(f"it holds {hidden}: take it out")
    if text != text.strip() or not text.isprintable():
        raise ValueError("it has a blank at an end or a control character")
    return text


def _client_id(text: str) -> str:
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{NAME_BYTES}}}", text):
        raise ValueError("it has other characters, or too many")
    return text


def _scope(text: str) -> str:
    if len(text) > SCOPE_CHARACTERS or not re.fullmatch(
        r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*+", text
    ):
        raise ValueError("it has other characters, or too many")
    return text


def _extensions(given: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if not re.fullmatch(r"[A-Za-z]{1,64}", name) or name.lower() == "auth":
            raise ValueError("a name has other characters than letters, or is auth")
        if not re.fullmatch(r"[\x20-\x7e]{1,1024}", value):
            raise ValueError("a value has other characters, or too many")
    return given


def _key(value: SecretStr) -> SecretStr:
    if not is_secret_key(value.get_secret_value()):
        raise ValueError("it is empty, or has blanks or quotation marks in it")
    return value


def shown_path(value: object) -> str | None:
    """Return a path that may be shown, else None: what is in no folder that exists may be the secret itself, in the wrong place."""
    text = str(value)
    return text if "/" in text.strip("/") and not set(text) & set("@:") and _is_folder(text) else None


def _is_folder(path: str) -> bool:
    """Return whether the folder of this path exists."""
    try:
        return Path(path).parent.is_dir()
    except (OSError, ValueError):  # too long, or with a NUL in it
        return False


def is_app_name(word: str) -> bool:
    """Return whether an app may have this name, which is a metric label and part of variables' names."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", word) is not None


def _hide_secrets(value: object) -> object:
    """Wrap the secrets among the options, so that no repr or dump shows them."""
    if not isinstance(value, dict):
        return value
    return {
        key: SecretStr(item) if key in SECRET_OPTIONS and isinstance(item, str) else item
        for key, item in value.items()
    }


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
GroupName = Annotated[
    str,
    AfterValidator(_name),
    RuleText(f"1 to {NAME_BYTES} bytes without blanks at the ends or control characters"),
]
Host = Annotated[
    str,
    AfterValidator(addresses.host),
    RuleText("an IP address of this machine (0.0.0.0 is all of IPv4, :: all of IPv6), or a host name"),
]
Servers = Annotated[
    tuple[Annotated[str, AfterValidator(addresses.server)], ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    RuleText("a list of host:port, or one text separated by commas"),
]
Topic = Annotated[str, AfterValidator(_topic), RuleText("1 to 249 of the characters a-z A-Z 0-9 . _ -")]
Topics = Annotated[
    tuple[Topic, ...],
    BeforeValidator(_listed),
    RuleText("a list of exactly one topic, of the characters a-z A-Z 0-9 . _ -"),
]
Start = Annotated[
    str, AfterValidator(_start), RuleText("earliest, latest, or an RFC 3339 time with its offset from UTC")
]
User = Annotated[str, AfterValidator(_user), RuleText(f"a user id of 1 to {USER_ID_BYTES} bytes of UTF-8")]
Users = Annotated[
    tuple[User, ...],
    BeforeValidator(_listed_users),
    RuleText(f"a list of user ids, each of 1 to {USER_ID_BYTES} bytes of UTF-8"),
]
Key = Annotated[SecretStr, AfterValidator(_key), RuleText("the key from the console, without blanks")]
Url = Annotated[
    str,
    AfterValidator(addresses.base_url),
    RuleText("https://host[:port] (http:// only for this machine itself)"),
]
HttpProxy = Annotated[str, AfterValidator(addresses.http_proxy), RuleText("http://host:port")]
AwsRegion = Annotated[
    str, Field(pattern=r"^[a-z]{2}(-[a-z]{1,16}){1,3}-[0-9]{1,2}$"), RuleText("an AWS region (eu-central-1)")
]
TokenUrl = Annotated[
    str,
    AfterValidator(addresses.token_url),
    RuleText("https://host[:port]/path (http:// only for this machine itself)"),
]
ClientId = Annotated[str, AfterValidator(_client_id), RuleText(f"1 to {NAME_BYTES} visible ASCII characters")]
Scope = Annotated[
    str, AfterValidator(_scope), RuleText("scopes of visible ASCII characters, one blank between two")
]
Extensions = Annotated[
    dict[str, Annotated[str, RuleText("a text of visible ASCII characters")]],
    AfterValidator(_extensions),
    RuleText("a mapping of names, of letters alone, to texts of visible ASCII characters"),
]
File = Annotated[Path, RuleText("the path of a file that can be read")]
Options = Annotated[
    dict[str, bool | int | float | str | SecretStr | None],
    BeforeValidator(_hide_secrets),
    RuleText("a mapping of kafka-python's own option names to values"),
]
PerEndpoint = Annotated[
    dict[str, Annotated[int, BeforeValidator(_number), Field(ge=1, le=100_000)]],
    RuleText("a mapping of <service>/<command> to a whole number from 1 to 100000"),
]
WindowFrom = Literal["answer", "send"]
Reasons = Literal["exact", "any"]
Effects = Literal["ours", "all"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console"]


def rule_of(annotation: Any, metadata: list[Any]) -> str:
    """Return what a value of this type must be, as the end of "give …"."""
    rules = [item for item in metadata if isinstance(item, RuleText)]
    if rules:
        return rules[-1]
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        inner = [
            part
            for item in arguments[1:]
            for part in (item.metadata if isinstance(item, FieldInfo) else [item])
        ]
        return rule_of(arguments[0], [*inner, *metadata])
    if get_origin(annotation) is Literal:
        return _one_of(arguments)
    if type(None) in arguments:
        (given,) = (argument for argument in arguments if argument is not type(None))
        return f"{rule_of(given, metadata)}, or null"
    if annotation is bool:
        return "true or false"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _one_of([item.value for item in annotation])
    if annotation is str:
        return "a text"
    if annotation in {int, float}:
        return f"a {'whole number' if annotation is int else 'number'}{_bounds(metadata)}"
    return "a mapping"


def _one_of(choices: Any) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}"


def _bounds(metadata: list[Any]) -> str:
    bounds = {
        name: getattr(item, name)
        for item in metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(item, name, None) is not None
    }
    low = f" from {bounds['ge']:g}" if "ge" in bounds else ""
    if "gt" in bounds:
        low = f" above {bounds['gt']:g}"
    if "lt" in bounds:
        return f"{low} and below {bounds['lt']:g}" if low else f" below {bounds['lt']:g}"
    return f"{low} to {bounds['le']}" if "le" in bounds else low
