"""A gate policy: which checkpoints are gated without being asked, against what, and who is told. Strict YAML.

checkpoints: ["smollm2-*"]                     # names; a name is a line of checkpoints
evaluation: {benchmarks: [demo_harm, demo_math]}
gate: {margins: {harm: 0.0, reasoning: 0.1}}
callbacks: [{github: owner/repository}]
"""

import fnmatch
import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

from lrm_safety import jsonl, recipe
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Callback, GateSpec, Policy, Recipe
from lrm_safety.settings import PRIORITIES

SETTLE_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def load(path: Path) -> Policy:
    """The policy in a file, defaults filled in. Raises NotFound, or InvalidInput with the place of the mistake."""
    try:
        tree = recipe.read_yaml(path)
    except FileNotFoundError:
        raise NotFound(f"there is no policy {path}; k8s/ci/gate.yaml is one to start from") from None
    return resolve(recipe.parse(tree, Policy, str(path)), path.stem)


def resolve(policy: Policy, stem: str = "") -> Policy:
    """The same policy with every default written down, and checked as a whole. Raises InvalidInput."""
    done = Policy()
    done.CopyFrom(policy)
    done.name = done.name or stem
    where = f"policy {done.name}"
    if not _NAME.fullmatch(done.name):
        raise InvalidInput(f"policy name {done.name!r}: expected letters, digits, '.', '_' and '-', at most 63")
    for key in ("endpoint", "baseline_run", "gate", "history"):
        if key in {field.name for field, _ in done.evaluation.ListFields()}:
            raise InvalidInput(f"{where}: `evaluation.{key}` is set; leave it out: it is another for each checkpoint")
    if not done.gate.margins:
        raise InvalidInput(f"{where}: `gate.margins` is empty; without margins nothing can pass: {{harm: 0.02}}, say")
    as_recipe = recipe.resolve(Recipe(name=where, model="-", evaluation=done.evaluation, gate=done.gate), where)
    done.evaluation.CopyFrom(as_recipe.evaluation)
    done.gate.CopyFrom(as_recipe.gate)
    done.priority = done.priority or "filler"
    if done.priority not in PRIORITIES:
        raise InvalidInput(f"{where}: `priority` is {done.priority!r}; expected one of {', '.join(PRIORITIES)}")
    if not done.HasField("settle_s"):
        done.settle_s = SETTLE_S
    if not 0 <= done.settle_s <= 86_400:
        raise InvalidInput(f"{where}: `settle_s` is {done.settle_s:g}; expected 0 to 86400 seconds")
    for callback in done.callbacks:
        _check_callback(callback, where)
    return done


def concerns(policy: Policy, checkpoint: str) -> bool:
    """Whether a checkpoint of that name is gated by itself."""
    return any(fnmatch.fnmatchcase(checkpoint, pattern) for pattern in policy.checkpoints)


def suite_digest(spec: GateSpec) -> str:
    """sha256 over what is measured and how it is decided: evaluation, gate, engine."""
    what = GateSpec(evaluation=spec.evaluation, gate=spec.gate, engine=spec.engine)
    return hashlib.sha256(jsonl.canonical(what)).hexdigest()


def check_commit(commit: str, where: str) -> str:
    """The commit itself, or empty. Raises InvalidInput."""
    if commit and not _COMMIT.fullmatch(commit):
        raise InvalidInput(f"{where}: commit {commit!r}; expected the 40 hex digits of a git commit")
    return commit


def _check_callback(callback: Callback, where: str) -> None:
    if bool(callback.url) == bool(callback.github):
        raise InvalidInput(f"{where}: a callback has either `url` or `github`")
    if callback.github and not _REPOSITORY.fullmatch(callback.github):
        raise InvalidInput(f"{where}: callback github {callback.github!r}; expected owner/repository")
    if callback.url and (urlsplit(callback.url).scheme not in ("http", "https") or not urlsplit(callback.url).hostname):
        raise InvalidInput(f"{where}: a callback's url is no http(s) address")
    check_commit(callback.commit, where)
