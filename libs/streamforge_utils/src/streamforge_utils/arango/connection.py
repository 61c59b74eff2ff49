"""The driver's connection, and which answers it takes for ArangoDB's."""

from typing import Final
from urllib.parse import urlsplit

from arango.connection import BasicConnection
from arango.response import Response

from streamforge_utils.arango.failures import UNAVAILABLE
from streamforge_utils.arango.transport import address
from streamforge_utils.errors import TransientError

MAX_BODY_SHOWN = 80
_REFUSALS: Final = frozenset({401, 403, UNAVAILABLE})
"""They mean the same whoever stands before the server and says them."""


class CheckedConnection(BasicConnection):
    """Believes nothing that ArangoDB does not say: a proxy's page with status 200 is no confirmation of anything."""

    def prep_response(self, resp: Response, deserialize: bool = True) -> Response:
        """The parsed answer.

        Raises:
            TransientError: it is not ArangoDB's.
        """
        answer = super().prep_response(resp, deserialize)
        if not _is_ours(answer):
            raise not_ours(answer)
        return answer


def not_ours(answer: Response) -> TransientError:
    """The error for an answer that something else gave, or that does not fit the request."""
    kind = answer.headers.get("content-type", "no content type")
    begin = " ".join(answer.raw_body[:MAX_BODY_SHOWN].split())
    came = f"status {answer.status_code}, {kind}: {begin}"
    return TransientError(f"{address(answer.url)} does not answer as ArangoDB does (a proxy?): {came}")


def _is_ours(answer: Response) -> bool:
    body = answer.body
    if not answer.is_success:
        return answer.status_code in _REFUSALS or (isinstance(body, dict) and "errorNum" in body)
    if "/_api/document/" in urlsplit(answer.url).path:
        return isinstance(body, list) or (isinstance(body, dict) and (not body or "_rev" in body))
    return isinstance(body, dict) and body.get("error") is False
