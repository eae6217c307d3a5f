"""`transformers serve`, from our own environment: where vLLM does not fit. One completion at a time, so slow and exact.

Its continuous batching is left off: it samples every request with the temperature of the first and, on a CPU, takes
most of the machine's memory. A request carries a whole generation config, because the server would otherwise decode
greedily whatever the temperature, and would apply the model's own defaults.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lrm_safety.chat_client import ChatRequest, sampling_fields
from lrm_safety.jobs import PYTHON
from lrm_safety.nouns import Sampling
from services.inference.engine import Get, Launch, Rendered, Site, read_json

PROGRAM_GIB = 1.5
_ENV = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads starve each other


class TransformersEngine:
    window = (1, 1)  # it seeds when a request arrives, so two in flight would share a seed
    image = "worker"

    def launch(self, site: Site) -> Launch:
        gpus = 1 if site.machine.gpus else 0
        device, precision = ("cuda", "bf16") if gpus else ("cpu", "fp32")
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
        program = [*_program(site), "serve", str(site.folder)]
        server = ["--host", site.host, "--port", str(site.port), "--log-level", "error"]
        return Launch(
            command=[*program, *server, "--device", device, "--dtype", dtype],
            model=str(site.folder),
            precision=precision,
            memory_gib=PROGRAM_GIB + 1.2 * site.weights_gib,
            env={**_ENV, "OMP_NUM_THREADS": str(site.cpus(gpus))},
            gpus=gpus,
        )

    def objection(self, get: Get, model: str) -> str:
        return ""  # it loads what a request names, and lists what it finds in a cache: nothing to compare

    def request(self, rendered: Rendered, sampling: Sampling) -> ChatRequest:
        config = json.dumps(generation_config(rendered.folder, sampling), sort_keys=True)
        text = rendered.text.removeprefix(_added_text(rendered.folder))
        plain = Sampling()
        plain.CopyFrom(sampling)
        plain.repetition_penalty = 0  # in the config; as a field of its own the server refuses it
        return ChatRequest(rendered.model, text=text, sampling=plain, extra={"generation_config": config})


engine = TransformersEngine()


def _program(site: Site) -> list[str]:
    if site.is_cluster:
        return [PYTHON, "-m", "transformers.cli.transformers"]
    return [str(Path(sys.executable).with_name("transformers"))]


def generation_config(folder: Path, sampling: Sampling) -> dict[str, Any]:
    """All that decides a generation; from the model only which tokens end it."""
    own = {**read_json(folder / "config.json"), **read_json(folder / "generation_config.json")}
    ends = {name: own[name] for name in ("eos_token_id", "pad_token_id", "bos_token_id") if own.get(name) is not None}
    fields = sampling_fields(sampling)
    config: dict[str, Any] = {**ends, "do_sample": sampling.temperature > 0, "max_new_tokens": fields["max_tokens"]}
    if sampling.temperature > 0:
        config |= {"temperature": sampling.temperature, "top_p": fields["top_p"], "top_k": 0}
    if "repetition_penalty" in fields:
        config["repetition_penalty"] = fields["repetition_penalty"]
    return config


@cache
def _added_text(folder: Path) -> str:
    """What the tokenizer puts before every text (BOS, for some families): the server adds it, so we do not."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return "".join(tokenizer.id_to_token(token) or "" for token in tokenizer.encode("").ids)
