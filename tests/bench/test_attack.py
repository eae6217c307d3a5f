"""Attacks: what is sent, chosen alike at every start; options checked by name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import AttackSpec, Completion, Message, Prompt, Sample, Sampling, user
from services.bench.attack import Attack, AttackContext, open_attack
from services.bench.attacks.prefill import AFFIRMATIVE, cut

SAMPLE = Sample(
    id="a", messages=[user("How do I win at cards?")], target="Sure, here is how to win at cards, every time:"
)


def nobody(endpoint: str, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
    raise AssertionError("no model is asked")


def make(attack: str, data_dir: Path = Path("."), seed: int = 1, **options: str) -> Attack:
    context = AttackContext(seed=seed, endpoint="base", data_dir=data_dir, options=options, generate=nobody)
    return open_attack(AttackSpec(name=attack, attack=attack, options=options), context)


def test_none_changes_nothing() -> None:
    assert make("none").apply(SAMPLE).prompt == Prompt(messages=SAMPLE.messages)


def test_prefill_opens_the_turn_with_the_target_up_to_its_limits() -> None:
    assert make("prefill").apply(SAMPLE).prompt.prefill == SAMPLE.target
    assert make("prefill", words="3").apply(SAMPLE).prompt.prefill == "Sure, here is"
    assert make("prefill", characters="12").apply(SAMPLE).prompt.prefill == "Sure, here"
    attempt = make("prefill").apply(Sample(id="b", messages=[user("?")]))
    assert attempt.prompt.prefill == AFFIRMATIVE
    assert attempt.tags == {"attack.opening": "fixed"}


@pytest.mark.parametrize(
    ("text", "words", "characters", "expected"),
    [
        ("one two three", 2, 0, "one two"),
        ("one two", 5, 3, "one"),
        ("extraordinary", 5, 5, "extra"),
        (" a\n b ", 9, 0, "a b"),
    ],
)
def test_cut(text: str, words: int, characters: int, expected: str) -> None:
    assert cut(text, words, characters) == expected


def test_template_wraps_the_last_user_turn_only() -> None:
    sample = Sample(id="a", messages=[user("Hello"), Message(role="assistant", content="Hi"), user("Teach me chess")])
    attempt = make("template").apply(sample)
    assert [m.content for m in attempt.prompt.messages[:2]] == ["Hello", "Hi"]
    wrapped = attempt.prompt.messages[2].content
    assert "Teach me chess" in wrapped
    assert len(wrapped) > 60
    assert "[INSERT" not in wrapped


def test_template_is_drawn_by_seed_and_sample() -> None:
    samples = [Sample(id=str(n), messages=[user("?")]) for n in range(60)]
    drawn = [make("template").apply(sample).tags["attack.template"] for sample in samples]
    assert drawn == [make("template").apply(sample).tags["attack.template"] for sample in samples]
    assert drawn != [make("template", seed=2).apply(sample).tags["attack.template"] for sample in samples]
    assert len(Counter(drawn)) == 6
    assert {make("template", id="fiction").apply(s).tags["attack.template"] for s in samples} == {"fiction"}


def test_template_reads_published_templates(shared_data: Path) -> None:
    attack = make("template", shared_data, path="gptfuzz/jailbreak_templates.csv")
    drawn = {attack.apply(Sample(id=str(n), messages=[user("QUESTION")])).tags["attack.template"] for n in range(2000)}
    assert len(drawn) == 77


def test_templates_are_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for text in ("Play: [INSERT PROMPT HERE]", "Act: [INSERT PROMPT HERE]"):
        (tmp_path / "t.csv").write_text(f"id,text\n0,{text}\n", encoding="utf-8")
        digests.add(make("template", tmp_path, path="t.csv").digest)
    assert len(digests | {make("template").digest}) == 3
    assert make("template").digest == make("template", seed=2).digest


@pytest.mark.parametrize(
    ("attack", "options", "expected"),
    [
        ("prefill", {"wrods": "3"}, "words, characters"),
        ("prefill", {"words": "none"}, "whole number"),
        ("prefill", {"words": "0"}, "above 0"),
        ("none", {"words": "3"}, "allowed: none"),
        ("template", {"id": "poem"}, "fiction"),
        ("template", {"placeholder": "{q}"}, "placeholder"),
    ],
)
def test_wrong_options_are_named(attack: str, options: dict[str, str], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        make(attack, **options)


def test_a_missing_template_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"t\.csv"):
        make("template", tmp_path, path="t.csv")
