# A pod of the rendered chart as a podman container on this machine: its image, command, environment, user, rights, limits and
# mounts, so that chart and image are tried together. What a kubelet does beyond that (probes, spreading) is not here.

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chart.chart import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.chart import Object, Rendered
    from tests.image.containers import Container, Ended, Engine

Secrets = Mapping[str, Mapping[str, str]]
"""Name -> key -> value: what is in the cluster's Secrets."""


@dataclass(frozen=True)
class Pod:
    """
    One pod of a release.

    Attributes:
        name: What the cluster would call it.
        spec: Its rendered spec, of which the first container is run.
        rendered: The release, for its ConfigMaps.
        folder: Where the mounted files are laid.

    """

    name: str
    spec: Object
    rendered: Rendered
    secrets: Secrets
    folder: Path
    _mounts: list[str] = field(default_factory=list)

    @property
    def container(self) -> Object:
        """What it runs."""
        return dict(self.spec["containers"][0])

    @property
    def grace(self) -> float:
        """Seconds from SIGTERM to SIGKILL."""
        return float(self.spec.get("terminationGracePeriodSeconds", 30))

    def run(self, engine: Engine, image: str) -> Ended:
        """From its start to its end."""
        words = engine._run_words("--rm", *self._options())
        return engine._podman(*words, image, *self.container.get("args", []))

    def start(self, engine: Engine, image: str, name: str) -> Container:
        """A container that goes on. The caller removes it."""
        return engine.start(name, *self.container.get("args", []), options=self._options(), image=image)

    def secret_file(self, path: str) -> Path:
        """The file on this machine behind a path of the pod, to change it as a kubelet would."""
        return self.folder / path.lstrip("/")

    def _options(self) -> list[str]:
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        return [
            "--network=host",
            "--read-only",
            "--read-only-tmpfs=false",
            "--security-opt=no-new-privileges",
            *(f"--cap-drop={name}" for name in own["capabilities"]["drop"]),
            f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
            f"--memory={_bytes(self.container['resources']['limits']['memory'])}",
            *(f"--env={name}={value}" for name, value in self._environment().items()),
            *self._volumes(int(pod["fsGroup"])),
        ]

    def _environment(self) -> dict[str, str]:
        fields = {"metadata.name": self.name, "metadata.namespace": NAMESPACE}
        found: dict[str, str] = {}
        for item in self.container["env"]:
            source = item.get("valueFrom", {})
            if "fieldRef" in source:
                value = fields[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                value = self.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
            else:
                value = re.sub(r"\$\(([A-Z_]+)\)", lambda match: found[match.group(1)], item["value"])
            found[item["name"]] = value
        return found

    def _volumes(self, group: int) -> list[str]:
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        options = []
        for mount in self.container["volumeMounts"]:
            volume, path = volumes[mount["name"]], mount["mountPath"]
            if "emptyDir" in volume:
                options.append(f"--tmpfs={path}:size={_bytes(volume['emptyDir']['sizeLimit'])}")
                continue
            home = self.folder / path.lstrip("/")
            for name, text, mode in self._files(volume):
                _lay(home / name, text, mode, group)
            options.append(f"--volume={home}:{path}:ro")
        return options

    def _files(self, volume: dict[str, Any]) -> list[tuple[str, str, int]]:
        if "configMap" in volume:
            wanted = volume["configMap"]["name"]
            held = next(item for item in self.rendered.all("ConfigMap") if item["metadata"]["name"] == wanted)
            return [(name, text, volume["configMap"]["defaultMode"]) for name, text in held["data"].items()]
        return [
            (
                item["path"],
                self.secrets[source["secret"]["name"]][item["key"]],
                volume["projected"]["defaultMode"],
            )
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        ]


def _lay(path: Path, text: str, mode: int, group: int) -> None:
    """A file as a kubelet would write it: root's, readable for the pod's group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.chown(path, 0, group)
    path.chmod(mode)


def _bytes(quantity: str) -> int:
    number, unit = quantity.removesuffix(quantity.lstrip("0123456789")), quantity.lstrip("0123456789")
    return int(number) << 10 * ["", "Ki", "Mi", "Gi"].index(unit)
