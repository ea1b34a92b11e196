# The chart as helm renders it, as values that tests can ask. What they should be is in the tests, not here.
#
# The chart under test is the repository's, or the copy that CHART_UNDER_TEST names: so a fault can be put into a copy.

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.chart import toolchain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY: Final = Path(__file__).parents[2]
RELEASE: Final = "trust"
NAMESPACE: Final = "moderation"
FULL_NAME: Final = f"{RELEASE}-moderation-worker"
HELM_SECONDS: Final = 60.0
"""Longer than anything that helm does here on a busy machine."""

Object = dict[str, Any]


class RefusedError(Exception):
    """Helm refused; the text is what it printed."""


def folder() -> Path:
    """The chart under test."""
    return Path(os.environ.get("CHART_UNDER_TEST", REPOSITORY / "helm" / "moderation-worker"))


def uses() -> list[Path]:
    """The values file of each use that the chart ships."""
    return sorted((folder() / "ci").glob("*-values.yaml"))


def use(name: str) -> Path:
    """One of them."""
    return folder() / "ci" / f"{name}-values.yaml"


def helm(*arguments: str, **environment: str) -> str:
    """What helm prints. Raises RefusedError."""
    command = [str(toolchain.program("helm")), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=HELM_SECONDS,
    )
    if done.returncode:
        raise RefusedError(done.stderr + done.stdout)
    return done.stdout


@dataclass(frozen=True)
class Rendered:
    """The objects of one release, as `helm template` gives them."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str) -> Object:
        """The only object of a kind besides those of hooks; an assertion when there are none or more."""
        found = [item for item in self.all(kind) if not item["metadata"]["name"].endswith("-topics")]
        assert len(found) == 1, f"{len(found)} objects of kind {kind}"
        return found[0]

    def pod(self) -> Object:
        """The spec of the worker's pods."""
        return dict(self.one("StatefulSet")["spec"]["template"]["spec"])

    def container(self) -> Object:
        """The worker's container."""
        return next(item for item in self.pod()["containers"] if item["name"] == "worker")

    def settings(self) -> Object:
        """The settings file that the worker reads."""
        name = next(v["configMap"]["name"] for v in self.pod()["volumes"] if v["name"] == "config")
        held = next(item for item in self.all("ConfigMap") if item["metadata"]["name"] == name)
        return dict(yaml.safe_load(held["data"]["worker.yaml"]))

    def job(self) -> Object:
        """The job that makes topics."""
        (found,) = self.all("Job")
        return found

    def pod_metadata(self) -> Iterator[Object]:
        """Every pod's metadata: the workers' and those of hooks."""
        for kind in ("StatefulSet", "Job"):
            for item in self.all(kind):
                yield item["spec"]["template"]["metadata"]
        for item in self.all("Pod"):
            yield item["metadata"]

    def pod_specs(self) -> Iterator[Object]:
        """Every pod's spec: the workers' and those of hooks."""
        yield self.pod()
        for item in self.all("Pod"):
            yield item["spec"]
        for item in self.all("Job"):
            yield item["spec"]["template"]["spec"]


def render(
    values: Mapping[str, Any] | None = None,
    *,
    base: str = "minimal",
    kubernetes: str = "",
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    more: Sequence[str] = (),
) -> Rendered:
    """The chart rendered with the values of a use and further values over them. Raises RefusedError."""
    arguments = ["template", release, str(folder()), "--namespace", namespace, *more]
    if base:
        arguments += ["--values", str(use(base))]
    for name, value in (values or {}).items():
        arguments += ["--set-json", f"{name}={json.dumps(value)}"]
    if kubernetes:
        arguments += ["--kube-version", kubernetes]
    text = helm(*arguments)
    return Rendered(tuple(item for item in yaml.load_all(text, Loader=_StrictLoader) if item))


def render_below(alias: str, values: Mapping[str, Any], scratch: Path) -> Rendered:
    """The chart below a parent chart that names it otherwise and has these values for it, over those of the least use."""
    parent = scratch / "parent"
    shutil.copytree(folder(), parent / "charts" / folder().name)
    about = yaml.safe_load((folder() / "Chart.yaml").read_text())
    dependency = {"name": about["name"], "version": about["version"], "alias": alias}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    least = yaml.safe_load(use("minimal").read_text())
    kafka = {**least["settings"]["kafka"], **values.get("settings", {}).get("kafka", {})}
    below = {**least, **values, "settings": {**least["settings"], "kafka": kafka}}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (parent / "values.yaml").write_text(yaml.safe_dump({alias: below}))
    text = helm("template", RELEASE, str(parent), "--namespace", NAMESPACE)
    return Rendered(tuple(item for item in yaml.load_all(text, Loader=_StrictLoader) if item))


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: YAML keeps the last, and an operator's value could be lost so."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice at {node.start_mark}: {keys}"
        return super().construct_mapping(node, deep=deep)
