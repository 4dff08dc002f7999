"""Every error the API can answer with: one class each, with its HTTP status and stable code.

Raised where the reason is known, turned into JSON in one place (`server.api`). A worker's
Failure carries the same codes.
"""


class ApiError(Exception):
    """Base of all errors a caller may see. ``message`` says what happened and what to do next."""

    status = 500
    code = "internal"
    retryable = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    """The request cannot be understood: JSON, types, shapes, lengths, text."""

    status, code = 400, "bad_request"


class Unauthorized(ApiError):
    """No key, or a key that no tenant has."""

    status, code = 401, "unauthorized"


class UnknownDomain(ApiError):
    """No such domain for this tenant (whether another tenant has it is nobody's business)."""

    status, code = 404, "unknown_domain"


class UnknownTier(ApiError):
    """The domain has no such tier."""

    status, code = 404, "unknown_tier"


class UnknownVersion(ApiError):
    """The domain's family has no such ticket."""

    status, code = 404, "unknown_version"


class NotFound(ApiError):
    """No such path."""

    status, code = 404, "not_found"


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    status, code = 405, "method_not_allowed"


class TooLarge(ApiError):
    """The body is over the limit."""

    status, code = 413, "too_large"


class Unsupported(ApiError):
    """A part of the protocol that this server does not offer."""

    status, code = 501, "unsupported"


class BelowQualityFloor(ApiError):
    """Every ticket that could answer stands below the tier's quality floor."""

    status, code = 503, "below_quality_floor"


class NoWorker(ApiError):
    """No live worker can be reached."""

    status, code, retryable = 503, "no_worker", True


class Overloaded(ApiError):
    """Queues are full, or no ticket can make the deadline."""

    status, code, retryable = 503, "overloaded", True


class WorkerLost(ApiError):
    """The worker died with the request, and no other could answer in time."""

    status, code, retryable = 503, "worker_lost", True


class TicketUnavailable(ApiError):
    """The routed ticket could not be loaded."""

    status, code, retryable = 503, "ticket_unavailable", True


class NotReady(ApiError):
    """The server, or this model, is not ready yet."""

    status, code, retryable = 503, "not_ready", True


class DeadlineExceeded(ApiError):
    """The deadline passed before an answer was there."""

    status, code = 504, "deadline_exceeded"


class InferenceFailed(ApiError):
    """The ticket's graph failed on this input."""

    status, code = 500, "inference_failed"


class Internal(ApiError):
    """A fault of ours; the request id finds it in the log."""


BY_CODE: dict[str, type[ApiError]] = {
    error.code: error
    for error in (
        BadRequest, Unauthorized, UnknownDomain, UnknownTier, UnknownVersion, NotFound, MethodNotAllowed, TooLarge,
        Unsupported, BelowQualityFloor, NoWorker, Overloaded, WorkerLost, TicketUnavailable, NotReady,
        DeadlineExceeded, InferenceFailed, Internal,
    )
}  # fmt: skip
