# File descriptors: how many a worker needs at most, and whether the system lets it have them.
#
# Each connection takes one. A worker that is short of them fails in the middle of a raid, with errors that name anything
# but the limit, so it is settled at the start. Not here: what is told of it (wiring.py).

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from worker.domain.contract.actions import ENDPOINTS
from worker.errors import Problem, SettingsError
from worker.runtime.status_server import MOST_CONNECTIONS

KAFKA: Final = 128
"""Connections of the consumer, the producer and the restoring to a cluster of some thirty brokers."""
OWN: Final = 64
"""Standard streams, the loop's own, files of keys and certificates, and a margin."""


@dataclass(frozen=True, slots=True)
class FileShortage:
    """
    The system gives fewer file descriptors than may be needed.

    Attributes:
        needed: For every connection that the settings allow.
        limit: What there is: the hard limit, which only an administrator can raise.

    """

    needed: int
    limit: int

    @property
    def remedy(self) -> str:
        """What an operator can do."""
        return (
            f"raise the hard limit of open files to {self.needed} (ulimit -Hn, LimitNOFILE of systemd, the container runtime), "
            "or lower http.max_connections"
        )


def take_file_descriptors(apps: int, connections: int) -> FileShortage | None:
    """
    Raise the soft limit to what ``apps`` with ``connections`` to each endpoint may need; return what is missing, if anything.

    Raises SettingsError when not even one connection for each endpoint fits.
    """
    needed = _needed(apps, connections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == needed:
        return None
    shortage = FileShortage(needed, hard)
    if hard < _needed(apps, 1):
        raise SettingsError([Problem("ulimit -n", f"{shortage.remedy}: so few are for nothing", hard)])
    return shortage


def _needed(apps: int, connections: int) -> int:
    return apps * len(ENDPOINTS) * connections + MOST_CONNECTIONS + KAFKA + OWN
