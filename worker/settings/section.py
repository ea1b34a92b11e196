# The base of every section of the settings: frozen, strict about names, silent about values.
#
# No setting is defined here (model.py, kafka_section.py, tencent_section.py).

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingsSection(BaseModel):
    """One section of the settings: frozen, without unknown names, and without values in its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
