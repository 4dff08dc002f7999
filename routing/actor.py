"""The actor of what is done from a shell, for the audit log.

Owns how a person at a terminal is named there: as well as the machine knows them, which is no proof. Who calls over
HTTP is named by a key (`routing.access.Caller.actor`).
"""

import contextlib
import getpass
import socket


def shell_actor() -> str:
    """``shell/<user>@<host>``: who runs this process, as far as the machine says."""
    user = "unknown"
    with contextlib.suppress(KeyError, OSError):  # a user id without a name, as in containers
        user = getpass.getuser()
    return f"shell/{user}@{socket.gethostname()}"[:200]
