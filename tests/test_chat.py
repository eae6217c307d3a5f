"""Templates of the field's families: what is read, what is trained, and that the thinking is always there."""

import json
from datetime import datetime

import pytest

from lrm_safety.chat import ChatTemplate, families, target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, Message, user
from lrm_safety.thinking import split

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
R1 = (  # cuts every assistant turn at </think>, as the stock template of the R1 distillations does
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<User>' + message['content'] }}{% else %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<Assistant>' + content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<Assistant>' }}{% endif %}"
)
R1_OPEN = R1.replace("{{ '<Assistant>' }}", "{{ '<Assistant><think>\\n' }}")
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TOKENS = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
RESPONSE = "<think>\nIs it safe?\n</think>\n\nSorry, no."


def template(source: str) -> ChatTemplate:
    return ChatTemplate.from_files(TOKENS, source)


@pytest.mark.parametrize(
    ("source", "before", "target"),
    [
        (
            CHATML,
            "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            RESPONSE + "<|im_end|>",
        ),
        (R1, "<s><User>Hi<Assistant>", RESPONSE + "</s>"),
        (R1_OPEN, "<s><User>Hi<Assistant><think>\n", "Is it safe?\n</think>\n\nSorry, no.</s>"),
        (
            LLAMA3,
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            RESPONSE + "<|eot_id|>",
        ),
    ],
    ids=["chatml", "r1_strips_thinking", "r1_opens_thinking", "llama3"],
)
def test_target_keeps_the_thinking(source, before, target):
    assert template(source).target([user("Hi")], RESPONSE) == (before, target)


def test_generation_prompt_that_opens_thinking():
    chat = template(R1_OPEN)
    assert chat.opens_thinking
    assert not template(R1).opens_thinking
    assert chat.target([user("Hi")], "4")[1] == "\n</think>\n\n4</s>"  # an answer must not be trained as thinking
    assert chat.target([user("Hi")], "<think>\n\n</think>\n\n4")[1] == "\n</think>\n\n4</s>"
    assert "".join(chat.target([user("Hi")], RESPONSE)).count("<think>") == 1


def test_render_continues_a_prefill():
    assert template(R1).render([user("Hi")], prefill="Sure, ") == "<s><User>Hi<Assistant>Sure, "
    assert template(R1_OPEN).render([user("Hi")], prefill="<think>\nOk") == "<s><User>Hi<Assistant><think>\nOk"
    assert template(R1).render([user("Hi")], add_generation_prompt=False) == "<s><User>Hi"
    turns = [user("Hi"), Message(role="assistant", content="a"), user("<think>")]
    assert template(R1).render(turns, prefill="b") == "<s><User>Hi<Assistant>a</s><User><think><Assistant>b"


def test_what_templates_expect_of_their_environment():
    source = (
        "{%- for m in messages %}\n    {%- if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\n"
        "    {%- if loop.index > 1 %}{% break %}{% endif %}\n{{ m.content | tojson }}\n{%- endfor %}"
        "{% generation %}{{ strftime_now('%Y') }}{% endgeneration %}{{ eos_token }}{% if tools %}tools{% endif %}"
    )
    chat = ChatTemplate(source, (("eos_token", "</s>"),), now=lambda: datetime(2001, 2, 3))
    assert chat.render([user("<b>é"), user("x")]) == '"<b>é"2001</s>'
    with pytest.raises(InvalidInput, match="no tools here"):
        chat.render([Message(role="tool", content="x")])


def test_templates_are_confined():
    with pytest.raises(InvalidInput, match="refuses"):
        template("{{ messages.__class__.__mro__[1].__subclasses__() }}").render([user("Hi")])
    with pytest.raises(InvalidInput, match="refuses"):
        template("{{ messages.append(1) }}").render([user("Hi")])


def test_a_broken_template_is_named_as_such():
    with pytest.raises(InvalidInput, match="does not parse"):
        template("{% for %}").render([user("Hi")])
    with pytest.raises(InvalidInput, match="no chat template"):
        ChatTemplate.from_files(TOKENS, None)


def test_end_of_turn_falls_back_to_eos():
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    assert template(source).target([user("Hi")], "Ho") == ("user: Hi\n", "Ho</s>")
    with pytest.raises(InvalidInput, match="never ends"):
        ChatTemplate.from_files({}, source).target([user("Hi")], "Ho")


def test_from_folder_reads_every_form(tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**TOKENS, "chat_template": R1}))
    inside = ChatTemplate.from_folder(tmp_path)
    named = [{"name": "tool_use", "template": CHATML}, {"name": "default", "template": R1}]
    config.write_text(json.dumps({**TOKENS, "chat_template": named}))
    assert ChatTemplate.from_folder(tmp_path) == inside
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert ChatTemplate.from_folder(tmp_path).source == CHATML
    assert ChatTemplate.from_folder(tmp_path).digest != inside.digest
    config.write_text("{")
    with pytest.raises(InvalidInput, match="not JSON"):
        ChatTemplate.from_folder(tmp_path)


def test_target_text():
    example = Example(thinking="t", answer="a")
    texts = [target_text(example, mode) for mode in ("keep", "empty", "none")]
    assert texts == ["<think>\nt\n</think>\n\na", "<think>\n\n</think>\n\na", "a"]
    with pytest.raises(InvalidInput, match="keep, empty, none"):
        target_text(example, "some")


FAMILIES = {
    "r1_distill_qwen": (
        "<｜begin▁of▁sentence｜>Be kind.<｜User｜>Hi<｜Assistant｜><think>\n",
        "Is it safe?\n</think>\n\nSorry, no.<｜end▁of▁sentence｜>",
    ),
    "qwen2_5": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        RESPONSE + "<|im_end|>",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        RESPONSE + "<|eot_id|>",
    ),
    "s1": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>think\nIs it safe?\n<|im_start|>answer\nAnswer: Sorry, no.<|im_end|>",
    ),
}
SAME = {"r1_distill_llama": "r1_distill_qwen", "smollm2": "qwen2_5", "qwen3": "qwen2_5"}


@pytest.mark.parametrize("name", sorted(families()))
def test_families_write_the_published_formats(name, tmp_path):
    chat = ChatTemplate.choose(tmp_path, name)
    assert (
        chat.target([Message(role="system", content="Be kind."), user("Hi")], RESPONSE)
        == FAMILIES[SAME.get(name, name)]
    )
    assert chat.end_of_turn == dict(chat.tokens)["eos_token"]
    spelled = chat.target([user("Hi")], RESPONSE)
    prompt = chat.render([user("Hi")])
    thinking, answer, state = split("".join(spelled).removeprefix(prompt), prompt_opened=chat.opens_thinking)
    assert (thinking, answer.removeprefix("Answer: "), state) == (
        "Is it safe?",
        "Sorry, no." + chat.end_of_turn,
        "closed",
    )


def test_s1_has_the_system_message_of_qwen_where_the_conversation_has_none(tmp_path):
    """Safety Tax renders all its sets with the template of Qwen2.5-32B-Instruct; served as trained, from the folder."""
    chat = ChatTemplate.choose(tmp_path, "s1")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (tmp_path / "chat_template.jinja").write_text(chat.source)
    read = (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.target([user("Hi")], RESPONSE)[0] == ChatTemplate.from_folder(tmp_path).render([user("Hi")]) == read


def test_earlier_turns_lose_their_thinking_where_the_family_does_so(tmp_path):
    turns = [user("Hi"), Message(role="assistant", content=RESPONSE), user("Why?")]
    for name, loses in {"r1_distill_qwen": True, "qwen3": True, "smollm2": False}.items():
        assert ("Is it safe?" not in ChatTemplate.choose(tmp_path, name).render(turns)) == loses


def test_a_family_that_is_not_known(tmp_path):
    with pytest.raises(InvalidInput, match="no chat template is named 'r1'; there are: r1_distill_qwen"):
        ChatTemplate.choose(tmp_path, "r1")
