# One connection of kafka-python: how it is secured, how it signs in, and what a file that cannot be used is called.
#
# Its classes replace kafka-python's for the whole process (kafka_private_parts.py installs them). Certificates and keys are read
# from their files for each connection. Which connections fail, and what is made of it, is not here (kafka_private_parts.py).

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.future import Future as KafkaFuture
from kafka.net.connection import KafkaConnection
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from worker.broker.access_token_cache import AccessTokenCache
from worker.broker.error_mapping import CredentialError
from worker.tls_file_problems import tls_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

HANDSHAKE_SECONDS: Final = 10.0
"""As long as kafka-python waits for a TCP connection."""
TOKEN_SECONDS: Final = 6.0
"""How long a connection waits for an access token: a little longer than a request for one usually may take."""
READ_AGAIN: Final = "it is read again for each new connection"


def _data_before_end(received: tuple[bytes, Any]) -> tuple[bytes, Any]:
    """
    Return the received data without the end of the connection, if both came together; the next read finds the end.

    kafka-python drops data that arrives together with the end. That is how a broker answers a sign-in that it refuses, and
    the error would be only "socket disconnected".
    """
    data, error = received
    return data, None if data else error


class DrainingTcpTransport(KafkaTCPTransport):
    """Reads what a broker says before it closes the connection."""

    def _sock_recv(self) -> Any:
        theirs: Any = super()
        return _data_before_end(theirs._sock_recv())  # noqa: SLF001


class TlsTransportWithDeadline(KafkaSSLTransport):
    """Gives a handshake a deadline, names the file that is at fault, and never asks for a password at the terminal."""

    def __init__(self, net: Any, sock: Any, host: str | None = None, **config: Any) -> None:
        theirs: Any = super()
        try:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal, and block the loop.
            theirs.__init__(net, sock, host, **{**config, "ssl_password": config.get("ssl_password") or ""})
        except (OSError, ValueError) as error:
            sock.close()
            raise _unusable_file(config, error) from error
        except BaseException:
            # BaseException, so Ctrl-C too: kafka-python has no connection yet that would close the socket.
            sock.close()
            raise

    def _sock_recv(self) -> Any:
        theirs: Any = super()
        data, error = _data_before_end(theirs._sock_recv())  # noqa: SLF001
        return data, _certificate_refusal(self.ssl_config, error) or error

    # kafka-python waits for TLS without a limit. A port that accepts connections and says nothing (a frozen broker, a load
    # balancer without a backend) would block the start and each reconnection for ever, without a log line.

    async def handshake(self) -> None:
        """Shake hands within ``HANDSHAKE_SECONDS``. Raises CredentialError if the broker is not the one that it says it is."""
        until = time.monotonic() + HANDSHAKE_SECONDS
        try:
            while True:
                try:
                    self._sock.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._net.wait_read(self._sock, timeout_at=until)
                except ssl.SSLWantWriteError:
                    await self._net.wait_write(self._sock, timeout_at=until)
        except ssl.SSLCertVerificationError as error:
            self._sock.close()
            raise _not_trusted(self.ssl_config, error) from error
        except BaseException as error:
            # A task that is cancelled as well: nobody else knows this socket yet.
            self._sock.close()
            if (
                refused := _certificate_refusal(self.ssl_config, errors.KafkaConnectionError(error))
            ) is not None:
                raise refused from error
            raise


def _unusable_file(config: Mapping[str, Any], error: Exception) -> CredentialError:
    """Return the error that names the file of TLS that cannot be used, and why."""
    problem = next(tls_problems("kafka.common", config), None)
    if problem is None:  # it was written while it was read
        return CredentialError("certificate", f"the files of TLS cannot be used: {error}", READ_AGAIN)
    return CredentialError(
        "certificate", f"{problem.setting}: {problem.remedy}", f"put the right file there; {READ_AGAIN}"
    )


def _not_trusted(config: Mapping[str, Any], error: ssl.SSLCertVerificationError) -> CredentialError:
    trusted = config["ssl_cafile"] or "the system's authorities"
    return CredentialError(
        "certificate",
        f"the broker's certificate is not valid for {trusted} ({error.verify_message})",
        f"put the authority that has signed it into kafka.common.ssl_cafile; {READ_AGAIN}",
    )


def _certificate_refusal(config: Mapping[str, Any], error: Any) -> CredentialError | None:
    """Return the error to raise if the broker's alert says that it refuses our certificate; None if it says something else."""
    cause = error.args[0] if isinstance(error, errors.KafkaConnectionError) and error.args else None
    reason = str(getattr(cause, "reason", "") or "")
    if (
        not isinstance(cause, ssl.SSLError)
        or "ALERT" not in reason
        or not _ABOUT_US.intersection(reason.split("_"))
    ):
        return None
    alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
    if not config["ssl_certfile"]:
        return CredentialError(
            "certificate",
            f"the broker wants a certificate of the worker ({alert})",
            "set kafka.common.ssl_certfile and ssl_keyfile",
        )
    return CredentialError(
        "certificate",
        f"the broker refuses the certificate in {config['ssl_certfile']} ({alert})",
        f"put one there that the brokers trust and that has not expired, with its key; {READ_AGAIN}",
    )


_ABOUT_US: Final = frozenset({"CERTIFICATE", "CA"})
"""Words of the alerts that concern a certificate."""


class SaslConnection(KafkaConnection):
    """
    Signs in with what the files hold at that moment, and waits for an access token without blocking.

    kafka-python asks for a token while its loop waits, so a slow token server would stop heartbeats as well. Here the token
    is there before it asks; and one that a broker refuses is not used again.
    """

    fresh_secrets: Callable[[], Mapping[str, Any]] = dict
    """Returns the options that are kept in files, as they are now."""

    async def _sasl_authenticate(self, timeout_at: float | None = None) -> None:
        theirs: Any = super()
        self.config.update(self.fresh_secrets())  # a broker may ask again after a while
        tokens = self.config["sasl_oauth_token_provider"]
        if not isinstance(tokens, AccessTokenCache):
            await theirs._sasl_authenticate(timeout_at)  # noqa: SLF001
            return
        await done_within(self.net, tokens.request(), TOKEN_SECONDS)
        try:
            await theirs._sasl_authenticate(timeout_at)  # noqa: SLF001
        except errors.SaslAuthenticationFailedError:
            tokens.discard()
            raise


async def done_within(net: Any, future: Future[Any], seconds: float) -> bool:
    """Wait on kafka-python's loop, without blocking it, until any thread completes ``future``. Return False after ``seconds``."""
    done = KafkaFuture()

    def complete() -> None:
        if not done.is_done:
            done.success(None)

    def wake(_: object) -> None:
        try:
            net.call_soon_threadsafe(complete)
        except (AttributeError, RuntimeError):  # renamed, or the loop is closed: complete it without waking
            complete()

    future.add_done_callback(wake)
    timer = net.call_later(seconds, complete)
    try:
        await done
    finally:
        net.cancel(timer)
    return future.done()
