# File descriptors: how many a worker needs at most, and whether the system lets it have them.
#
# Each connection takes one. A worker that runs out of them fails in the middle of a raid, with errors that name anything
# but the limit, so the limit is raised and checked at the start. Not here: logging the shortage (wiring.py).

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from worker.domain.contract.actions import ENDPOINTS
from worker.errors import SettingProblem, SettingsError
from worker.runtime.status_server import MOST_CONNECTIONS

KAFKA: Final = 128
"""Connections of consumer, producer and restorer to a cluster of some thirty brokers."""
OWN: Final = 64
"""Standard streams, the loop's own, files of keys and certificates, and a margin."""


@dataclass(frozen=True, slots=True)
class FileShortage:
    """
    The system allows fewer file descriptors than may be needed.

    Attributes:
        needed: Enough for every connection that the settings allow.
        limit: The hard limit, which only an administrator can raise.

    """

    needed: int
    limit: int

    @property
    def remedy(self) -> str:
        """What an operator can do about it."""
        return (
            f"raise the hard limit of open files to {self.needed} (ulimit -Hn, LimitNOFILE of systemd, the container runtime), "
            "or lower http.max_connections"
        )


def take_file_descriptors(apps: int, connections: int) -> FileShortage | None:
    """
    Raise the soft limit to what this many ``apps`` may need, with ``connections`` to each endpoint.

    Return the shortage if the hard limit is too low for that. Raises SettingsError when not even one connection to each
    endpoint fits.
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
        raise SettingsError(
            [
                SettingProblem(
                    "ulimit -n", f"{shortage.remedy}: not even one connection to each endpoint fits", hard
                )
            ]
        )
    return shortage


def _needed(apps: int, connections: int) -> int:
    return apps * len(ENDPOINTS) * connections + MOST_CONNECTIONS + KAFKA + OWN
