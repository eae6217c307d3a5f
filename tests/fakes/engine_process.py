"""A scripted engine that is started as vLLM is: `python -m vllm.entrypoints.openai.api_server --port N …`.

`install(folder)` writes an interpreter that answers to that command line, for Settings.vllm_python. A checkpoint whose
config.json says {"scripted": "crash"} makes it die at once, as on a broken model; {"version": "0.17.1"} makes it so
old; {"delay_s": 0.2} makes each answer take so long.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.fakes.scripted_engine import ScriptedEngine

ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "python"
    command = f'cd {ROOT} && exec {sys.executable} -m tests.fakes.engine_process "$@"'
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    return script


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--host")
    parser.add_argument("--served-model-name")
    options, _ = parser.parse_known_args()
    config = json.loads((options.model / "config.json").read_text())
    if config.get("scripted") == "crash":
        raise ValueError("the model's architecture is not supported")
    engine = ScriptedEngine(options.served_model_name, port=options.port, host=options.host)
    engine.version = config.get("version", engine.version)
    engine.delay_s = lambda messages: config.get("delay_s", 0.0)
    time.sleep(3600)


if __name__ == "__main__":
    main()
