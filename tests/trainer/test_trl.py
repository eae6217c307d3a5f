"""Our `sft` and TRL's SFTTrainer on the same tokens take the same steps."""

import pytest

from services.trainer.encoding import Encoder
from tests.trainer.conftest import examples, make_bench, write_model, write_tokenizer

trl = pytest.importorskip("trl", reason="trl is of the dev extra")
STEPS = 10


@pytest.mark.long
def test_the_loss_curve_is_trls(tmp_path):
    """Every step sees all rows, so that the order in which either draws them is of no account."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "still"
    write_model(folder, dropout=0.0)
    write_tokenizer(folder)
    rows = [Encoder(folder, "keep").encode(example) for example in examples()]
    masks = [[0] * row.start + [1] * (len(row.ids) - row.start) for row in rows]
    config = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"),
        num_train_epochs=STEPS,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=6,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        completion_only_loss=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        bf16=False,
        use_cpu=True,
    )
    theirs = trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        config,
        train_dataset=Dataset.from_dict({"input_ids": [row.ids for row in rows], "completion_mask": masks}),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    theirs.train()
    expected = [entry["loss"] for entry in theirs.state.log_history if "loss" in entry]
    bench = make_bench(tmp_path, folder)
    ledger, code, output = bench.train(
        bench.spec(epochs=STEPS, batch_size=24, warmup_ratio=0.2, adam_beta2=0.95, max_grad_norm=1.0)
    )
    assert code == 0, output
    assert '"packed": true' in output
    ours = [row.loss for row in ledger.read_metrics()]
    assert ours == pytest.approx(expected, rel=0.01)
    assert ours[-1] < 0.8 * ours[0]
