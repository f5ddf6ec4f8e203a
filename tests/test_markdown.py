"""A generated block is replaced, and nothing else of the document."""

import pytest

from mmseg_dynet.markdown import read_block, update_block


def test_a_block_is_replaced_and_the_rest_kept(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# Größe\n<!-- t -->\nold\n<!-- /t -->\n<!-- u -->x<!-- /u -->\n")
    update_block(path, "t", "| new |\n")
    expected = "# Größe\n<!-- t -->\n\n| new |\n\n<!-- /t -->\n<!-- u -->x<!-- /u -->\n"
    assert path.read_text("utf-8") == expected
    assert read_block(path, "t") == "| new |"
    assert read_block(path, "u") == "x"
    update_block(path, "t", "| new |")
    assert path.read_text("utf-8") == expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "no block",
        "<!-- t --> without an end",
        "<!-- /t --> the wrong way round <!-- t -->",
        "<!-- t --><!-- /t --> twice <!-- t --><!-- /t -->",
    ],
)
def test_a_missing_block_is_named_and_nothing_written(tmp_path, text):
    path = tmp_path / "a.md"
    path.write_text(text)
    match = "a.md must have one line <!-- t --> and, below it, one line <!-- /t -->"
    with pytest.raises(ValueError, match=match):
        update_block(path, "t", "new")
    with pytest.raises(ValueError, match=match):
        read_block(path, "t")
    assert path.read_text() == text
