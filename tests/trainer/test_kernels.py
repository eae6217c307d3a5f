"""Kernels are taken when they are the same and faster, and leave no trace when they are not."""

import sys
import time
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from services.trainer import kernels_worker, proof_worker
from services.trainer.forward_worker import SLICES, VARLEN, Way
from services.trainer.kernels_worker import Liger, choose, step_of
from tests.trainer.methods.made import SHAPE, encoded

EXAMPLES = [encoded(30, 12, seed) for seed in range(3)]
HAS_KERNELS = torch.cuda.is_available() and find_spec("liger_kernel") is not None


class Switch:
    """Kernels, and the step that they change: its seconds and its slopes."""

    def __init__(self, seconds: float, slope: float = 1.0, fails: bool = False):
        self.is_on, self._with, self._slope, self._fails = False, seconds, slope, fails

    def apply(self):
        self.is_on = True

    def undo(self):
        self.is_on = False

    def step(self):
        if self.is_on and self._fails:
            raise OSError("no C compiler")
        time.sleep(self._with if self.is_on else 0.01)
        return 2.0, torch.tensor([1.0, self._slope if self.is_on else 1.0])


@pytest.mark.parametrize(
    ("switch", "taken"),
    [
        (Switch(0.005), "liger"),
        (Switch(0.015), "plain"),
        (Switch(0.005, slope=1.2), "plain"),
        (Switch(0.005, slope=float("nan")), "plain"),
    ],
)
def test_the_faster_of_what_is_the_same(switch, taken):
    trial = choose(switch.step, switch, tolerance=5e-2)
    assert trial.kernels == taken
    assert trial.step_s["plain"] >= 0.01 and trial.step_s["liger"] >= 0.005
    assert not switch.is_on


def test_what_fails_is_undone():
    switch = Switch(0.005, fails=True)
    assert choose(switch.step, switch, tolerance=5e-2) == kernels_worker.Trial("plain", {}, 0.0)
    assert not switch.is_on


def doubled(model, **options):
    """What Liger does to an architecture's names and to a model's layers, with a rotation for GPUs alone."""
    assert options == {"cross_entropy": False, "fused_linear_cross_entropy": False}

    def rotate(query, key, cos, sin):
        raise AssertionError("not a GPU")

    modeling_llama.apply_rotary_pos_emb = rotate
    modeling_llama.LlamaRMSNorm = None
    plain = model.model.norm.forward
    model.model.norm.forward = lambda hidden: 2 * plain(hidden)


@pytest.fixture
def _liger(monkeypatch):
    patch = ModuleType("liger_kernel.transformers.monkey_patch")
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": doubled}
    patch._apply_liger_kernel_to_instance = doubled
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, patch.__name__, patch)


@pytest.mark.usefixtures("_liger")
def test_one_model_has_them_and_others_of_its_class_do_not():
    ids = torch.tensor([EXAMPLES[0].ids])
    torch.manual_seed(0)
    one, other = (LlamaForCausalLM(LlamaConfig(**SHAPE)).eval() for _ in range(2))
    names, before, others = dict(vars(modeling_llama)), one(ids).logits, other(ids).logits
    kernels = Liger(one)
    kernels.undo()  # before anything was done
    kernels.apply()
    torch.testing.assert_close(one(ids).logits, 2 * before)
    assert torch.equal(other(ids).logits, others)
    assert LlamaForCausalLM(LlamaConfig(**SHAPE))(ids).logits.isfinite().all()
    kernels.undo()
    assert torch.equal(one(ids).logits, before)
    assert vars(modeling_llama) == names


@pytest.mark.usefixtures("_liger")
def test_an_architecture_without_kernels():
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model.config.model_type = "abacus"
    with pytest.raises(NotImplementedError, match="abacus"):
        Liger(model).apply()


def test_a_step_leaves_gradients_of_the_whole_model():
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model.set_attn_implementation(SLICES)
    loss, slopes = step_of(model, Way(SLICES, True, True), EXAMPLES, "fp32")()
    assert loss > 0 and len(slopes) == sum(min(4096, p.numel()) for p in model.parameters())


@pytest.mark.skipif(not HAS_KERNELS, reason="needs a GPU with liger-kernel: pip install 'lrm-safety[liger]'")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_real_kernels_are_the_same_training(precision):
    torch.manual_seed(0)
    shape = {**SHAPE, "hidden_size": 256, "intermediate_size": 512}
    model = LlamaForCausalLM(LlamaConfig(**shape)).to("cuda").eval()
    way = proof_worker.choose_way(model, EXAMPLES, precision)
    assert way.attention in ((VARLEN, "flash_attention_2") if precision == "bf16" else (SLICES,))
    step, kernels = step_of(model, way, EXAMPLES, precision), Liger(model)
    plain = step()
    kernels.apply()
    assert proof_worker.difference(plain, step()) <= proof_worker.TOLERANCE[precision]
    kernels.undo()
    assert proof_worker.difference(plain, step()) <= 1e-6
