# A real Kubernetes API server with etcd, on loopback, for as long as a `with` block. It stores and judges objects; nothing
# runs them (no kubelet, no controllers). No test is here.

from __future__ import annotations

import contextlib
import csv
import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.chart import toolchain
from tests.openssl import openssl

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why it refused, in its own words."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Cluster:
    """
    A running API server.

    Attributes:
        url: Its address.
        kubeconfig: A file that makes its reader an administrator.
        folder: Where all its files are.

    """

    url: str
    kubeconfig: Path
    _token: str
    folder: Path

    def ask(self, path: str, body: object = None, *, method: str | None = None) -> Answer:
        """One request as administrator: GET without a body, POST with one; a PATCH merges."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is our own
            self.url + path,
            data,
            {
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json",
            },
            method=method,
        )
        trust = ssl.create_default_context(cafile=str(self.folder / "pki" / "apiserver.crt"))
        trust.check_hostname = False
        try:
            with urllib.request.urlopen(request, timeout=30, context=trust) as answer:  # noqa: S310 - the address is our own
                text = answer.read().decode()
                return Answer(answer.status, json.loads(text) if text.startswith("{") else {"text": text})
        except urllib.error.HTTPError as refusal:
            with refusal:
                text = refusal.read().decode()
            return Answer(refusal.code, json.loads(text) if text.startswith("{") else {"text": text})

    @classmethod
    def at(cls, folder: Path) -> Cluster:
        """A cluster that another process runs, by its folder."""
        config = json.loads((folder / "kubeconfig").read_text())
        url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
        return cls(url, folder / "kubeconfig", token, folder)

    def await_path(self, path: str) -> None:
        """Until a path answers 200, at most READY_SECONDS."""
        until = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(urllib.error.URLError, FileNotFoundError, ConnectionError):
                if self.ask(path).status == 200:
                    return
            if time.monotonic() > until:
                raise TimeoutError(f"{path} did not answer 200 within {READY_SECONDS:g} s")
            time.sleep(0.1)  # the server has no way to tell; this is the poll's period

    def environment(self) -> dict[str, str]:
        """What helm needs to talk to this server and to keep its own files apart."""
        homes = {name: str(self.folder / "helm" / name) for name in ("CACHE", "CONFIG", "DATA")}
        return {
            "KUBECONFIG": str(self.kubeconfig),
            **{f"HELM_{name}_HOME": home for name, home in homes.items()},
        }


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A new, empty cluster; gone when the block ends. Raises MissingError without the programs."""
    etcd, server = toolchain.program("etcd"), toolchain.program("kube-apiserver")
    with tempfile.TemporaryDirectory(prefix="chart-cluster-") as made:
        folder = Path(made)
        clients, peers, port = _free_ports(3)
        token = secrets.token_hex(16)
        _write_credentials(folder, token, f"https://127.0.0.1:{port}")
        cluster = Cluster.at(folder)
        # Leaving stops the server before etcd: without its store it would hang.
        with (
            _process(_etcd(etcd, folder, clients, peers), folder / "etcd.log"),
            _process(_apiserver(server, folder, clients, port), folder / "apiserver.log"),
        ):
            cluster.await_path("/readyz")
            yield cluster


def _etcd(program: Path, folder: Path, clients: int, peers: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
    return [
        str(program),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def _apiserver(program: Path, folder: Path, clients: int, port: int) -> list[str]:
    return [
        str(program),
        f"--etcd-servers=http://127.0.0.1:{clients}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'pki'}",
        f"--service-account-key-file={folder / 'sa.key'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        # Service accounts are made by a controller, and none runs here.
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    ]


def _write_credentials(folder: Path, token: str, url: str) -> None:
    openssl("genrsa", "-out", folder / "sa.key", "2048")
    with (folder / "tokens.csv").open("w", newline="") as file:
        csv.writer(file).writerow([token, "tester", "1", "system:masters"])
    cluster = {"server": url, "certificate-authority": str(folder / "pki" / "apiserver.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    (folder / "kubeconfig").chmod(0o600)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in held:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in held]


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            yield
        except BaseException as failure:
            failure.add_note(f"{command[0]} said at last:\n{log.read_text(errors='replace')[-2000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
