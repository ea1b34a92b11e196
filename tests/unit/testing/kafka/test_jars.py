# The jars: complete in the lock file, verified whenever they are used, fetched again when damaged.

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest

from worker.testing.kafka import jars
from worker.testing.kafka.jars import FetchError, Jar, cache_folder, fetch, locked_jars


def test_the_lock_file_names_each_jar_once_with_its_checksum_and_no_address() -> None:
    found = locked_jars()

    assert len({jar.filename for jar in found}) == len(found) == 46
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in found)
    assert "://" not in jars.LOCK.read_text("utf-8")


def test_a_cache_that_is_complete_is_used_without_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = _cached(tmp_path, b"whole", b"whole")
    monkeypatch.setattr(jars, "_download", _no_download)

    assert [path.read_bytes() for path in fetch((jar,), tmp_path)] == [b"whole"]


@pytest.mark.parametrize("damaged", [b"who", b"WHOLE", b""], ids=["cut", "altered", "empty"])
def test_a_damaged_jar_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes
) -> None:
    jar = _cached(tmp_path, b"whole", damaged)
    fetched: list[Jar] = []
    monkeypatch.setattr(jars, "_download", lambda missing, _folder, _progress: fetched.extend(missing))

    fetch((jar,), tmp_path)

    assert fetched == [jar]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (PermissionError(errno.EACCES, "Permission denied"), 1),
        (RuntimeError("not found in remote repositories"), 1),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), jars.TRIES),
        (TimeoutError(), jars.TRIES),
        ("ConnectionError", jars.TRIES),
        ("ReadTimeout", jars.TRIES),
        ("ChunkedEncodingError", jars.TRIES),
    ],
    ids=repr,
)
def test_only_a_broken_connection_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | str, tries: int
) -> None:
    """A full disk was said to be a broken connection, and tried again."""
    maven = pytest.importorskip("jgo.maven")
    requests = pytest.importorskip("requests")
    raised = getattr(requests.exceptions, error)() if isinstance(error, str) else error
    asked: list[Any] = []

    def download(_resolver: object, artifact: Any) -> None:
        asked.append(artifact)
        raise raised

    monkeypatch.setattr(maven.PythonResolver, "download", download)
    monkeypatch.setattr(jars, "LONGEST_WAIT", 0.01)

    with pytest.raises(FetchError, match=r"thing-1\.0\.jar could not be fetched"):
        fetch((Jar("a.group", "thing", "1.0", 5, "0" * 64),), tmp_path)

    assert len(asked) == tries


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODERATION_WORKER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "moderation-worker"

    monkeypatch.setenv("MODERATION_WORKER_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_who_has_no_home_is_told_to_name_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user of whom the machine knows nothing got a traceback."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MODERATION_WORKER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(FetchError, match=r"this user has no home, .* name one in MODERATION_WORKER_CACHE"):
        cache_folder()


def test_a_cache_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    jar = Jar("a.group", "thing", "1.0", 5, "0" * 64)

    with pytest.raises(
        FetchError, match=r"file/kafka-jars: not a directory: name another folder in MODERATION_WORKER_CACHE"
    ):
        fetch((jar,), tmp_path / "file")


def test_a_repository_that_is_not_reached_is_told_with_proxy_and_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jgo.maven")
    monkeypatch.setenv("MODERATION_WORKER_MAVEN_REPOSITORY", "http://127.0.0.1:9")
    monkeypatch.setattr(jars, "LONGEST_WAIT", 0.01)

    with pytest.raises(
        FetchError, match=r"set HTTPS_PROXY, or name a mirror .* MODERATION_WORKER_MAVEN_REPOSITORY"
    ):
        fetch((Jar("a.group", "thing", "1.0", 5, "0" * 64),), tmp_path)


def _cached(cache: Path, wanted: bytes, present: bytes) -> Jar:
    jar = Jar("a.group", "thing", "1.0", len(wanted), hashlib.sha256(wanted).hexdigest())
    folder = cache / "kafka-jars"
    folder.mkdir()
    (folder / jar.filename).write_bytes(present)
    return jar


def _no_download(*_args: object) -> None:
    pytest.fail("nothing had to be fetched")
