# The jars of Apache Kafka: fetched once from Maven through jgo, checked against the lock file, kept in a cache folder.
#
# The lock file names each jar with its size and SHA-256. A jar that is missing, truncated or altered is fetched again, and one
# whose connection breaks is tried again; each that has arrived is kept, whatever becomes of the others. Once all are in the cache,
# nothing here uses the network. embedded_kafka.py runs Kafka with them.

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK: Final = Path(__file__).with_name("kafka-jars.lock")
CACHE_VARIABLE: Final = "MODERATION_WORKER_CACHE"
DEMO_EXTRA: Final = "run `make demo` in a clone of the repository, or `pip install '.[demo]'` there"
"""How the packages that run Kafka are installed: the extra is that of the clone's own pyproject.toml."""
REPOSITORY_VARIABLE: Final = "MODERATION_WORKER_MAVEN_REPOSITORY"
"""The URL of a mirror of Maven Central; if it is not set, Maven Central itself is used."""
WITHOUT_NETWORK: Final = (
    f"; behind a proxy set HTTPS_PROXY, or name a mirror of Maven Central in {REPOSITORY_VARIABLE}"
)
DOWNLOADS_AT_ONCE: Final = 4
ANSWER_TIMEOUT: Final = 30
"""How long the repository may be silent, in seconds."""
TRIES: Final = 3
"""How often a jar is tried whose connection breaks."""
LONGEST_WAIT: Final = 4.0
"""Between two tries, in seconds."""

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes to fetch, from any thread, one call at a time."""


class FetchError(Exception):
    """A jar could not be fetched, or is not the one in the lock file."""


class _BrokenError(FetchError):
    """The connection broke, or could not be made."""


@dataclass(frozen=True, slots=True)
class Jar:
    """
    One line of the lock file.

    Attributes:
        size: Bytes.

    """

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """The file name in the cache folder."""
        return f"{self.artifact}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Return whether the file at ``path`` is this jar, complete and unaltered."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def locked_jars(lock: Path = LOCK) -> tuple[Jar, ...]:
    """Return the jars that make up Kafka, in the order of the class path."""
    return tuple(
        _jar(line) for line in lock.read_text("utf-8").splitlines() if line and not line.startswith("#")
    )


def _jar(line: str) -> Jar:
    sha256, size, coordinate = line.split()
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, int(size), sha256)


def cache_folder() -> Path:
    """Return the cache folder: $MODERATION_WORKER_CACHE, or moderation-worker in $XDG_CACHE_HOME or ~/.cache. Raises FetchError."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "moderation-worker"
    except RuntimeError as exc:  # a user whom the machine does not know, as in a container
        raise FetchError(
            f"this user has no home, so no folder for Kafka's jars: name one in {CACHE_VARIABLE}"
        ) from exc


def fetch(jars: tuple[Jar, ...], cache: Path, progress: Progress | None = None) -> tuple[Path, ...]:
    """
    Return the paths of all jars, each verified, after fetching what is missing or damaged. Raises FetchError.

    Several processes may call this at once with one cache: one fetches, the others wait.
    """
    folder = cache / "kafka-jars"
    paths = tuple(folder / jar.filename for jar in jars)
    if not all(jar.is_at(path) for jar, path in zip(jars, paths, strict=True)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / ".lock"):
                missing = [jar for jar in jars if not jar.is_at(folder / jar.filename)]
                _download(missing, folder, progress or _silent)
        except OSError as exc:
            raise FetchError(
                f"Kafka's jars cannot be kept in {folder}: {(exc.strerror or str(exc)).lower()}: "
                f"name another folder in {CACHE_VARIABLE}"
            ) from exc
    return paths


def _silent(_done: int, _total: int) -> None:
    pass


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(jars: list[Jar], folder: Path, progress: Progress) -> None:
    total = sum(jar.size for jar in jars)
    done = 0
    counting = threading.Lock()

    def arrived(size: int) -> None:
        nonlocal done
        with counting:
            done += size
            progress(done, total)

    staging = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
    tries = Retrying(
        retry=retry_if_exception_type(_BrokenError),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(max=LONGEST_WAIT),
        reraise=True,
    )

    def fetch_one(jar: Jar) -> None:
        tries(_download_one, jar, staging, arrived).replace(folder / jar.filename)

    try:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(fetch_one, jars))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download_one(jar: Jar, staging: Path, arrived: Callable[[int], None]) -> Path:
    """Try to fetch a jar once. Raises FetchError, a _BrokenError if another try may help: its bytes are taken back."""
    try:
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - an extra, needed only if something must be fetched
    except ImportError as exc:
        raise FetchError(f"fetching Kafka needs the package jgo: {DEMO_EXTRA}") from exc

    counted = 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size
        arrived(size)

    @contextlib.contextmanager
    def counting(_filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield count

    mirror = os.environ.get(REPOSITORY_VARIABLE)
    context = MavenContext(
        resolver=PythonResolver(progress_callback=counting),
        # What is left of a try would be in the way of the next.
        repo_cache=Path(tempfile.mkdtemp(dir=staging)),
        local_repos=[],
        remote_repos={"mirror": mirror} if mirror else None,
        timeout=ANSWER_TIMEOUT,
    )
    try:
        path = Path(context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())
    except (OSError, RuntimeError) as exc:
        arrived(-counted)
        error = _BrokenError if _is_of_the_connection(exc) else FetchError
        remedy = WITHOUT_NETWORK if error is _BrokenError else ""
        raise error(f"{jar.filename} could not be fetched from the Maven repository: {exc}{remedy}") from exc
    if not jar.is_at(path):
        raise FetchError(
            f"{jar.filename}: what was fetched is not what the lock file names; nothing of it was kept"
        )
    return path


def _is_of_the_connection(error: Exception) -> bool:
    """Return whether a connection broke, or could not be made; a full disk is an OSError as well."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    # The library that jgo fetches with wraps what it meets in an OSError without a number; a file's has one.
    return isinstance(error, OSError) and error.errno is None
