# Settings as a test writes them: the least that is valid, and changes to it. No test is here.

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any, Final

import yaml

from worker.errors import SettingsError
from worker.settings import load as load_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.errors import SettingProblem
    from worker.settings import Settings

KEY: Final = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"


def minimal(
    *, kafka: Mapping[str, object] | None = None, app: Mapping[str, object] | None = None, **sections: object
) -> dict[str, Any]:
    """Return the least that is valid, with these settings of ``kafka``, of the app ``main``, and whole sections over it."""
    main = {
        "sdk_app_id": 1400000001,
        "identifier": "admin",
        "secret_key": KEY,
        "region": "singapore",
        **(app or {}),
    }
    return {
        "kafka": {"bootstrap_servers": ["kafka:9092"], **(kafka or {})},
        "tencent": {"apps": {"main": {key: value for key, value in main.items() if value is not None}}},
        **sections,
    }


def load(data: object, environ: Mapping[str, str] | None = None) -> Settings:
    """Load the settings of a file with this content."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(data, file)
        file.flush()
        return load_from(file.name, environ or {})


def problems(data: object, environ: Mapping[str, str] | None = None) -> dict[str, SettingProblem]:
    """Return why settings are refused, by name; nothing if they are not."""
    try:
        load(data, environ)
    except SettingsError as refused:
        return {problem.name: problem for problem in refused.problems}
    return {}
