"""What a run and its isolated processes tell each other, over a socket that also hands over open files.

A message is its length in four bytes, then JSON. A table is an Arrow file. The files have no names, so none
is left behind, however a process ends.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import msgspec
import polars as pl

from envol import errors
from envol.errors import DataError, EnvolError, StorageError

_LENGTH_BYTES = 4
_MOST_FILES = 253  # SCM_MAX_FD of Linux


class Closed(Exception):
    """The other side has closed the socket, or ended."""


class Request(msgspec.Struct, tag=True, frozen=True):
    """Make the window that starts at this epoch, or fit the model at this cutoff, from tables in files.

    `definition` are the hashes of the node as the run knows it.
    """

    node: str
    definition: list[str]
    tables: list[str]
    window: int | None = None
    cutoff: float | None = None


class Taken(msgspec.Struct, tag=True, frozen=True):
    """A batch has been taken: there is room for another."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The project is loaded."""


class Note(msgspec.Struct, tag=True, frozen=True):
    """A line about the progress of long work."""

    text: str


class Frame(msgspec.Struct, tag=True, frozen=True):
    """All rows, in a file."""


class Batch(msgspec.Struct, tag=True, frozen=True):
    """Some of the rows, in a file."""


class Complete(msgspec.Struct, tag=True, frozen=True):
    """There are no more batches."""


class Fitted(msgspec.Struct, tag=True, frozen=True):
    """A fitted model in three files: a pickle of what is no table, X, and y."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """An error; `kind` is its name in `envol.errors`."""

    kind: str
    message: str
    node: str | None
    window: str | None
    remedy: str | None

    @classmethod
    def of(cls, error: EnvolError) -> Failed:
        kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
        message = str(error.message).encode(errors="replace").decode()  # no half of a surrogate pair
        return cls(kind.__name__, message, error.node, error.window, error.remedy)

    def error(self) -> EnvolError:
        kind: type[EnvolError] = getattr(errors, self.kind)
        return kind(self.message, node=self.node, window=self.window, remedy=self.remedy)


Answer = Ready | Note | Frame | Batch | Complete | Fitted | Failed
Message = Request | Taken | Answer
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


def send(to: socket.socket, message: Message, files: Sequence[IO[bytes]] = ()) -> None:
    """Send a message with open files, which the receiver gets as its own.

    Raises:
        Closed: nobody listens any more.
    """
    body = _encode(message)
    data = len(body).to_bytes(_LENGTH_BYTES, "big") + body
    try:
        if files:
            sent = socket.send_fds(to, [data], [file.fileno() for file in files])
            data = data[sent:]
        to.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        raise Closed from None


def receive(source: socket.socket) -> tuple[Message, list[IO[bytes]]]:
    """The next message with its files, each at its start.

    Raises:
        Closed: there will be none.
    """
    try:
        head, descriptors, _, _ = socket.recv_fds(source, _LENGTH_BYTES, _MOST_FILES)
        files: list[IO[bytes]] = [os.fdopen(descriptor, "rb") for descriptor in descriptors]
        for file in files:
            file.seek(0)
        length = int.from_bytes(head + _exactly(source, _LENGTH_BYTES - len(head)), "big")
        return _decode(_exactly(source, length)), files
    except ConnectionResetError:
        raise Closed from None


def _exactly(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = source.recv(length - len(data))
        if not part:
            raise Closed
        data += part
    return data


def new_file(scratch: Path) -> IO[bytes]:
    """An open file without a name on the folder's disk: as fast as one in memory, as long as there is enough,
    and written out when there is not.
    """
    return tempfile.TemporaryFile(dir=scratch)


def table_file(frame: pl.DataFrame, scratch: Path) -> IO[bytes]:
    """A new file that holds the frame.

    Raises:
        DataError: a column's type is none of Arrow's.
        StorageError: the disk is full.
    """
    with ExitStack() as otherwise_closed:
        try:
            file = otherwise_closed.enter_context(new_file(scratch))
            frame.write_ipc(file)
        except OSError as error:
            raise StorageError(
                f"a table cannot be handed over in {scratch}: {error}", remedy="make space on that disk"
            ) from error
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"the table cannot be handed over: {error}", remedy="give each column a type of Arrow"
            ) from error
        otherwise_closed.pop_all()
        return file


def read_table(file: IO[bytes]) -> pl.DataFrame:
    """The frame that the file holds; closes the file."""
    with file:
        return pl.read_ipc(file)
