"""What the weights of an origin weigh, and by that how much memory their import asks for.

On a cluster a job may take no more than it asked for. What the files weigh is known before the job: a folder's and a
package's from the disk, a hub model's from the hub. Where only the job reaches the hub, it notes what is needed, and
the next attempt asks for that.
"""

from collections.abc import Callable
from fnmatch import fnmatch
from math import ceil
from pathlib import Path

from huggingface_hub import HfApi

from lrm_safety import observe
from services.trainer.ledger import Ledger
from services.trainer.origins import Origin, find_in_package

log = observe.logger(__name__)
LIBRARIES_GIB = 1.5  # with the interpreter
LEAST_GIB = 3.0
OF_SAFETENSORS = 1.1  # once, as they are stored; a tenth for a layer that is put together or multiplied meanwhile
OF_GGUF = 16.0  # twice in fp32, from 4 bits a weight
MORE = 4.0  # times as much, after an attempt that was killed
HUB_TIMEOUT_S = 10.0
NEEDED = "needed_gib"


def needed_gib(origin: Origin, is_offline: bool) -> float | None:
    """Memory for an import, in whole GiB; None when nobody here can say what the weights weigh."""
    try:
        in_memory = _hub_bytes(origin.place, is_offline) if origin.kind == "hub" else _disk_bytes(origin)
    except Exception as error:  # noqa: BLE001 - whatever hub or disk say, the import itself will say it better
        log.info("weights_not_weighed", origin=str(origin), error=type(error).__name__)
        return None
    return max(LEAST_GIB, float(ceil(LIBRARIES_GIB + in_memory / 2**30))) if in_memory else None


def decide_gib(
    ledger: Ledger, attempt: int, needed: Callable[[], float | None], was_killed: bool, most_gib: float
) -> float:
    """What an attempt asks for, said once: whoever submits its job again must ask for the same.

    MORE than the attempt before, where that one was killed; never above `most_gib`, all that there is: weights that
    are read from the disk again and again take longer, and still come in.
    """
    if said := ledger.chosen(_choice(attempt)):
        return float(said)
    wanted = float(ledger.chosen(NEEDED) or _noted(ledger, needed()) or LEAST_GIB)
    if was_killed:
        wanted = max(wanted, MORE * float(ledger.chosen(_choice(attempt - 1)) or LEAST_GIB))
    return float(ledger.choose(_choice(attempt), str(max(LEAST_GIB, min(wanted, most_gib)))))


def is_short(ledger: Ledger, needed: Callable[[], float | None], has_gib: float) -> bool:
    """Whether a job should leave it to the next attempt: it was given too little because nobody knew what it needs."""
    if ledger.chosen(NEEDED):
        return False
    return (_noted(ledger, needed()) or 0.0) > has_gib


def _noted(ledger: Ledger, gib: float | None) -> float | None:
    return float(ledger.choose(NEEDED, str(gib))) if gib else None


def _choice(attempt: int) -> str:
    return f"memory_gib-{attempt}"


def _disk_bytes(origin: Origin) -> float:
    """In memory. Raises NotFound for a package that is not installed here."""
    source = find_in_package(origin.place) if origin.kind == "package" else Path(origin.place)
    if source.suffix == ".gguf":
        return OF_GGUF * source.stat().st_size
    return OF_SAFETENSORS * sum(path.stat().st_size for path in source.glob("*.safetensors"))


def _hub_bytes(place: str, is_offline: bool) -> float:
    """In memory; 0 when the hub may not be asked, or does not say."""
    if is_offline:
        return 0.0
    name, _, revision = place.partition("@")
    info = HfApi().model_info(name, revision=revision or None, files_metadata=True, timeout=HUB_TIMEOUT_S)
    files = [each for each in info.siblings or () if fnmatch(each.rfilename, "*.safetensors")]
    return OF_SAFETENSORS * sum(each.size or 0 for each in files if "/" not in each.rfilename)
