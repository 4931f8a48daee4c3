"""dctkd_zoo.discover on packages made for the purpose."""

import importlib
import sys
from textwrap import dedent

import pytest

from dctkd_zoo import discover

SHAPES = {
    "__init__": "",
    "_private": "raise AssertionError('never imported')",
    "shape": """
        class Shape: ...
    """,
    "circle": """
        from shapes.shape import Shape
        class Circle(Shape): ...
    """,
    "square": """
        from shapes.circle import Circle
        from shapes.shape import Shape
        SIDES = 4
        class Square(Shape): ...
    """,
    "pair": """
        from shapes.shape import Shape
        class Left(Shape): ...
        class Right(Shape): ...
    """,
}


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A package `shapes` on the path, as the folder that holds its files."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name, source in SHAPES.items():
        (folder / f"{name}.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "shapes"]:
        del sys.modules[name]


def test_modules_are_sorted_public_and_not_imported(shapes):
    assert discover.modules("shapes") == ("circle", "pair", "shape", "square")
    assert not [name for name in sys.modules if name.startswith("shapes.")]


def test_subpackages_count_as_modules(shapes):
    (shapes / "solids").mkdir()
    (shapes / "solids" / "__init__.py").touch()
    assert "solids" in discover.modules("shapes")


@pytest.mark.parametrize("name", ["no_such_package", "shapes.circle"])
def test_what_is_no_package_is_refused(shapes, name):
    with pytest.raises(ValueError, match=f"'{name}' is not a package"):
        discover.modules(name)


def test_load_imports_the_module(shapes):
    assert discover.load("shapes", "square").SIDES == 4


def test_adding_a_file_is_all_it_takes(shapes):
    discover.load("shapes", "circle")
    (shapes / "oval.py").write_text("from shapes.circle import Circle\nclass Oval(Circle): ...\n")
    importlib.invalidate_caches()  # the file came after this process had looked
    oval = discover.load("shapes", "oval")
    assert "oval" in discover.modules("shapes")
    assert discover.only(oval, discover.load("shapes", "shape").Shape) is oval.Oval


def test_an_unknown_name_is_told_the_close_ones_and_all(shapes):
    with pytest.raises(ValueError) as error:
        discover.load("shapes", "crcle")
    assert str(error.value) == ("shapes has no 'crcle'. Did you mean 'circle'? Available: circle, pair, shape, square")


@pytest.mark.parametrize("name", ["zzz", "_private", "../shapes", "circle.Circle", ""])
def test_only_public_modules_can_be_named(shapes, name):
    with pytest.raises(ValueError, match=r"has no .* Available: circle"):
        discover.load("shapes", name)


def test_an_import_that_fails_inside_a_module_stays_visible(shapes):
    (shapes / "broken.py").write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        discover.load("shapes", "broken")


def test_only_passes_over_the_base_and_what_is_imported(shapes):
    square = discover.load("shapes", "square")
    assert discover.only(square, discover.load("shapes", "shape").Shape) is square.Square


@pytest.mark.parametrize(("name", "defined"), [("shape", "none"), ("pair", "Left, Right")])
def test_only_insists_on_one(shapes, name, defined):
    base = discover.load("shapes", "shape").Shape
    with pytest.raises(AssertionError, match=f"must define one Shape but defines {defined}"):
        discover.only(discover.load("shapes", name), base)
