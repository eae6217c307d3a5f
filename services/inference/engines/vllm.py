"""vLLM, on CPU or GPU, from an environment of its own: batches, caches prefixes, honours every request's sampling.

Runs as `python -m vllm.entrypoints.openai.api_server` of settings.vllm_python, in a cluster of the image's python3: the
`vllm` command of the CPU package does not start. Older than FLOOR it is refused: those run a model's own code even when
told not to (CVE-2026-27893). On processors with bf16 instructions bf16 is 1.6 times as fast as fp32 in a full batch;
elsewhere far slower.
"""

import json
import re

from lrm_safety.chat_client import ChatRequest
from lrm_safety.nouns import Sampling
from services.inference.engine import Get, Launch, Rendered, Site, model_names

CPU_MODEL_TOKENS = 4096
CPU_SEQUENCES = 32
CPU_CACHE_GIB = 1
CPU_PROGRAM_GIB = 2.5  # three Python processes with torch
FLOOR = (0, 18)
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class VllmEngine:
    window = (4, 256)
    image = "engine"

    def launch(self, site: Site) -> Launch:
        on_cpu = site.machine.gpus == 0 or _is_cpu_build(site)
        precision = "fp32" if on_cpu and not site.machine.has_fast_bf16 else "bf16"
        return Launch(
            command=[
                *_command(site),
                "--dtype",
                DTYPES[precision],
                *(_cpu_flags(site) if on_cpu else _gpu_flags(site)),
            ],
            model=site.name,
            precision=precision,
            memory_gib=CPU_PROGRAM_GIB + 1.2 * site.weights_gib + (CPU_CACHE_GIB if on_cpu else 0),
            env={**_OFFLINE, **(_cpu_env(site) if on_cpu else {})},
            gpus=0 if on_cpu else 1,
        )

    def objection(self, get: Get, model: str) -> str:
        """Too old, or another model than ours: a stranger may listen on a port that was ours."""
        found = re.match(r"(\d+)\.(\d+)", _field(get("/version")[1], "version"))
        if found is None:
            return "it does not say its version at /version; expected vLLM"
        if (int(found[1]), int(found[2])) < FLOOR:
            floor = ".".join(map(str, FLOOR))
            return f"vLLM {found[0]} can be made to run a model's own code (CVE-2026-27893); use {floor} or newer"
        served = model_names(get("/v1/models")[1])
        return "" if model in served else f"it serves {', '.join(served) or 'nothing'}, not {model}"

    def request(self, rendered: Rendered, sampling: Sampling) -> ChatRequest:
        extra = {"add_special_tokens": False, "skip_special_tokens": not rendered.keep_special_tokens}
        return ChatRequest(rendered.model, text=rendered.text, sampling=sampling, extra=extra)


engine = VllmEngine()

_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _command(site: Site) -> list[str]:
    python = "python3" if site.is_cluster else str(site.settings.vllm_python)
    program = [python, "-m", "vllm.entrypoints.openai.api_server"]
    model = ["--model", str(site.folder), "--served-model-name", site.name]
    server = ["--host", site.host, "--port", str(site.port), "--disable-uvicorn-access-log"]
    return [*program, *model, *server, "--generation-config", "vllm", "--load-format", "safetensors"]


def _cpu_flags(site: Site) -> list[str]:
    tokens = site.spec.max_model_tokens or min(site.model_tokens() or CPU_MODEL_TOKENS, CPU_MODEL_TOKENS)
    sequences = site.spec.max_sequences or CPU_SEQUENCES
    return ["--enforce-eager", "--max-model-len", str(tokens), "--max-num-seqs", str(sequences)]


def _gpu_flags(site: Site) -> list[str]:
    asked = {"--max-model-len": site.spec.max_model_tokens, "--max-num-seqs": site.spec.max_sequences}
    return [part for flag, value in asked.items() if value for part in (flag, str(value))]


def _cpu_env(site: Site) -> dict[str, str]:
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(CPU_CACHE_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_WAIT_POLICY": "PASSIVE",  # its three processes share the cores: spinning threads starve each other
        "OMP_NUM_THREADS": str(site.machine.cpus),
    }


def _field(text: str, name: str) -> str:
    try:
        return str(json.loads(text)[name])
    except (ValueError, KeyError, TypeError):
        return ""


def _is_cpu_build(site: Site) -> bool:
    """On this machine; the cluster's pools say what they have."""
    if site.is_cluster:
        return False
    environment = site.settings.vllm_python.parent.parent
    return any(environment.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"))
