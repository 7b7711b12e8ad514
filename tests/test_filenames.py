"""Names made of anything are names that every system takes."""

import pytest

from tlapp.filenames import MOST_BYTES, Names, safe


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ants", "ants"),
        ("Grüne Ameisen 2", "Grüne Ameisen 2"),
        ("蚂蚁", "蚂蚁"),
        ("../../etc/passwd", "__.._etc_passwd"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        ("", "_"),
        (" ", "_"),
        ("name.", "name"),
        ("name. . ", "name"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("~root", "_root"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("aux .c", "_aux .c"),
        ("com1", "_com1"),
        ("LPT³", "_LPT³"),
        ("console", "console"),
        ("__MACOSX", "___MACOSX"),
        ("$Recycle.Bin", "_$Recycle.Bin"),
        ('<a>:"|?*', "_a______"),
        ("a\nb", "a_nb"),
        ("a\u202eb", "a_u202eb"),
        ("a\udcffb", "a_udcffb"),
        ("C:\\x", "C__x"),
    ],
)  # fmt: skip
def test_what_a_system_refuses_hides_or_reserves_is_changed_and_all_else_stays(text, name):
    assert safe(text) == name


@pytest.mark.parametrize("text", ["x" * 300, "ä" * 300, "🐜" * 300, "x" * (MOST_BYTES - 1) + ". y"])
def test_a_long_name_is_cut_between_letters(text):
    name = safe(text)
    assert len(name.encode()) <= MOST_BYTES
    assert text.startswith(name)
    assert not name.endswith((".", " "))


def test_names_that_a_system_takes_for_one_are_told_apart():
    names = Names()
    given = [names.free(text, ".jpg") for text in ("Ant", "ant", "ANT", "ant-2", "é", "e\u0301", "ﬁg", "fig")]
    assert given == ["Ant.jpg", "ant-2.jpg", "ANT-3.jpg", "ant-2-2.jpg", "é.jpg", "é-2.jpg", "ﬁg.jpg", "fig-2.jpg"]


def test_many_files_of_one_name_are_told_apart_quickly():
    names = Names()
    assert len({names.free("IMG", ".jpg") for _ in range(20_000)}) == 20_000
