"""The border between what is read and what is trained, token by token, and every reason to refuse."""

import gzip
import json
import re
import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from lrm_safety.chat import ChatTemplate, target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, Span, TrainingSpec, user
from services.trainer.encoding import Encoder, encode_all, encode_cached, read_tokenizer
from tests.trainer.conftest import CHATML, examples

EXAMPLE = Example(id="a", prompt="What is 1 and 2?", thinking="1 and 2 are 3.", answer="It is 3.")
TARGETS = {
    "keep": "<think>\n1 and 2 are 3.\n</think>\n\nIt is 3.<|im_end|>",
    "empty": "<think>\n\n</think>\n\nIt is 3.<|im_end|>",
    "none": "It is 3.<|im_end|>",
}


def spec(**changes) -> TrainingSpec:
    return TrainingSpec(**{"dataset": "sums@1", "thinking": "keep", "max_tokens": 200, **changes})


def copy(folder, tmp_path, template=CHATML):
    """The tiny checkpoint's tokenizer with another template."""
    target = tmp_path / "copy"
    target.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, target / name)
    (target / "chat_template.jinja").write_text(template)
    return target


@pytest.mark.parametrize("thinking", ["keep", "empty", "none"])
def test_every_token_is_on_its_side(tiny_folder, thinking):
    encoded = Encoder(tiny_folder, thinking).encode(EXAMPLE)
    before = ChatTemplate.from_folder(tiny_folder).render([user(EXAMPLE.prompt)])
    whole = read_tokenizer(tiny_folder).encode(before + TARGETS[thinking], add_special_tokens=False)
    assert encoded.ids == whole.ids
    sides = [position >= encoded.start for position in range(len(encoded.ids))]
    assert sides == [begin >= len(before) for begin, _ in whole.offsets]
    assert Encoder(tiny_folder, thinking).trained_text(encoded) == TARGETS[thinking]
    assert read_tokenizer(tiny_folder).decode(encoded.ids, skip_special_tokens=False) == before + TARGETS[thinking]


def test_a_token_never_spans_the_border(tiny_folder, tmp_path):
    """The generation prompt ends in a newline and the target starts with one: together they are one token here."""
    folder = copy(tiny_folder, tmp_path, CHATML.replace("assistant\n'", "assistant\n<think>\n'"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["ĊĊ"] = 511
    tokenizer["model"]["merges"].insert(0, ["Ċ", "Ċ"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    encoded = Encoder(folder, "empty").encode(EXAMPLE)
    before = ChatTemplate.from_folder(folder).render([user(EXAMPLE.prompt)])
    assert encoded.ids[: encoded.start] == read_tokenizer(folder).encode(before, add_special_tokens=False).ids
    assert Encoder(folder, "empty").trained_text(encoded) == "\n</think>\n\nIt is 3.<|im_end|>"
    assert 511 not in encoded.ids[: encoded.start + 1]


def test_refuses_when_the_thinking_cannot_be_written(tiny_folder, tmp_path):
    folder = copy(tiny_folder, tmp_path)
    words = {word: at for at, word in enumerate(["<unk>", "It", "is", "3.", "<|im_end|>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(InvalidInput, match=r"example a: thinking is 'keep', but <think>…</think> is missing"):
        Encoder(folder, "keep").encode(EXAMPLE)
    assert Encoder(folder, "none").encode(EXAMPLE).start > 0


def test_refuses_an_end_of_turn_that_is_not_trained(tiny_folder, tmp_path):
    folder = copy(tiny_folder, tmp_path)
    tokenizer = read_tokenizer(tiny_folder)
    tokenizer.normalizer = __import__("tokenizers").normalizers.Replace("<|im_end|>", "")
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != "<|im_end|>"]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(InvalidInput, match="would never learn to stop"):
        Encoder(folder, "keep").encode(EXAMPLE)


def test_refuses_trained_padding(tiny_folder):
    with pytest.raises(InvalidInput, match=r"padding token '<\|endoftext\|>' would be trained"):
        Encoder(tiny_folder, "none").encode(Example(id="a", prompt="Hi", answer="no<|endoftext|>"))


@pytest.mark.parametrize("thinking", ["keep", "none"])
def test_refuses_an_example_without_an_answer(tiny_folder, thinking):
    for answer in ("", " \n"):
        with pytest.raises(InvalidInput, match=r"example a has no answer.*lrm list builders"):
            Encoder(tiny_folder, thinking).encode(Example(id="a", prompt="Hi", thinking="Hm.", answer=answer))


def test_long_examples_are_dropped_and_counted(tiny_folder):
    lengths = [len(Encoder(tiny_folder, "keep").encode(example).ids) for example in examples()]
    limit = sorted(lengths)[5]
    kept = encode_all(examples(), tiny_folder, spec(max_tokens=limit))
    assert len(kept.examples) == sum(length <= limit for length in lengths)
    assert kept.dropped == sum(length > limit for length in lengths) > 0
    with pytest.raises(InvalidInput, match=f"max_tokens is 10, and all 24 .* shortest has {min(lengths)} tokens"):
        encode_all(examples(), tiny_folder, spec(max_tokens=10))
    with pytest.raises(InvalidInput, match="has no examples"):
        encode_all([], tiny_folder, spec())


def sentences(row, number):
    """A row of STAR-1 with the first two sentences of its thinking as understanding and key sentence."""
    thinking, _, answer = row["response"].removeprefix("<think>\n").partition("\n</think>\n\n")
    ends = [match.end() for match in re.finditer(r"[.?!](?=\s)", thinking)]
    spans = [("understanding", 0, ends[0] + 8), ("key", ends[0] + 8, ends[1] + 8)]
    return Example(
        id=f"star1/{number}",
        prompt=row["question"],
        thinking=thinking,
        answer=answer,
        spans=[Span(name=name, start=start, end=end) for name, start, end in spans],
    )


@pytest.mark.parametrize("trims", [False, True])
@pytest.mark.parametrize("opening", ["", "<think>\n"])
def test_spans_of_real_rows_in_tokens(shared_data, tiny_folder, tmp_path, trims, opening):
    """Of 50 rows, by a tokenizer of their own text; the generation prompt may have opened the thinking."""
    rows = json.loads(gzip.decompress((shared_data / "star1" / "STAR-1.json.gz").read_bytes()))
    rows = sorted(rows, key=lambda row: row["response"].isascii())[:100:2]  # 29 with more than ASCII, 21 without
    folder = copy(tiny_folder, tmp_path, CHATML.replace("assistant\n'", f"assistant\n{opening}'"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trims)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([row["response"] for row in rows], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    encoder = Encoder(folder, "keep")
    for number, row in enumerate(rows):
        example = sentences(row, number)
        encoded = encoder.encode(example)
        understanding, key = encoded.spans["understanding"], encoded.spans["key"]
        assert encoded.start == understanding[0] < understanding[1] == key[0] < key[1]
        response = target_text(example, "keep")
        for span, (first, end) in zip(example.spans, (understanding, key), strict=True):
            meant = response[span.start : span.end].removeprefix(opening)
            assert tokenizer.decode(encoded.ids[first:end]) == meant, example.id


def test_a_dataset_is_encoded_once(tiny_folder, tmp_path):
    def read():
        calls.append(1)
        return [Example(id="p/1", prompt="Hi", thinking="Hm.", answer="Yes.", tags={"safety": "safe"}), *examples()]

    calls = []
    whole, again = (encode_cached(read, tiny_folder, spec(), tmp_path / "cache") for _ in range(2))
    assert len(calls) == 1
    assert list(again.examples) == list(whole.examples) == [Encoder(tiny_folder, "keep").encode(e) for e in read()]
    assert (again.examples[0].label, again.examples.parts()[:2]) == ("safe", ["p", "sum-0"])
    assert encode_cached(read, tiny_folder, spec(max_tokens=60), tmp_path / "cache").dropped > 0
    encode_cached(read, tiny_folder, spec(thinking="empty"), tmp_path / "cache")
    assert len(calls) == 3  # one of them the assertion's own
