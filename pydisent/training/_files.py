"""Files that are either whole or not there."""

import json
import os
from pathlib import Path
from typing import IO, Any


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Return a path as files of runs keep it: from the root, whatever the working folder."""
    return None if path is None else str(Path(path).absolute())


def lock(file: IO[Any]) -> bool:
    """Lock an open file until all processes that inherit it have closed it; False if another has.

    There are no such locks on Windows: there it is always True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `data` to a temporary name beside `path`, flush it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not JSON; both name it.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}") from None
