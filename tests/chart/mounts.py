# The files and the environment that a worker finds in its pod, laid out in a folder of this machine, so that the program itself
# can read what the chart wrote. No test is here.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import yaml

from tests.certificate import self_signed
from tests.chart import chart

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "a-key-from-a-secret"
"""What every Secret holds."""


def mounted(
    rendered: chart.Rendered, folder: Path, *, pod: str = "the-pod-name", secret: str = SECRET
) -> tuple[Path, dict[str, str]]:
    """The settings file, and the environment, of the pod with this name."""
    spec, container = rendered.pod(), rendered.container()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    secrets = next(volume for volume in spec["volumes"] if volume["name"] == "secrets")
    for source in secrets["projected"]["sources"]:
        for item in source["secret"]["items"]:
            path = folder / mounts["secrets"].lstrip("/") / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"user:{secret}\n" if path.name == "proxy-credentials" else f"{secret}\n")
    certificate, key = self_signed()
    kafka, http = rendered.settings()["kafka"], rendered.settings().get("http", {})
    for part, option, pem in (
        (kafka["common"], "ssl_cafile", certificate),
        (kafka["common"], "ssl_certfile", certificate),
        (kafka["common"], "ssl_keyfile", key),
        (kafka.get("oauth", {}), "ca_file", certificate),
        (http, "ca_file", certificate),
    ):
        if option in part:
            (folder / part[option].lstrip("/")).write_text(pem)
    settings = yaml.safe_dump(rendered.settings()).replace(mounts["secrets"], f"{folder}{mounts['secrets']}")
    fields = {"metadata.name": pod, "metadata.namespace": chart.NAMESPACE}
    environment: dict[str, str] = {}
    for item in container["env"]:
        source = item.get("valueFrom", {})
        if "fieldRef" in source:
            environment[item["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            environment[item["name"]] = "the-user"
        else:
            environment[item["name"]] = re.sub(
                r"\$\(([A-Z_]+)\)", lambda match: environment[match.group(1)], item["value"]
            )
    config = folder / environment["WORKER_CONFIG"].lstrip("/")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(settings)
    return config, {**environment, "WORKER_CONFIG": str(config)}
