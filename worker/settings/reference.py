# The table of settings as documents: an example file with every setting, and a reference page.
#
# Made from the rows alone, so that they are never behind the code (`make docs`; a test compares).

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, Final

import yaml

from worker.settings.catalog import NAME, rows

if TYPE_CHECKING:
    from worker.settings.catalog import SettingRow

_WIDTH: Final = 110
_EXAMPLES: Final[dict[str, Any]] = {
    "kafka.bootstrap_servers": ["kafka-0.example:9092", "kafka-1.example:9092"],
    "kafka.instance_id": "moderation-worker-0",
    "kafka.common": {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/etc/kafka/ca.crt",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "moderation-worker",
        "sasl_plain_password_file": "/etc/kafka/password",
    },
    "kafka.consumer": {"session_timeout_ms": 45000},
    "kafka.producer": {"compression_type": "lz4"},
    "tencent.apps.<name>.sdk_app_id": 1400000001,
    "tencent.apps.<name>.identifier": "administrator",
    "tencent.apps.<name>.secret_key_file": "/etc/tencent/main",
    "tencent.apps.<name>.region": "singapore",
    "tencent.apps.<name>.secret_key": "the key itself",
    "tencent.apps.<name>.base_url": "https://adminapisgp.my-imcloud.com",
    "tencent.default_app": "main",
    "tencent.protected_users": ["administrator"],
    "limits.per_endpoint": {"group_open_http_svc/ban_group_member": 400},
    "http.max_connections": 400,
}
"""What stands in the example where a default would tell nothing."""
_GIVEN: Final = (
    "kafka.bootstrap_servers",
    "tencent.apps.<name>.secret_key_file",
    "tencent.apps.<name>.region",
)
_HEAD: Final = """\
# Every setting of moderation-worker. What is commented out shows its default, or an example where that is nothing.
# Each can be a variable as well, which goes over this file: WORKER_ and the words with two underscores between,
# WORKER_KAFKA__MAX_GAP=10000. Made by `make docs` from worker/settings; `moderation-worker check --config FILE` checks a file.
"""


def example() -> str:
    """The text of config/worker.example.yaml: what must be said is said, everything else is commented out."""
    lines = _HEAD.splitlines()
    for row in rows():
        depth = "  " * (len(row.path) - 1)
        about = row.about if row.section is not None else f"{row.about} ({row.rule})"
        lines += ["", *(f"{depth}# {line}" for line in textwrap.wrap(about, _WIDTH - len(depth)))]
        if row.section is not None or row.name == "tencent.apps":
            lines.append(f"{depth}{'main' if row.path[-1] == NAME else row.path[-1]}:")
        else:
            given = row.required or row.name in _GIVEN
            lines += [f"{depth}{'' if given else '# '}{line}" for line in _entry(row)]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The text of config/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from `worker/settings`; change that, then `make docs`.",
        "",
        "One YAML file (`--config FILE`, or `WORKER_CONFIG`), and variables over it: `WORKER_` and the words of a name with two",
        "underscores between, `kafka.max_gap` → `WORKER_KAFKA__MAX_GAP`. Lists and mappings in variables are JSON (a list may also be",
        "words with commas between). In the name of an app, `_` in a variable stands for `-` or `.` as well.",
        "",
        "A relative path in the file is taken from the folder of that file, if something lies there; else, and in a variable, from the",
        "working directory. Files are regular ones, in UTF-8; a byte order mark is ignored. Of a password's file the first line counts.",
        "",
        "What is unsafe, contradictory or unknown is refused at start: every problem at once, with its name and its remedy, exit code 2.",
        "`moderation-worker check` tells the same, and whether Kafka and its topics fit, without starting anything.",
    ]
    for row in rows():
        if row.section is not None and (len(row.path) == 1 or row.path[-1] == NAME):
            lines += [
                "",
                f"## `{row.name}`",
                "",
                row.about,
                "",
                "| setting | value | default | what it is |",
                "|---|---|---|---|",
            ]
        elif row.name == "drain_seconds":
            lines += [
                "",
                "## At the top",
                "",
                "| setting | value | default | what it is |",
                "|---|---|---|---|",
                _line(row),
            ]
        elif row.name != "tencent.apps":
            lines.append(_line(row))
    return "\n".join(lines) + "\n"


def _line(row: SettingRow) -> str:
    default = "**required**" if row.required else f"`{json.dumps(row.default, ensure_ascii=False)}`"
    return f"| `{row.name}` | {row.rule} | {default} | {row.about} |"


def _entry(row: SettingRow) -> list[str]:
    value = _EXAMPLES.get(row.name, list(row.default) if isinstance(row.default, tuple) else row.default)
    flow = None if isinstance(value, list) else False
    return yaml.safe_dump(
        {row.path[-1]: value}, sort_keys=False, default_flow_style=flow, width=1000
    ).splitlines()
