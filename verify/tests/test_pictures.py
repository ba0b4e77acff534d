"""Pictures show the numbers of a certificate and mark what is wrong. Of any input they are small and harmless."""

from __future__ import annotations

import importlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_core import conv2d
from helpers import certificate_of, drawn, median, median_back, relu, relu_back
from verify import Certificate, adapters
from verify.checker.certificate import ArgumentResult, Cause, Uncovered
from verify.command.run import Row
from verify.diagnosis.gradients import Compared
from verify.diagnosis.later import Later, Look
from verify.pictures import examples
from verify.pictures.arrangement import MOST_CELLS, plane_of, values_at
from verify.pictures.curve import claim_error, curve_svg, curve_text, points
from verify.pictures.heat_map import DARK, LIGHT, maps, named_parts
from verify.pictures.page import certificate_page, notebook_cell
from verify.pictures.svg import svg

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SHAPES = [
    (),
    (1,),
    (7,),
    (100,),
    (3, 4),
    (1, 1, 1),
    (5, 2, 3),
    (2, 3, 4, 5),
    (40, 2, 1, 3),
    (8, 6, 1, 1),
    (2, 1, 3, 2, 4),
]


def _compared(claimed: Any, wrong: Any, expected: Any = None) -> Compared:
    expected = claimed + np.asarray(wrong) if expected is None else expected
    return Compared(claimed, np.ma.array(expected), np.ma.array(wrong), "at your arrays")


def _certificate(name: str, compared: Compared) -> Certificate:
    """A FAIL of one gradient, with these numbers."""
    result = ArgumentResult(0, name, compared.claimed.shape, "FAIL", note="a note")
    look = Later(found=Look({name: compared}, {}))
    return Certificate("FAIL", "multilinear", "exact integers", 0, (result,), later=look)


def _page(certificate: Certificate) -> str:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    return certificate.to_html()


def _doubled(x: np.ndarray) -> Any:
    return 2 * x, x


def _wrong_at(*index: int) -> Any:
    def backward(dy: np.ndarray, _: Any) -> Any:
        dx = 2 * dy
        dx[index] += 1
        return (dx,)

    return backward


def test_the_committed_pictures_are_what_the_command_writes() -> None:
    made = examples.pictures()
    assert {path.name for path in PICTURES.glob("*.svg")} >= set(made)
    for name, text in made.items():
        assert (PICTURES / name).read_text(encoding="utf-8") == text, "python -m verify.pictures docs/pictures"


def test_the_command_writes_the_pictures_and_prints_their_headlines(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from verify.pictures.__main__ import main

    printed = CliRunner().invoke(main, [str(tmp_path / "new")]).output
    assert len(list((tmp_path / "new").glob("*.svg"))) == len(examples.EXAMPLES)
    assert "image-lost.svg: FAIL: dw is wrong in 49 of 49 entries" in printed


def test_the_three_examples_look_different() -> None:
    """A lost image is missing, a flipped kernel is turned by half a turn, a cropped edge is moved."""
    lost, flipped, cropped = (examples.certificate(name) for name in ("image-lost", "kernel-flipped", "edge-cropped"))
    found = lost.gradients["w"]
    image = examples.EXAMPLES["image-lost"].arrays[0][0]
    np.testing.assert_array_equal(np.ma.getdata(found.claimed - found.expected)[0], -3 * image)
    found = flipped.gradients["x"]
    np.testing.assert_array_equal(found.claimed, np.ma.getdata(found.expected)[:, :, ::-1, ::-1])
    found = cropped.gradients["x"]
    np.testing.assert_array_equal(found.claimed[..., 2:, 2:], np.ma.getdata(found.expected)[..., :-2, :-2])


def test_an_svg_names_what_it_shows_and_suits_both_schemes() -> None:
    text = svg(examples.certificate("image-lost"))
    assert (
        "<title>dw (1, 1, 7, 7) as claimed, as expected, and the difference: 49 of 49 entries are wrong</title>" in text
    )
    assert "prefers-color-scheme: dark" in text
    assert [title in text for title in (">dw, claimed<", ">dw, expected<", ">dw, difference<")] == [True] * 3
    assert ">−24<" in text
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_an_svg_of_no_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no map of 'nothing': the certificate has \['x', 'w'\]"):
        svg(examples.certificate("image-lost"), ["nothing"])
    with pytest.raises(ValueError, match="no map of a wrong gradient"):
        svg(certificate_of(_doubled, lambda dy, _: (2 * dy,), (drawn(0, 3),)))


@pytest.mark.parametrize("structure", ["auto", "analytic", "smooth"])
def test_the_numbers_are_those_of_the_lines_that_reproduce(structure: str) -> None:
    found = certificate_of(_doubled, _wrong_at(1, 2), (drawn(0, 3, 4),), structure=structure, seed=0)
    (shown,), gradient = found.shown, found.gradients["x"]
    assert gradient.claimed[1, 2] == shown.claimed
    assert gradient.expected[1, 2] == pytest.approx(shown.low, rel=1e-9)
    assert gradient.where == shown.where
    assert np.argwhere(np.ma.filled(gradient.wrong, False)).tolist() == [[1, 2]]
    assert not np.ma.getmaskarray(gradient.expected).any()
    right = np.ma.getdata(gradient.expected) == gradient.claimed
    assert right.sum() == 11, "an entry that is right to rounding is shown as it is claimed"


def test_gradients_that_passed_beside_a_wrong_one_are_shown_as_claimed() -> None:
    found = examples.certificate("image-lost").gradients["x"]
    assert not found.wrong.any()
    np.testing.assert_array_equal(found.claimed, np.broadcast_to([[[[3.0]]], [[[1.0]]]], (2, 1, 7, 7)))


def test_of_a_pass_every_gradient_is_shown() -> None:
    arrays = drawn(0, 2, 3, 5, 4), drawn(1, 4, 3, 3, 2), None
    found = certificate_of(*conv2d.im2col[1:], arrays)
    assert {name: each.claimed.shape for name, each in found.gradients.items()} == {
        "x": (2, 3, 5, 4),
        "w": (4, 3, 3, 2),
    }
    assert not any(each.wrong.any() for each in found.gradients.values())
    assert found.curves == {}


def test_at_kinks_a_right_entry_is_not_marked() -> None:
    """Slopes at a kink differ on both sides. A claim between them is right."""
    x = np.array([0.0, 1.0, -1.0, 0.0, 3.0])
    found = certificate_of(relu, relu_back(2.0), (x,), structure="piecewise-linear", seed=0)
    assert found.verdict == "FAIL"
    marked = np.ma.filled(found.gradients["x"].wrong, False)
    assert set(np.flatnonzero(marked)) <= {0, 3}
    assert marked.any()


def test_of_a_slow_or_large_layer_some_entries_are_looked_at() -> None:
    x = np.zeros((3000, 40))
    x[::7] = 1
    found = certificate_of(_doubled, _wrong_at(17, 3), (x,), seed=0)
    gradient = found.gradients["x"]
    looked_at = int(np.ma.count(gradient.expected))
    assert 0 < looked_at < x.size
    assert np.ma.filled(gradient.wrong, False)[17, 3]
    assert "not looked at" in notebook_cell(found)


def test_several_entries_that_are_wrong_only_together_are_marked() -> None:
    """Each of two maxima may get all of dy. Both together may not."""

    def all_get_it(dy: np.ndarray, x: np.ndarray) -> Any:
        return (dy * (x == x.max()),)

    found = certificate_of(lambda x: (x.max(), x), all_get_it, (np.array([1.0, 2.0, 2.0]),), seed=0)
    gradient = found.gradients["x"]
    assert found.shown[0].indices == ((1,), (2,))
    np.testing.assert_array_equal(gradient.expected, gradient.claimed)
    assert np.flatnonzero(gradient.wrong).tolist() == [1, 2]


def test_a_picture_raises_nothing() -> None:
    def fails() -> Any:
        raise RuntimeError("the layer is gone")

    assert Later(fails, fails)() == Look({}, {})


def test_what_a_layer_raises_after_the_check_does_not_reach_a_picture() -> None:
    broken: list[bool] = []

    def forward(x: np.ndarray) -> Any:
        if broken:
            raise OSError("the file is closed")
        return 2 * x, x

    found = certificate_of(forward, _wrong_at(0), (drawn(0, 3),), seed=0)
    broken.append(True)
    assert np.ma.getmaskarray(found.gradients["x"].expected).all()
    assert "dx is wrong" in notebook_cell(found)


def test_gradients_are_computed_once_and_pickled_if_they_were_read() -> None:
    calls: list[int] = []

    def forward(x: np.ndarray) -> Any:
        calls.append(1)
        return 2 * x, x

    found = certificate_of(forward, _wrong_at(0), (drawn(0, 3),), seed=0)
    before = len(calls)
    assert found.later is not None
    assert pickle.loads(pickle.dumps(found.later))().gradients == {}
    assert len(calls) == before
    first = found.gradients
    assert len(calls) > before
    before = len(calls)
    assert found.gradients is first
    assert len(calls) == before
    copied = pickle.loads(pickle.dumps(found.later))().gradients
    np.testing.assert_array_equal(copied["x"].claimed, first["x"].claimed)


def test_a_row_goes_to_another_process_with_its_pictures() -> None:
    row = Row("layer", "version", "multilinear", certificate=examples.certificate("kernel-flipped"))
    assert set(pickle.loads(pickle.dumps(row.__getstate__()["certificate"].later))().gradients) == {"x", "w"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_entry_has_one_cell_of_its_own(shape: tuple[int, ...]) -> None:
    claimed = np.arange(float(np.prod(shape, dtype=int))).reshape(shape)
    plane = plane_of(_compared(claimed, np.zeros(shape, bool)))
    assert sorted(plane.entries.tolist()) == list(range(claimed.size))
    assert len(set(map(tuple, plane.places.tolist()))) == claimed.size
    assert (plane.places[:, :2].max(axis=0) < plane.tiles).all()
    assert (plane.places[:, 2:].max(axis=0) < plane.size).all()
    assert not plane.thinned


def test_the_last_two_axes_are_a_tile_and_the_one_before_them_runs_along_the_row() -> None:
    claimed = np.arange(120.0).reshape(2, 3, 4, 5)
    plane = plane_of(_compared(claimed, np.zeros(claimed.shape, bool)))
    assert (plane.tiles, plane.size) == ((2, 3), (4, 5))
    place = dict(zip(plane.entries.tolist(), map(tuple, plane.places.tolist()), strict=True))
    for index in np.ndindex(2, 3, 4, 5):
        assert place[int(claimed[index])] == index
    assert [label.text for label in plane.labels] == ["[:, 0]", "[:, 1]", "[:, 2]", "[0, :]", "[1, :]"]


def test_many_tiles_are_wrapped_and_labelled_one_by_one() -> None:
    claimed = np.arange(20 * 9.0).reshape(20, 1, 3, 3)
    plane = plane_of(_compared(claimed, np.zeros(claimed.shape, bool)))
    assert plane.tiles[0] > 1 < plane.tiles[1]
    assert [label.text for label in plane.labels][:2] == ["[0, 0]", "[1, 0]"]


@pytest.mark.parametrize("shape", [(5000,), (300, 200), (9, 7, 31, 33), (3, 100_001), (2, 3, 5, 7, 11, 13)], ids=str)
def test_a_thinned_map_keeps_a_wrong_entry_of_every_block(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    claimed, wrong = generator.normal(size=shape), generator.random(shape) < 1e-3
    wrong.flat[-1] = True
    plane = plane_of(_compared(claimed, wrong))
    assert plane.thinned
    assert len(plane.entries) <= MOST_CELLS
    assert wrong.ravel()[plane.entries[plane.wrong]].all(), "a marked cell shows a wrong entry"
    cells = tuple(-(-n // block) for n, block in zip(shape, plane.blocks, strict=True))
    expected = {
        tuple(i // block for i, block in zip(index, plane.blocks, strict=True)) for index in np.argwhere(wrong).tolist()
    }
    of_marked = {
        tuple(i // block for i, block in zip(np.unravel_index(entry, shape), plane.blocks, strict=True))
        for entry in plane.entries[plane.wrong].tolist()
    }
    assert of_marked == expected
    assert len(plane.entries) == np.prod(cells)


def test_of_a_block_the_entry_that_is_furthest_off_is_shown() -> None:
    claimed = np.zeros(5000)
    wrong = np.zeros(5000, bool)
    wrong[[100, 101]] = True
    off = np.zeros(5000)
    off[[100, 101]] = 1, 5
    plane = plane_of(_compared(claimed, wrong, claimed + off))
    assert 101 in plane.entries
    assert 100 not in plane.entries


def test_a_page_of_ten_million_entries_stays_below_a_megabyte_and_says_what_a_cell_is() -> None:
    claimed = np.random.default_rng(0).normal(size=(10, 10, 1000, 100))
    wrong = np.zeros(claimed.shape, bool)
    wrong[3, 2, 100:200] = True
    page = _page(_certificate("x", _compared(claimed, wrong)))
    assert len(page.encode()) < 1_000_000
    assert "10,000 of 10,000,000 entries are wrong" in page
    assert re.search(r"Each cell stands for a block of [\d × ]+ entries", page)


def test_a_page_of_many_gradients_stays_below_a_megabyte() -> None:
    """Every second entry is wrong: outlines are longest."""
    claimed = np.random.default_rng(0).normal(size=(48, 48))
    each = _compared(claimed, np.indices(claimed.shape).sum(axis=0) % 2 == 0)
    names = [f"w{i}" for i in range(80)]
    arguments = tuple(ArgumentResult(i, name, claimed.shape, "FAIL") for i, name in enumerate(names))
    look = Later(found=Look(dict.fromkeys(names, each), {}))
    page = _page(Certificate("FAIL", "multilinear", "exact integers", 0, arguments, later=look))
    assert len(page.encode()) < 1_000_000
    assert "No map: the page would be too large" in page


def test_names_notes_and_lines_are_escaped() -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    evil = "<script>alert(1)</script>"
    look = Look({evil: _compared(np.ones((2, 2)), np.ones((2, 2), bool))._replace(where=evil)}, {})
    found = Certificate(
        "FAIL",
        evil,
        evil,
        0,
        (ArgumentResult(0, evil, (2, 2), "FAIL", note=evil),),
        (Cause(evil, evil, evil),),
        reproduction=evil,
        uncovered=(Uncovered(evil, evil, evil),),
        later=Later(found=look),
    )
    for text in (certificate_page(found, evil), notebook_cell(found), svg(found)):
        assert "<script" not in text
        assert "&lt;script" in text


def test_nan_and_infinities_are_crossed_out_and_do_not_set_the_scale() -> None:
    claimed = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf]])
    wrong = ~np.isfinite(claimed)
    expected = np.where(wrong, 1.0, claimed)
    drawn_maps = dict(maps(*_with_plane(_compared(claimed, wrong, expected))))
    assert drawn_maps["claimed"].elements.count('class="broken"') == 1
    assert ">−3<" in drawn_maps["claimed"].elements
    assert "nan" not in drawn_maps["claimed"].elements + drawn_maps["difference"].elements
    assert "inf" not in drawn_maps["claimed"].elements + drawn_maps["difference"].elements
    found = certificate_of(_doubled, lambda dy, _: (dy * [2, np.nan, 2],), (drawn(0, 3),))
    assert "A cross marks NaN or an infinity." in notebook_cell(found)


def _with_plane(compared: Compared) -> tuple[Compared, Any]:
    return compared, plane_of(compared)


def test_an_array_without_entries_has_no_map() -> None:
    found = certificate_of(_doubled, lambda dy, _: (2 * dy,), (np.zeros((0, 3)),))
    assert "The array has no entries." in _page(found)
    plane = plane_of(_compared(np.zeros((0, 3)), np.zeros((0, 3), bool)))
    assert not plane.entries.size


def test_complex_gradients_are_shown_in_two_parts() -> None:
    claimed = np.array([[1 + 2j, 3 - 1j]])
    parts = dict(named_parts("x", _compared(claimed, np.array([[True, False]]), claimed + 1j)))
    assert list(parts) == ["dx, real part", "dx, imaginary part"]
    assert parts["dx, imaginary part"].claimed.tolist() == [[2, -1]]
    assert np.ma.getdata(parts["dx, imaginary part"].expected).tolist() == [[3, 0]]
    page = _page(_certificate("x", _compared(claimed, np.array([[True, False]]), claimed + 1j)))
    assert "dx, imaginary part, difference" in page


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (lambda dy, _: (None,), "dx is None, not an array"),
        (lambda dy, _: (2 * dy[1:],), "dx has shape (3, 3), x has (4, 3)"),
        (lambda dy, _: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["absent", "shape", "raised"],
)
def test_a_broken_contract_has_a_page_without_maps(backward: Any, says: str) -> None:
    found = certificate_of(_doubled, backward, (drawn(0, 4, 3),))
    page = _page(found)
    assert says in page
    assert "<svg" not in page


def test_an_undecided_check_has_a_page_that_promises_nothing() -> None:
    with np.errstate(over="ignore"):
        found = certificate_of(
            lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (np.array([0.5, 1e3]),), structure="smooth"
        )
        page = _page(found)
    assert found.verdict == "INCONCLUSIVE"
    assert "The check could not decide, so it promises nothing." in page
    assert "y is not finite" in page


def test_the_page_of_a_pass_says_what_would_be_missed_and_what_was_not_checked() -> None:
    found = certificate_of(
        lambda x, w: (x * w, w), lambda dy, w: (dy * w, None), (drawn(0, 3), np.arange(3.0)), wrt=[0], seed=0
    )
    page = _page(found)
    assert "A wrong gradient passes with probability at most" in page
    assert "w (fixed: wrt leaves it out)" in page
    assert "claimed, and found right" in page


def test_each_of_several_results_has_its_gradient() -> None:
    class TwoResults:
        def forward(self, x: Any, w: Any) -> Any:
            self.x, self.w = x, w
            return 2 * x, x * w

        def backward(self, dy: Any, dz: Any) -> Any:
            return 2 * dy + dz * self.w, 2 * dz * self.x

    found = adapters.plain.gradcheck(TwoResults(), (drawn(0, 3), drawn(1, 3)), raise_on_failure=False, seed=0)
    assert found.verdict == "FAIL"
    assert np.ma.filled(found.gradients["w"].wrong, False).any()
    assert not np.ma.filled(found.gradients["x"].wrong, False).any()


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_differences_have_a_v_curve(factor: float) -> None:
    """Truncation falls to the middle, rounding rises from there; a wrong claim lies far above the lowest point."""
    found = certificate_of(
        lambda x: (np.tanh(x), x),
        lambda dy, x: (factor * dy * (1 - np.tanh(x) ** 2),),
        (drawn(0, 4, 5),),
        structure="smooth",
        seed=0,
    )
    curve = found.curves["x"]
    errors = [error for _, error in points(curve)]
    least = int(np.argmin(errors))
    assert 5 < least < len(errors) - 5
    assert errors[0] > 1e6 * errors[least] < errors[-1]
    assert (claim_error(curve) > 1e6 * errors[least]) == (factor != 1)
    assert curve_svg(curve).count("<circle") == len(errors)
    assert f"is off by {claim_error(curve):.1e}" in curve_text(curve)
    assert "The best plain step" in _page(found)


def test_a_function_that_is_nowhere_finite_has_no_curve() -> None:
    with np.errstate(all="ignore"):
        found = certificate_of(
            lambda x: (np.where(x == x.flat[0], x, np.nan), x), lambda dy, _: (dy,), (np.zeros(2),), structure="smooth"
        )
    for curve in found.curves.values():
        assert "not finite" in curve_text(curve) or curve_svg(curve)


def test_ink_can_be_read_on_every_colour_of_both_schemes() -> None:
    for scheme in (LIGHT, DARK):
        colours = dict(re.findall(r"--(\w+): #(\w{6})", scheme))
        for ground in ("paper", "zero", "plus", "minus"):
            assert _contrast(colours["ink"], colours[ground]) >= 4.5, (scheme, ground)
        assert _contrast(colours["soft"], colours["paper"]) >= 4.5


def _contrast(one: str, other: str) -> float:
    """The contrast of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("package", "call"), [("jinja2", "to_html"), ("matplotlib", "plot")])
def test_a_missing_package_is_named_with_the_extra(package: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return right(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        ModuleNotFoundError, match=rf'{package}, which is not installed: pip install "gradcert\[report\]"'
    ):
        getattr(examples.certificate("image-lost"), call)()


def test_a_notebook_shows_the_wrong_gradients_without_any_extra() -> None:
    text = examples.certificate("image-lost")._repr_html_()
    assert "dw is wrong in 49 of 49 entries" in text
    assert text.count("<svg") == 3
    assert text.count("<div") == text.count("</div>")


def test_a_figure_has_the_numbers_of_the_maps() -> None:
    pytest.importorskip("matplotlib", reason="figures are an extra: gradcert[report]")
    found = examples.certificate("image-lost")
    axes = {each.get_title(): each for each in found.plot().axes if each.get_title()}
    assert list(axes)[3:] == ["dw, claimed", "dw, expected", "dw, difference"]
    shown = axes["dw, difference"].images[0].get_array()
    gradient = found.gradients["w"]
    np.testing.assert_array_equal(shown, (gradient.claimed - gradient.expected)[0, 0])


def test_a_figure_of_nothing_has_its_headline() -> None:
    pytest.importorskip("matplotlib", reason="figures are an extra: gradcert[report]")
    found = certificate_of(_doubled, lambda dy, _: (None,), (drawn(0, 3),))
    assert found.plot().get_suptitle() == found.headline


def test_numbers_stand_in_cells_that_have_room_for_all_of_them() -> None:
    small = _compared(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), bool), np.arange(6.0).reshape(2, 3) + 1)
    elements = dict(maps(*_with_plane(small._replace(wrong=np.ma.array(np.ones((2, 3), bool))))))["expected"].elements
    assert re.findall(r'class="number"[^>]*>([^<]+)<', elements) == ["1", "2", "3", "4", "5", "6"]
    long = small._replace(claimed=small.claimed * 1.234567e-9)
    assert 'class="number"' not in dict(maps(*_with_plane(long)))[next(iter(dict(maps(*_with_plane(long)))))].elements


def test_values_of_cells_are_those_of_their_entries() -> None:
    claimed = np.arange(24.0).reshape(2, 3, 4)
    plane = plane_of(_compared(claimed, np.zeros(claimed.shape, bool)))
    np.testing.assert_array_equal(values_at(claimed, plane), claimed.ravel()[plane.entries])


def test_a_median_of_three_is_drawn() -> None:
    """y is a scalar without axes."""
    found = certificate_of(
        median, lambda dy, cache: (2 * median_back(dy, cache)[0],), (np.array([3.0, 1.0, 2.0]),), seed=0
    )
    assert np.flatnonzero(np.ma.filled(found.gradients["x"].wrong, False)).tolist() == [2]
