"""A data file on the Hugging Face hub: path is owner/name or owner/name/file; revision a branch, tag or commit."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is whichever httpx the hub speaks
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.source import Numbered, Source, format_of, reader_of

T = TypeVar("T")
_TIMEOUT_S = 20.0


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    """The revision is pinned to its commit now; the file is fetched when it is read, into the hub's own cache."""
    owner, _, rest = spec.path.partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise InvalidInput(f"hub path {spec.path!r}: expected owner/name or owner/name/file")
    repo = f"{owner}/{name}"
    if settings.hub_offline:
        raise Unavailable(f"the hub is switched off (HF_HUB_OFFLINE), so {repo} cannot be asked for; {_ELSE}")
    info = _ask(repo, lambda: HfApi().dataset_info(repo, revision=spec.revision or None, timeout=_TIMEOUT_S))
    file = _choose(repo, file, [each.rfilename for each in info.siblings or []])
    licence = str(getattr(info.card_data, "license", None) or "")
    name = f"{repo}@{info.sha}/{file}"
    return Source(name, name, licence, lambda: _read(repo, file, str(info.sha)))


_ELSE = "fetch the file where a hub is reachable and name it with `source: jsonl`, json, csv or parquet"


def _read(repo: str, file: str, commit: str) -> Numbered:
    path = Path(_ask(repo, lambda: str(HfApi().hf_hub_download(repo, file, repo_type="dataset", revision=commit))))
    return reader_of(file)(path)


def _choose(repo: str, file: str, there: list[str]) -> str:
    """The named file, or the only data file there is."""
    data = [each for each in there if format_of(each)]
    if file in data:
        return file
    if not file and len(data) == 1:
        return data[0]
    what = f"no data file {file!r}" if file else f"{len(data)} data files; name one"
    raise InvalidInput(f"hub data set {repo} has {what}; there are: {', '.join(data[:20]) or 'none'}")


def _ask(repo: str, question: Callable[[], T]) -> T:
    try:
        return question()
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NotFound(
            f"the hub has no data set {repo} for you ({type(error).__name__}); check id and revision"
        ) from None
    except (HfHubHTTPError, HTTPError, EntryNotFoundError, OSError) as error:
        raise Unavailable(f"the hub does not give {repo} ({type(error).__name__}); try again, or {_ELSE}") from None
