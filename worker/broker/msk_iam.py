# The token that Amazon MSK takes for an IAM sign-in: a presigned URL (Signature Version 4), as AWS's own signers make it.
#
# botocore finds the credentials of the machine, pod or profile, renews them, and signs. It is an extra, so it is imported when a
# token is needed and not before. Not here: how long a token is kept (access_token_cache.py).

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from worker.broker.access_token_cache import AccessToken
from worker.broker.error_mapping import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME_SECONDS: Final = 900
"""What AWS's own signers ask for."""
SERVICE: Final = "kafka-cluster"
AGENT: Final = "moderation-worker"
_REMEDY: Final = (
    "give the worker AWS credentials: a role of the pod or the machine, AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY; they are looked for again for each token"
)


def fetcher(region: str) -> Callable[[], AccessToken]:
    """Return a function that makes a new token. It keeps botocore's session, which renews temporary credentials."""
    sessions: list[Any] = []

    def fetch() -> AccessToken:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra
        from botocore.session import Session  # noqa: PLC0415

        try:
            if not sessions:
                sessions.append(Session())
            found = sessions[0].get_credentials()
            if found is None:
                sessions.clear()  # it would remember that there are none
                raise CredentialError("token", "AWS's default chain finds no credentials", _REMEDY)
            return AccessToken(signed(found.get_frozen_credentials(), region), LIFETIME_SECONDS)
        except (BotoCoreError, ClientError) as error:
            sessions.clear()
            reason = f"AWS gives no credentials ({type(error).__name__})"  # the text may hold what is nobody's business
            raise CredentialError("token", reason, _REMEDY) from error

    return fetch


def signed(credentials: Any, region: str) -> str:
    """Return a token for these credentials, signed with the current time."""
    from botocore.auth import SigV4QueryAuth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415

    url = f"https://kafka.{region}.amazonaws.com/?{urlencode({'Action': f'{SERVICE}:Connect'})}"
    request = AWSRequest(method="GET", url=url)
    SigV4QueryAuth(credentials, SERVICE, region, expires=LIFETIME_SECONDS).add_auth(request)
    # Who asks is added behind the signature, as the brokers expect it.
    whole = f"{request.url}&{urlencode({'User-Agent': AGENT})}"
    return base64.urlsafe_b64encode(whole.encode()).decode().rstrip("=")
