"""Tasks that need isolation run in processes of their own, where a crash, a hang or a lack of memory is a
failed task and no more.

The processes stay warm from task to task. Tables go there and back as Arrow files, requests and answers over
a socket; what the user's code writes to its standard output and error goes to the task's log.
"""

from __future__ import annotations

from envol.pipeline.isolation.pool import Isolation

__all__ = ["Isolation"]
