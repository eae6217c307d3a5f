"""What an evaluation will do: a BenchSpec checked, its defaults written down, its samples and attacks opened."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lrm_safety import gates, registry
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import (
    AttackSpec,
    BenchmarkSpec,
    BenchSpec,
    Endpoint,
    GenerateRequest,
    GetEndpointRequest,
    JudgeSpec,
    ListPluginsRequest,
    Sample,
    Sampling,
)
from lrm_safety.settings import Settings
from services.bench import attack, benchmark
from services.bench.attack import Attack, AttackContext, open_attack
from services.bench.benchmark import Benchmark, load_benchmark

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Suite:
    """One benchmark under its attacks, with its judges; the first judge decides."""

    benchmark: Benchmark
    attacks: tuple[Attack, ...]
    judges: tuple[JudgeSpec, ...]
    repeats: int
    sampling: Sampling


@dataclass(frozen=True)
class Task:
    """One completion to get and to judge."""

    key: str
    suite: Suite
    attack: Attack
    sample: Sample
    repeat: int


@dataclass(frozen=True)
class Plan:
    spec: BenchSpec  # resolved
    endpoint: Endpoint
    suites: tuple[Suite, ...]
    inputs: tuple[str, ...]  # digests that make the run's id, beside the spec; the first is of the model's weights

    def tasks(self) -> Iterator[Task]:
        for suite in self.suites:
            name = suite.benchmark.name
            for each in suite.attacks:
                for sample in suite.benchmark.samples:
                    for repeat in range(suite.repeats):
                        yield Task(f"{name}/{each.name}/{sample.id}/{repeat}", suite, each, sample, repeat)

    def counts(self) -> dict[tuple[str, str, str], int]:
        """(benchmark, attack, role) -> samples of a whole run, repeats and all."""
        return {
            (suite.benchmark.name, each.name, suite.benchmark.role): len(suite.benchmark.samples) * suite.repeats
            for suite in self.suites
            for each in suite.attacks
        }


def make_plan(spec: BenchSpec, settings: Settings, clients: Clients) -> Plan:
    """Raises InvalidInput naming the field, and NotFound for unknown names, endpoints and missing files."""
    check(spec)
    judges = {plugin.name: plugin.digest for plugin in rpc(clients.judge.ListPlugins, ListPluginsRequest()).plugins}
    _check_judges(spec, judges)
    endpoint = rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=spec.endpoint))
    benchmarks = [load_benchmark(each, settings.data_dir, spec.seed) for each in spec.benchmarks]
    resolved = resolve(spec, benchmarks)
    attacks = {each.name: _open(each, resolved, settings, clients) for each in resolved.attacks}
    suites = tuple(
        Suite(
            loaded, tuple(attacks[a] for a in each.attacks), tuple(each.judges), each.repeats, _sampling(resolved, each)
        )
        for each, loaded in zip(resolved.benchmarks, benchmarks, strict=True)
    )
    return Plan(resolved, endpoint, suites, (endpoint.weights_digest, *_digests(suites, judges, clients)))


def check(spec: BenchSpec) -> None:
    """The spec alone, without files or services. Raises InvalidInput."""
    if not spec.endpoint:
        raise InvalidInput("`endpoint` is empty; expected the name of a deployed model, see `lrm deploy --help`")
    if not spec.benchmarks:
        raise InvalidInput(f"`benchmarks` is empty; expected at least one of {_known(benchmark.FOLDER)}")
    _check_sampling(spec.sampling)
    _check_attacks(spec)
    seen: set[str] = set()
    if spec.HasField("gate") != bool(spec.baseline_run):
        raise InvalidInput("`gate` and `baseline_run` go together; expected both or none of them")
    if spec.HasField("gate") and spec.gate.method != gates.SEQUENTIAL:
        raise InvalidInput(f"`gate.method` is {spec.gate.method!r}; while measuring it has to be {gates.SEQUENTIAL}")
    if spec.history and spec.gate.claim != gates.ITEMS:
        raise InvalidInput(f"`history` is there without a gate whose claim is {gates.ITEMS}; leave it out")
    for each in spec.benchmarks:
        where = f"benchmarks.{each.benchmark}"
        _check_plugin("benchmark", benchmark.FOLDER, each.benchmark)
        if each.benchmark in seen:
            raise InvalidInput(f"{where} is there twice; name each benchmark once, with all its attacks")
        seen.add(each.benchmark)
        for name in ("limit", "repeats", "max_tokens"):
            if getattr(each, name) < 0:
                raise InvalidInput(f"{where}.{name} is {getattr(each, name)}; expected 0 (the default) or more")
        for what, names in (("attacks", list(each.attacks)), ("judges", [j.judge for j in each.judges])):
            if len(set(names)) < len(names):
                raise InvalidInput(f"{where}.{what} names one twice: {', '.join(names)}; expected each once")


def resolve(spec: BenchSpec, benchmarks: list[Benchmark]) -> BenchSpec:
    """The same spec with every default written down, so that a run explains itself."""
    done = BenchSpec()
    done.CopyFrom(spec)
    for each, loaded in zip(done.benchmarks, benchmarks, strict=True):
        if not each.attacks:
            each.attacks.append("none")
        if not each.judges:
            each.judges.extend(JudgeSpec(judge=name) for name in loaded.judges)
        each.repeats = each.repeats or 1
        each.max_tokens = each.max_tokens or spec.sampling.max_tokens or loaded.max_tokens
    for given in done.attacks:
        given.name = given.name or given.attack
    if done.HasField("gate"):
        done.gate.CopyFrom(gates.resolve(done.gate))
    named = {given.name for given in done.attacks}
    used = {name for each in done.benchmarks for name in each.attacks}
    done.attacks.extend(AttackSpec(name=name, attack=name) for name in sorted(used - named))
    return done


def _check_sampling(sampling: Sampling) -> None:
    rules = (
        ("temperature", sampling.temperature, 0 <= sampling.temperature <= 2, "0 (greedy) to 2"),
        ("top_p", sampling.top_p, not sampling.HasField("top_p") or 0 < sampling.top_p <= 1, "above 0, at most 1"),
        ("max_tokens", sampling.max_tokens, sampling.max_tokens >= 0, "0 (the default) or more"),
        ("repetition_penalty", sampling.repetition_penalty, 0 <= sampling.repetition_penalty <= 2, "0 (off) to 2"),
    )
    for name, value, is_right, allowed in rules:
        if not is_right:
            raise InvalidInput(f"sampling.{name} is {value}; expected {allowed}")


def _check_attacks(spec: BenchSpec) -> None:
    names: list[str] = []
    for given in spec.attacks:
        name = given.name or given.attack
        _check_plugin(f"attacks.{name}: attack", attack.FOLDER, given.attack)
        if not _NAME.fullmatch(name) or name in names:
            raise InvalidInput(f"attacks: the name {name!r} is used twice or has other characters than {_NAME.pattern}")
        names.append(name)
    for each in spec.benchmarks:
        for name in set(each.attacks) - set(names):
            _check_plugin(f"benchmarks.{each.benchmark}: attack", attack.FOLDER, name, names)


def _check_plugin(what: str, folder: str, name: str, others: list[str] | None = None) -> None:
    allowed = [plugin.name for plugin in registry.describe(folder)]
    if name not in allowed:
        raise InvalidInput(f"{what} {name!r} is unknown; expected one of {', '.join([*(others or []), *allowed])}")


def _check_judges(spec: BenchSpec, judges: Mapping[str, str]) -> None:
    asked = {judge.judge: each.benchmark for each in spec.benchmarks for judge in each.judges}
    for name, where in asked.items():
        if name not in judges:
            raise InvalidInput(f"benchmarks.{where}: judge {name!r} is unknown; expected one of {', '.join(judges)}")


def _open(spec: AttackSpec, whole: BenchSpec, settings: Settings, clients: Clients) -> Attack:
    return open_attack(
        spec,
        AttackContext(
            seed=whole.seed,
            endpoint=whole.endpoint,
            data_dir=settings.data_dir,
            options=dict(spec.options),
            generate=lambda endpoint, prompts, sampling: rpc_stream(
                clients.inference.Generate, GenerateRequest(endpoint=endpoint, prompts=prompts, sampling=sampling)
            ),
        ),
    )


def _sampling(spec: BenchSpec, each: BenchmarkSpec) -> Sampling:
    sampling = Sampling()
    sampling.CopyFrom(spec.sampling)
    sampling.max_tokens = each.max_tokens
    return sampling


def _digests(suites: tuple[Suite, ...], judges: Mapping[str, str], clients: Clients) -> list[str]:
    """Of samples, attacks, judges and their models. Endpoints count by weights: a new port is the same question."""
    used = sorted({f"{judge.judge}={judges.get(judge.judge, '')}" for suite in suites for judge in suite.judges})
    attacks = sorted({f"{each.name}={each.digest}" for suite in suites for each in suite.attacks})
    asked = sorted({judge.endpoint for suite in suites for judge in suite.judges if judge.endpoint})
    models = [rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name)).weights_digest for name in asked]
    return [suite.benchmark.digest for suite in suites] + attacks + used + models


def _known(folder: str) -> str:
    return ", ".join(plugin.name for plugin in registry.describe(folder))
