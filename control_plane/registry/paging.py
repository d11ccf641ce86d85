"""Cursors of lists: opaque to the client, the last key shown to us. PURE.

A page is read from behind a key, never by counting rows from the start, so its cost does not grow with the fleet.
"""

import base64
import binascii

from control_plane.registry.problem import FieldError, Problem, ProblemRaised

PAGE = 100
LONGEST_PAGE = 500


def next_cursor(last: str, more: bool) -> str | None:
    """The cursor of the page behind `last`, or None if there is none."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=") if more else None


def after(cursor: str | None) -> str:
    """The key behind which a page begins; "" for the first page. Raises ProblemRaised (422) for what no list gave."""
    if not cursor:
        return ""
    try:
        last = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        last = ""
    if not last or not last.isprintable():  # Postgres takes no NUL
        errors = [FieldError("?cursor", "is not one that a list gave")]
        raise ProblemRaised(Problem(422, "the cursor is not one that a list gave", "invalid", errors))
    return last
