"""YAML -> Recipe. Strict: an unknown key or a wrong type names the file, the place and what is allowed.

Defaults are resolved here and so written down in the run that comes of it. A string where a message is expected
is shorthand for its main field: `attacks: [none]` is `attacks: [{attack: none}]`.
"""

import difflib
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from lrm_safety import gates
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import AttackSpec, DatasetSpec, Gate, Recipe, Sampling, TrainingSpec

M = TypeVar("M", bound=Message)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+")
_SHORTHAND = {"AttackSpec": "attack", "JudgeSpec": "judge", "BenchmarkSpec": "benchmark", "FilterSpec": "filter"}
_PYTHON_TYPES: dict[int, tuple[type, ...]] = {
    FieldDescriptor.CPPTYPE_STRING: (str,),
    FieldDescriptor.CPPTYPE_BOOL: (bool,),
    FieldDescriptor.CPPTYPE_INT32: (int,),
    FieldDescriptor.CPPTYPE_DOUBLE: (int, float),
    FieldDescriptor.CPPTYPE_MESSAGE: (dict,),
}
_TRAINING = TrainingSpec(
    method="sft",
    epochs=1,
    learning_rate=1e-5,
    batch_size=8,
    micro_batch_size=4,
    max_tokens=1024,
    warmup_ratio=0.05,
    weight_decay=1e-4,
    max_grad_norm=1.0,
    seed=42,
    precision="auto",
    thinking="keep",
    processes=1,
)


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, changed by `place.of.a.key=value`, defaults filled in.

    Raises NotFound, or InvalidInput with the place of the mistake.
    """
    return resolve(_read(path, changes), path.stem)


def load_dataset(path: Path) -> DatasetSpec:
    """The dataset of a recipe, which may hold nothing else, as `load` resolves it. Raises as `load`."""
    recipe = _read(path)
    if not recipe.dataset.parts:
        raise InvalidInput(f"{path}: dataset.parts is empty; expected at least one part")
    _resolve_dataset(recipe.dataset, recipe.name or path.stem)
    return recipe.dataset


def _read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    try:
        tree = read_yaml(path)
    except FileNotFoundError:
        raise NotFound(f"there is no recipe {path}; `ls recipes/` shows those that come with the project") from None
    for change in changes:
        _change(tree, change)
    return parse(tree, Recipe, str(path))


def _change(tree: Any, change: str) -> None:
    """Sets one value, written as in YAML, in a mapping of the tree."""
    place, equals, value = change.partition("=")
    *folders, key = place.split(".")
    for name in folders:
        tree = tree.setdefault(name, {}) if isinstance(tree, dict) else None
    if not equals or not isinstance(tree, dict):
        raise InvalidInput(f"--set {change!r}: expected section.key=value, such as training.epochs=3")
    try:
        tree[key] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InvalidInput(f"--set {change!r}: {value!r} is not YAML") from None


def read_yaml(path: Path) -> Any:
    """The file's tree. Raises FileNotFoundError, or InvalidInput with the line of the mistake."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InvalidInput(f"{where}: not YAML ({getattr(error, 'problem', 'not UTF-8')})") from None


def parse(tree: Any, kind: type[M], where: str) -> M:
    """A message from a YAML tree, checked key by key. Raises InvalidInput."""
    described = cast(Descriptor, kind.DESCRIPTOR)
    if not isinstance(tree, dict):
        raise InvalidInput(f"{where}: expected a mapping with {_names(described)}")
    try:
        return ParseDict(_checked(tree, described, where), kind())
    except ParseError as error:
        raise InvalidInput(f"{where}: {error}") from None


def resolve(recipe: Recipe, stem: str) -> Recipe:
    """The same recipe with every default written down, and checked as a whole."""
    done = Recipe()
    done.CopyFrom(recipe)
    done.name = done.name or stem
    if not done.model:
        raise InvalidInput(f"recipe {done.name}: `model` is missing; expected a checkpoint, see `lrm models list`")
    if done.HasField("training") != done.HasField("dataset"):
        raise InvalidInput(f"recipe {done.name}: `dataset` and `training` go together; one of them is missing")
    if done.stages and not done.HasField("training"):
        raise InvalidInput(f"recipe {done.name}: `stages` come before `training`, which is missing")
    for number, stage in enumerate(done.stages, start=1):
        _resolve_training(stage.dataset, stage.training, f"{done.name}_stage_{number}")
    if done.HasField("training"):
        _resolve_training(done.dataset, done.training, done.name)
    _resolve_evaluation(done)
    if done.HasField("gate"):
        _resolve_gate(done)
    return done


def _resolve_training(dataset: DatasetSpec, training: TrainingSpec, name: str) -> None:
    filled = TrainingSpec()
    filled.CopyFrom(_TRAINING)
    filled.MergeFrom(training)
    filled.name = filled.name or name
    training.CopyFrom(filled)
    _resolve_dataset(dataset, name)


def _resolve_dataset(dataset: DatasetSpec, name: str) -> None:
    dataset.name = dataset.name or name
    for number, part in enumerate(dataset.parts):
        part.name = part.name or f"{part.builder}_{number}"


def _resolve_evaluation(recipe: Recipe) -> None:
    evaluation = recipe.evaluation
    if not evaluation.benchmarks:
        raise InvalidInput(f"recipe {recipe.name}: `evaluation.benchmarks` is empty; see `lrm list benchmarks`")
    sampling = Sampling(temperature=0.0, top_p=1.0)  # max_tokens: each benchmark has its own
    sampling.MergeFrom(evaluation.sampling)
    evaluation.sampling.CopyFrom(sampling)
    named = {attack.name or attack.attack for attack in evaluation.attacks}
    for attack in evaluation.attacks:
        attack.name = attack.name or attack.attack
    for benchmark in evaluation.benchmarks:
        if not benchmark.attacks:
            benchmark.attacks.append("none")
        benchmark.repeats = benchmark.repeats or 1
    used = {name for benchmark in evaluation.benchmarks for name in benchmark.attacks}
    evaluation.attacks.extend(AttackSpec(name=name, attack=name) for name in sorted(used - named))


def _resolve_gate(recipe: Recipe) -> None:
    filled = Gate(max_invalid=0.05)
    filled.MergeFrom(recipe.gate)
    try:
        recipe.gate.CopyFrom(gates.resolve(filled))
    except InvalidInput as error:
        raise InvalidInput(f"recipe {recipe.name}: {error}") from None


def _checked(tree: dict[Any, Any], kind: Descriptor, where: str) -> dict[str, Any]:
    known = {field.name: field for field in kind.fields}
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InvalidInput(f"{where}: unknown key {key!r}; {hint}allowed: {_names(kind)}")
    return {key: _value(value, known[key], f"{where}: {key}") for key, value in tree.items()}


def _value(value: Any, field: FieldDescriptor, where: str) -> Any:
    if _is_map(field):
        return _map(value, field, where)
    if not field.is_repeated:
        return _single(value, field, where)
    if not isinstance(value, list):
        raise InvalidInput(f"{where}: expected a list, got {type(value).__name__}")
    return [_single(each, field, f"{where}[{number}]") for number, each in enumerate(value)]


def _map(value: Any, field: FieldDescriptor, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: expected a mapping, got {type(value).__name__}")
    assert field.message_type is not None
    of = field.message_type.fields_by_name["value"]
    if of.cpp_type == FieldDescriptor.CPPTYPE_STRING:  # options are text on the wire; YAML may write 8 for "8"
        return {str(key): str(each) for key, each in value.items()}
    return {str(key): _single(each, of, f"{where}.{key}") for key, each in value.items()}


def _single(value: Any, field: FieldDescriptor, where: str) -> Any:
    expected = _PYTHON_TYPES[field.cpp_type]
    if isinstance(value, date) and str in expected:
        return value.isoformat()  # YAML reads 2030-01-31 as a date
    if field.message_type is not None:
        main = _SHORTHAND.get(field.message_type.name)
        if main and isinstance(value, str):
            value = {main: value}
        if isinstance(value, dict):
            return _checked(value, field.message_type, where)
    elif float in expected and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)  # YAML 1.1 reads 1e-5, without a dot, as text
    elif isinstance(value, expected) and not (isinstance(value, bool) and bool not in expected):
        return value
    names = " or ".join(kind.__name__ for kind in expected).replace("dict", "mapping")
    raise InvalidInput(f"{where}: expected {names}, got {type(value).__name__}")


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _names(kind: Descriptor) -> str:
    return ", ".join(field.name for field in kind.fields)
