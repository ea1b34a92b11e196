# The one budget of memory, and the pod that must hold it.

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from worker.domain.memory_budget import BASE_MIB, BUDGET_MIB, PARTS
from worker.settings.model import MemorySettings

CHART = Path(__file__).parents[3] / "helm" / "moderation-worker"


def test_the_charts_memory_limit_holds_the_budget_and_what_the_process_takes_besides() -> None:
    """Else a backlog kills the pod, and the next one, and the next."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    template = (CHART / "templates" / "_pod.tpl").read_text()

    assert values["settings"]["memory"]["budget_mib"] == BUDGET_MIB
    assert "memory" not in values["resources"]["requests"] | values["resources"]["limits"], (
        "it follows from the budget"
    )
    assert f'"moderation-worker.baseMib" -}}}}{BASE_MIB}{{{{- end' in template


def test_with_the_default_budget_the_worst_is_300_mib() -> None:
    assert MemorySettings().budget_mib + BASE_MIB <= 300


def test_the_setting_tells_the_share_of_each_part() -> None:
    description = str(MemorySettings.model_fields["budget_mib"].description)

    assert all(f"{round(share * 100)} %" in description for share in PARTS.values())
