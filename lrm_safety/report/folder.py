"""The report as a folder of files, each one there whole or not at all."""

import errno
import json
import os
import tempfile
from pathlib import Path

from lrm_safety.errors import Conflict, Exhausted
from lrm_safety.report.document import as_json
from lrm_safety.report.facts import ReportData
from lrm_safety.report.github import markdown
from lrm_safety.report.page import html
from lrm_safety.report.plots import axes_svg


def write_folder(data: ReportData, folder: Path, *, with_samples: bool = True) -> list[Path]:
    """Writes report.html, report.md, report.json and axes.svg; returns their paths, the page first.

    `with_samples=False`: the page holds no prompt and no answer. Raises Exhausted when the disk is full, Conflict when
    the folder cannot be written.
    """
    files = {
        "report.html": html(data, with_samples=with_samples),
        "report.md": markdown(data, picture="axes.svg"),
        "report.json": json.dumps(as_json(data), indent=2, ensure_ascii=False) + "\n",
        "axes.svg": axes_svg(data),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, text.encode()) for name, text in files.items()]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(f"no space left for the report in {folder}; free some and ask again") from error
        raise Conflict(f"the report cannot be written to {folder} ({error.strerror}); name another folder") from error


def _write(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return path
