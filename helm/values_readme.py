"""Writes helm/lrm-safety/README.md from the comments in values.yaml. usage: python helm/values_readme.py [--check]"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "lrm-safety"
HEAD = """\
# The chart of lrm-safety

Five services, their object store, certificates, network policies and alerts on a cluster that others use too. From
nothing to a verdict, step by step: [k8s/README.md](../../k8s/README.md).

```sh
helm install lrm-safety helm/lrm-safety -n lrm --create-namespace --wait
helm test lrm-safety -n lrm --timeout 30m
```

Pods satisfy Pod Security "restricted". No secret is in a rendered object: certificates and the bundled store's keys are
made inside the cluster. `helm uninstall` leaves Secrets and volume claims; what runs at that time is removed with the
release. An upgrade loses no run: jobs and engines go on, the new pods take them over.

## Every value

Made from the comments in [values.yaml](values.yaml) by `make chart`; a wrong or unknown one is refused by name.

| value | default | |
|---|---|---|
"""


@dataclass(frozen=True)
class Value:
    path: str
    default: str
    words: str  # its comment; empty = it has none


def values(text: str) -> Iterator[Value]:
    """Every value in the order of the file. One whose parts have no comments of their own is documented whole."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _inside(root, "", text.splitlines())


def page(text: str) -> str:
    def cell(words: str) -> str:
        return words.replace("|", "\\|")

    rows = (f"| `{each.path}` | `{cell(each.default)}` | {cell(each.words)} |\n" for each in values(text))
    return HEAD + "".join(rows)


def _inside(node: yaml.MappingNode, path: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{path}.{key.value}" if path else key.value
        parts = isinstance(value, yaml.MappingNode) and not value.flow_style
        if parts:
            yield from _inside(value, name, lines)
        else:
            loaded = yaml.safe_load(yaml.serialize(value))
            default = yaml.safe_dump(loaded, default_flow_style=True, width=999, sort_keys=False)
            yield Value(name, default.removesuffix("\n").removesuffix("\n..."), _comment(lines, key.start_mark.line))


def _comment(lines: list[str], at: int) -> str:
    """What stands behind the value, on the key's line."""
    _, _, words = lines[at].partition(" # ")
    return words.strip()


def main(arguments: list[str]) -> int:
    target = CHART / "README.md"
    made = page((CHART / "values.yaml").read_text(encoding="utf-8"))
    if arguments == ["--check"]:
        is_current = target.exists() and target.read_text(encoding="utf-8") == made
        sys.stderr.write("" if is_current else f"{target.name} is not what values.yaml says: run `make chart`\n")
        return 0 if is_current else 1
    target.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
