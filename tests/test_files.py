"""A file is complete or absent, whatever interrupts its writing."""

import json

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmseg_dynet.files import replacing, write_figure, write_json


def test_replacing_moves_the_finished_file_into_place(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert partial.name.startswith(".") and partial.suffix == ".txt"
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_into_a_new_folder_or_not_at_all(tmp_path):
    path = tmp_path / "new/a.json"
    write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a", "PNG")])
def test_a_figure_is_written_in_its_size(tmp_path, name, kind):
    write_figure(tmp_path / "new" / name, Figure(figsize=(2, 1)))
    with Image.open(tmp_path / "new" / name) as image:
        assert (image.size, image.format) == ((240, 120), kind)
