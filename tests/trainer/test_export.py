"""What is made sure of before a checkpoint is announced."""

from transformers import AutoModelForCausalLM, LlamaForCausalLM

from services.trainer import export_worker


def test_of_a_long_example_only_the_beginning_is_read(tiny_folder, monkeypatch):
    """The first process alone reads it, on the CPU, with all its logits."""
    model, forward, lengths = AutoModelForCausalLM.from_pretrained(tiny_folder), LlamaForCausalLM.forward, []

    def note(self, input_ids, **more):
        lengths.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(LlamaForCausalLM, "forward", note)
    export_worker.verify_folder(tiny_folder, model, [7] * 400)
    assert max(lengths) == export_worker.READ_TOKENS < 400
