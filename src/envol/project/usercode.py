"""Calling the user's code: whatever it raises says where it comes from."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envol.errors import EnvolError, Failure, ProjectError

LAST_CALLS = 3
ENVOL = str(Path(__file__).parent.parent)


@contextmanager
def user_code(what: str, node: str | None) -> Iterator[None]:
    """Turn whatever the user's code raises into an error of the node, the original as its cause.

    Raises:
        Failure: with the last lines of the traceback that are the user's own.
        ProjectError: when an estimator is asked that was never fitted.
    """
    try:
        yield
    except EnvolError as error:
        raise error.located(node=node) from error.__cause__
    except Exception as error:
        if type(error).__name__ == "NotFittedError":
            raise ProjectError(
                f"{what} failed, the estimator is not fitted",
                node=node,
                remedy="end the function with `return estimator.fit(X, y)`",
            ) from error
        raise Failure(
            f"{what} raised {type(error).__name__}: {str(error).strip()}\n{_last_lines(error)}",
            node=node,
            remedy=f"call {node or 'the function'} on the same rows in a notebook to look into it",
        ) from error


def _last_lines(error: Exception) -> str:
    """The last calls in the user's own files; of any file when there are none."""
    calls = [
        call for call in traceback.extract_tb(error.__traceback__) if not call.filename.startswith(ENVOL)
    ]
    own = [call for call in calls if "site-packages" not in call.filename]
    return "".join(traceback.format_list((own or calls)[-LAST_CALLS:])).rstrip()
