"""Inspect in an environment of its own, and what it runs there."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSPECT = "inspect-ai==0.3.285"


@pytest.fixture(scope="session")
def inspect_python() -> Path:
    """A Python with Inspect in it, made once: it needs a hundred packages that nothing else here needs."""
    python, ready = ROOT / ".venv-inspect" / "bin" / "python", ROOT / ".venv-inspect" / INSPECT
    if not ready.exists():
        uv = str(ROOT / ".venv" / "bin" / "uv") if (ROOT / ".venv" / "bin" / "uv").exists() else "uv"
        if shutil.which(uv) is None:
            pytest.skip("uv is missing: `make setup` installs it")
        subprocess.run([uv, "venv", "-q", "--allow-existing", str(ready.parent)], check=True)
        install = [uv, "pip", "install", "-q", "--python", str(python), INSPECT]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{INSPECT} cannot be had from PyPI: {done.stderr.strip().splitlines()[-1]}")
        ready.touch()
    return python
