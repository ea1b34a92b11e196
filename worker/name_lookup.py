# Names of hosts, looked up on daemon threads, one for each name: a DNS that hangs holds up nothing but the connections to that host.
#
# The resolver of the system blocks, for as long as its own timeouts say. On an event loop's own pool of threads a few look-ups that hang
# would make those of all other names wait, and the end of the loop as well. Nothing that was found is kept here.

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future


class NameLookups:
    """
    The look-ups under way: one thread for a name, however many connections ask for it while the resolver is slow.

    ``thread_name`` names the threads, ``flags`` are those of ``socket.getaddrinfo``.
    """

    def __init__(self, thread_name: str, flags: int = 0) -> None:
        self._thread_name = thread_name
        self._flags = flags
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[list[str]]] = {}

    def __repr__(self) -> str:
        return f"<NameLookups of {', '.join(self._under_way) or 'nothing'}>"

    def addresses(self, host: str) -> Future[list[str]]:
        """
        Return a future of the addresses of ``host``, which others may wait for as well. It may take as long as the resolver does.

        It fails with OSError if the host has none, or this machine no thread to ask with. Nobody can cancel it.
        """
        with self._lock:
            asked = self._under_way.get(host)
            if asked is not None:
                return asked
            asked = self._under_way[host] = Future()
            asked.set_running_or_notify_cancel()
        try:
            threading.Thread(
                target=self._run, args=(host, asked), name=self._thread_name, daemon=True
            ).start()
        except RuntimeError as error:  # the next connection asks again
            self._end(host, asked, OSError(f"this machine gives no thread: {error}"))
        return asked

    def _run(self, host: str, asked: Future[list[str]]) -> None:
        try:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=self._flags)
        except OSError as error:
            self._end(host, asked, error)
        except UnicodeError as error:
            self._end(host, asked, OSError(f"not a name of a host: {error}"))
        else:
            self._end(host, asked, list(dict.fromkeys(str(place[0]) for *_, place in places)))

    def _end(self, host: str, asked: Future[list[str]], found: list[str] | OSError) -> None:
        with self._lock:
            del self._under_way[host]
        if isinstance(found, OSError):
            asked.set_exception(found)
        else:
            asked.set_result(found)
