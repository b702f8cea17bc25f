"""A gRPC error as a sentence that says what to do, and as a class that says whether to ask again."""

import re

from tritonclient.utils import InferenceServerException

from core.errors import UserError
from ensemble.client.access import Access
from ensemble.headers import SECRET_HEADER

# Starts of messages that come from Triton itself, though their status is that of a server that is not there.
TRITON_REFUSALS = ("Request for unknown model", "explicit model load")
# In what gRPC itself says of a connection that is not there; any other sentence is the server's.
CONNECTION = re.compile(
    "failed to connect|[Cc]onnection|connections to all|Socket closed|recvmsg|sendmsg|GOAWAY|RST_STREAM|[Kk]eepalive|"
    "[Kk]eep-alive|[Ss]tream removed|Broken pipe|[Hh]andshake|[Rr]esolution|resolver|address list|[Cc]hannel|"
    "Cancelling all calls|[Tt]ransport|[Ee]ndpoint"
)
TOO_LARGE = "message larger than max"  # gRPC's, with the status of a busy server


class NoServerError(UserError):
    """There is no answer: no server, or no TLS connection with it."""


class NoTlsError(NoServerError):
    """A server is there, and no TLS connection with it."""


class AwayError(NoServerError):
    """A server is there, and says that it cannot answer at the moment."""


class NotServedError(UserError):
    """Triton does not serve the model, or does not at the moment."""


class TimedOutError(UserError):
    """The server took the request, and did not answer in time."""


class BusyError(UserError):
    """The server has more requests than it takes; it refused this one at once."""


def user_error(error: InferenceServerException, url: str, access: Access, *, timeout: float, command: str) -> UserError:
    """What to raise instead of a gRPC error.

    Args:
        timeout: seconds that the answer was waited for, for the message.
        command: the command line that starts a server, for the message.
    """
    status, message = str(error.status()), " ".join(str(error.message()).split())
    if "protocol is restricted" in message:
        if SECRET_HEADER not in message:
            return UserError("Triton refused: no client may use that")
        reason = "a different secret" if access.secret else "a secret; give the same one"
        return UserError(f"Triton refused: {url} was started with {reason}")
    if "DEADLINE_EXCEEDED" in status:
        return TimedOutError(f"Triton at {url} did not answer within {timeout:g} s")
    if "RESOURCE_EXHAUSTED" in status and TOO_LARGE not in message:
        return BusyError(f"{url} is busy: {message}")
    if "CANCELLED" in status:  # not by this client: an overloaded gRPC server resets what it cannot take
        return AwayError(f"{url} dropped the request: {message}")
    if "UNAVAILABLE" not in status:
        return UserError(f"Triton refused: {message}")
    if message.startswith(TRITON_REFUSALS):
        return NotServedError(f"Triton refused: {message}")
    if "CERTIFICATE_VERIFY_FAILED" in message or "Hostname Verification" in message:
        return NoTlsError(f"the certificate of {url} was not issued by {access.ca} under that name")
    if "WRONG_VERSION_NUMBER" in message:
        return NoTlsError(f"{url} does not speak TLS; ask it without a root certificate")
    if "Socket closed" in message:
        return NoServerError(
            f"{url} ended the connection; if it was started with TLS, give certificates that it accepts"
        )
    if message and not CONNECTION.search(message):
        return AwayError(f"{url} cannot answer at the moment: {message}")
    return NoServerError(f"no Triton answers at {url}; start one with: {command}")
