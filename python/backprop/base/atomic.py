"""Files that are replaced in one piece."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any

from backprop.base import checks as check

# What systems say that cannot open or sync a folder, or where it may be written to, but not read.
_NO_FOLDERS = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ENOTSUP)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that, whatever happens, `path` holds either what it held before or all of `data`.

    Only a regular file is ever replaced: a folder is an IsADirectoryError, a device or a pipe a ValueError. The data go
    to a temporary file in the same folder. It gets the permissions of the one it is to replace, and its owner and group
    as far as the process may give them; it is synced to the disk and then renamed. Syncing the folder, where the system
    can, makes the new name last.
    """
    target = os.path.realpath(path_name(path))  # a link stays, the file it leads to is replaced
    if os.path.exists(target) and not os.path.isfile(target):
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path_name(path))
        raise ValueError(
            f"path: needs a regular file or a name that is free, got a device or a pipe: {path_name(path)}"
        )
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".backprop-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            with contextlib.suppress(OSError):  # there was none, or the file system has no permissions
                _take_permissions(os.stat(target), temporary)  # before there is anything to read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        # A full disk names no file; an error that has no number has nothing but its own text.
        if isinstance(error, OSError) and error.errno is not None and error.filename in (temporary, None):
            error.filename = path_name(path)  # which means more to who called
        raise
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise


def _take_permissions(old: os.stat_result, path: str) -> None:
    """Give a file the owner, the group and the permissions of an old one, as far as the process may."""
    if sys.platform != "win32":
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with contextlib.suppress(OSError):
                os.chown(path, owner, group)
    os.chmod(path, old.st_mode & 0o777)


def path_name(path: Any) -> str:
    """Return a path as text; an integer, which `open` takes for an open file, is none."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: needs text, bytes or a path object, got {check.shown(path)}") from None
    if "\0" in name:
        raise ValueError(f"path: needs a name without null characters, got {check.shown(name)}")
    return name
