"""Every error the API can answer with: one class each, with its HTTP status and stable code.

Raised where the reason is known, turned into JSON in one place (`server.api`). A worker's
Failure carries the same codes.
"""


class ApiError(Exception):
    """Base of all errors a caller may see. ``message`` says what happened and what to do next."""

    status = 500
    code = "internal"
    retryable = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What its answer says in headers besides what every error says."""

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


class Forbidden(ApiError):
    """The key is known, but its role does not allow this."""

    status, code = 403, "forbidden"


class Suspended(ApiError):
    """The tenant is suspended: nothing is answered until an operator resumes it."""

    status, code = 403, "suspended"


class TicketQuota(ApiError):
    """The tenant's quota of tickets or of their bytes is used up: retire some, or ask for more."""

    status, code = 403, "ticket_quota_exceeded"


class UnknownTenant(ApiError):
    """No such tenant, or none that this key may know of."""

    status, code = 404, "unknown_tenant"


class UnknownKey(ApiError):
    """The tenant has no such key."""

    status, code = 404, "unknown_key"


class UnknownTicket(ApiError):
    """The tenant has registered no such ticket."""

    status, code = 404, "unknown_ticket"


class Conflict(ApiError):
    """It cannot be done in the state that things are in, or somebody else has changed them meanwhile."""

    status, code = 409, "conflict"


class PreconditionFailed(ApiError):
    """If-Match names another version than the one that stands: look again, then decide."""

    status, code = 412, "precondition_failed"


class Refused(ApiError):
    """The gate has refused the ticket; nothing of it is kept. The report says at which step and why."""

    status, code = 422, "refused"


class RateLimited(ApiError):
    """The tenant has used up its rate, its concurrency or its day's requests."""

    status, code, retryable = 429, "rate_limited", True
    limit = ""
    """Which one: ``rate``, ``concurrency`` or ``day``."""


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
    """A part of the protocol that this server, or this model, does not offer."""

    status, code = 400, "unsupported"


class NotPromoted(ApiError):
    """The domain has tickets, but none of them has been promoted yet: name one as version, or promote one."""

    status, code = 503, "not_promoted"


class StorageFull(ApiError):
    """There is no room to keep the upload; nothing of it is kept."""

    status, code = 507, "storage_full"


class ControlPlaneGone(ApiError):
    """Redis cannot be reached: nothing can be changed now; inference goes on from what is known."""

    status, code, retryable = 503, "control_plane_unavailable", True


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
        BadRequest, Unauthorized, Forbidden, Suspended, TicketQuota, UnknownTenant, UnknownKey, UnknownTicket,
        UnknownDomain, UnknownTier, UnknownVersion, NotFound, MethodNotAllowed, Conflict, PreconditionFailed, TooLarge,
        Refused, RateLimited, Unsupported, NotPromoted, BelowQualityFloor, NoWorker, Overloaded, WorkerLost,
        TicketUnavailable, NotReady, ControlPlaneGone, StorageFull, DeadlineExceeded, InferenceFailed, Internal,
    )
}  # fmt: skip
