"""The museum: every bug is seen in every version, what is right is not, and the command says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from verify.command.cli import cli
from verify.evidence import hall, others
from verify.evidence.tables import Row
from verify.layers import LAYERS
from verify.museum import EQUIVALENT, EXHIBITS, FORWARD, GRADIENT, STATE, Exhibit
from verify.museum._exhibit import gradient
from verify.profiles import EXAMPLES

EXAMPLE_COUNT = EXAMPLES["ci"]
# In 20 seeds 942 of 980 looks at the fast version named the expected cause first. These are the names that the others
# had, here or with an earlier vote. With other modules loaded Hypothesis draws other cases, so any may come up.
ALSO_NAMED = {
    "avg-nhwc-offset": {"one-position-only"},
    "ce-reduction": {"constant-factor"},
    "col2im-assign": {"remainder-lost"},
    "conv-asym-crop": {"zero"},
    "conv-dx-leftover": {"padding-cropped"},
    "conv-dx-nostride": {"zero"},
    "do-over-p": {"upstream-copied"},
    # Both are true: y stands where x should, and where it is above 0 dy is copied.
    "elu-neg-alpha": {"at-output"},
    # The gradient is the same where the longer axis has one row more: the commoner mistake is named first.
    "maxpool-hw-args": {"remainder-lost", "one-position-only"},
    "maxpool-pad-coord": {"shifted", "padding-cropped", "zero"},
}
OF_HAND = {slug: exhibit for slug, exhibit in EXHIBITS.items() if exhibit.value is not None}
LAYERS_HERE = sorted({exhibit.layer for exhibit in EXHIBITS.values()})


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.long
@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_every_exhibit_is_seen_and_named_in_the_fast_version(exhibit: Exhibit) -> None:
    seen = hall.look(hall.planted(exhibit, LAYERS[exhibit.layer].fast), EXAMPLE_COUNT, 0)
    assert bool(seen.check) is (exhibit.kind != EQUIVALENT), seen
    assert not (exhibit.kind == FORWARD and seen.check == "gradients"), seen
    if exhibit.code is not None:
        assert seen.cause in {exhibit.code.code, *ALSO_NAMED.get(exhibit.slug, ())}, seen.message


@pytest.mark.long
@pytest.mark.parametrize("name", LAYERS_HERE)
def test_no_right_layer_is_accused(name: str) -> None:
    seen = hall.look(hall.clean(LAYERS[name], LAYERS[name].fast), EXAMPLES["quick"], 1)
    assert not seen.check, seen.message


@pytest.mark.parametrize(
    "exhibit", [each for each in EXHIBITS.values() if each.value is not None], ids=lambda e: e.slug
)
def test_y_worked_by_hand_is_that_of_every_right_version(exhibit: Exhibit) -> None:
    assert exhibit.value is not None
    for version in LAYERS[exhibit.layer].implementations:
        y, _ = version.forward(*exhibit.value.arrays, **exhibit.value.options)
        np.testing.assert_allclose(y, exhibit.value.y, rtol=hall.BY_HAND)


def test_each_record_is_whole() -> None:
    for slug, exhibit in EXHIBITS.items():
        assert slug == exhibit.slug
        assert exhibit.layer in LAYERS
        assert exhibit.kind in (GRADIENT, FORWARD, STATE, EQUIVALENT)
        assert all((exhibit.wrong, exhibit.shows, exhibit.source))
        assert (exhibit.kind == FORWARD) is (exhibit.value is not None)


def _harmless(name: str) -> Exhibit:
    """A bug that changes nothing, so that no check sees it."""
    made = gradient("harmless", name, wrong="nothing", shows="never", source="none")
    return made(lambda dy, call: call.right(dy))


def test_a_bug_that_is_missed_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXHIBITS, "harmless", _harmless("flatten"))
    looks = [_row("harmless", version.name) for version in LAYERS["flatten"].implementations]
    monkeypatch.setattr("verify.command.jobs.rows", lambda found, processes: iter(looks))
    result = _run("museum", "--examples", "25", "--seeds", "2")
    assert result.exit_code == 1
    assert "MISSED" in result.output
    assert "0 of 2 planted bugs seen" in result.output
    assert "0 of 2 bugs seen (missed: harmless)" in result.output.replace("\n", " ")


def _row(slug: str, version: str) -> Row:
    from verify.command.museum import exhibit_row

    return exhibit_row(slug, version, 25, 0)


def test_a_right_layer_that_is_accused_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    accused = Row("", "relu", "naive", "right", "gradients", 3, "zero", "", "wrong")
    monkeypatch.setattr("verify.command.jobs.rows", lambda found, processes: iter([accused]))
    result = _run("museum", "--examples", "25")
    assert result.exit_code == 1, result.output
    assert "1 of 1 right versions accused" in result.output


def test_a_forward_bug_that_gradients_see_is_not_as_it_should_be() -> None:
    """Then its backward is not the derivative of its forward: it is another bug than the record says."""
    seen = {check: Row("", "relu", "naive", FORWARD, check, 1, "", "", "") for check in ("gradients", "value", "")}
    assert [row.as_it_should_be for row in seen.values()] == [False, True, False]


def test_a_forward_bug_hides_from_gradients_and_from_the_other_version() -> None:
    exhibit = EXHIBITS["pool-fwd-axes"]
    subject = hall.planted(exhibit, LAYERS[exhibit.layer].fast)
    for check in (hall._gradients, hall._versions):
        assert not check(subject, 25, 0).check
    # In one version alone it does not hide from the other.
    assert hall._versions(subject._replace(other=LAYERS[exhibit.layer].reference), 25, 0).check == "versions"


def test_the_command_shows_one_exhibit_in_full() -> None:
    result = _run("museum", "--slug", "flatten-noT", "--jobs", "1", "--examples", "25")
    assert result.exit_code == 0, result.output
    assert EXHIBITS["flatten-noT"].source in result.output.replace("\n", " ")
    assert "features-batch-swapped" in result.output
    assert "dx is wrong" in result.output


def test_json_and_the_page_hold_the_same_rows(tmp_path: Any) -> None:
    page, path = tmp_path / "museum.md", tmp_path / "rows.json"
    more = ("--against", "numeric", "--seeds", "3", "--markdown", str(page), "--json", str(path))
    result = _run("museum", "--slug", "flatten-noT", "--jobs", "1", "--examples", "25", *more)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert {row["check"] for row in rows if row.get("slug") == "flatten-noT" and "check" in row} == {"gradients"}
    text = page.read_text(encoding="utf-8")
    assert "| `flatten-noT` | `flatten` |" in text
    assert "; at 2 further seeds, in the fast version, 2 of 2 bugs seen, 0 of 2 right versions accused" in text
    assert "| numeric | 0 of 1 | 1 of 1 | 0 of 1 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "torch,jaxx"], "'jaxx' is none of torch, jax, autograd, numeric"),
        (["--slug", "nothing"], "'nothing' is not one of"),
        (["--examples", "5"], "5 is not in the range"),
    ],
)
def test_usage_errors_quote_what_was_given(arguments: list[str], message: str) -> None:
    result = _run("museum", *arguments)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


@pytest.mark.parametrize("checker", others.available())
def test_every_checker_accepts_a_right_layer_and_objects_to_a_wrong_one(checker: str) -> None:
    layer, check = LAYERS["linear"], others.available()[checker]
    call = others.ordinary(layer, 0)
    assert others.ask(check, layer, layer.fast, call, 0).objects is False
    for which in range(3):

        def backward(dy: Any, cache: Any, which: int = which) -> Any:
            return tuple(
                np.asarray(g) * (1.5 if k == which else 1) for k, g in enumerate(layer.fast.backward(dy, cache))
            )

        assert others.ask(check, layer, layer.fast._replace(backward=backward), call, 0).objects is True


def test_every_layer_of_the_museum_has_an_ordinary_call() -> None:
    for name in LAYERS_HERE:
        call = others.ordinary(LAYERS[name], 0)
        y, _ = LAYERS[name].fast.forward(*call.arrays, **call.options)
        assert np.isfinite(y).all()
        assert y.size
