"""Files that are either whole or not there, whatever happens to the process that writes them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import zlib
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})\.(?P<pid>[1-9][0-9]*)\.[0-9a-f]{8}\.tmp")
_WRITING: set = set()  # names of the temporary files of this process


@contextlib.contextmanager
def replacing(path):
    """Give a name beside `path` to write to, which takes its place once the block has ended well.

    Whatever happens, even that the process is killed, `path` is either what it was or whole.  What
    a killed process leaves, :func:`clear_leftovers` removes.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    temporary : Path
        Gone after an error.

    Raises
    ------
    OSError
        If no file can take this place: see :func:`check_place`.
    """
    path = Path(path)
    check_place(path)
    name = f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    temporary = path.with_name(name)
    _WRITING.add(name)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _WRITING.discard(name)


def check_place(path):
    """Refuse a path that :func:`replacing` cannot replace by a file, or should not.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OSError
        If the path is a folder, a pipe or a device, or its folder is not there or not writable.
    """
    folder = Path(path).absolute().parent
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    of_system = folder.parts[1:2] in (("dev",), ("proc",)) and os.path.islink(path)  # /dev/stdout
    if of_system or (os.path.exists(path) and not os.path.isfile(path)):
        raise OSError(f"{path} is a pipe or a device, which a file would replace: give a file")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} for {Path(path).name}: make it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} can't be written to")


def clear_leftovers(folder):
    """Remove what :func:`replacing` left in a folder when its process was killed.

    Files of processes that may still be writing stay, and so do those of other machines.

    Parameters
    ----------
    folder : path-like
        It need not be there.
    """
    if os.name != "posix" or not os.path.isdir(folder):  # elsewhere signal 0 ends a process
        return
    for entry in list(os.scandir(folder)):
        found = _TEMPORARY.fullmatch(entry.name)
        if found and found["host"] == _host() and not _is_written(entry.name, int(found["pid"])):
            with contextlib.suppress(OSError):  # somebody else's
                os.unlink(entry.path)


def _is_written(name, pid):
    if pid == os.getpid():  # in containers, the process before may have had the same number
        return name in _WRITING
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _host():
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
