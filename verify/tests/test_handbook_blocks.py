"""What the handbook shows is what is printed: every session, command, file and change on its pages is run."""

from __future__ import annotations

import importlib
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import page_blocks
import verify
from verify.checker.candidates import CANDIDATES

DOCS, VERIFY = page_blocks.ROOT / "docs", Path(verify.__file__).parent
PAGES = {
    str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
    if "_build" not in path.parts
}
WITH_BLOCKS = [name for name, page in PAGES.items() if page_blocks.without_oracles(page_blocks.blocks(page))]
OF_ORACLES = [name for name, page in PAGES.items() if any(page_blocks.oracles_of(page_blocks.blocks(page)))]
# Written by hand, and read from top to bottom. The others are printed by a command, or are tables.
PROSE = [name for name in PAGES if name.startswith(("start/", "how/", "recipes/")) or name in ("faq.md", "glossary.md")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a page, whose modules its session may import."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_a_page_prints_what_it_shows(name: str, folder: Path) -> None:
    found = page_blocks.failures(page_blocks.without_oracles(page_blocks.blocks(PAGES[name])), folder)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", OF_ORACLES)
def test_a_page_with_pytorch_or_jax_prints_what_it_shows(name: str, folder: Path) -> None:
    blocks = page_blocks.blocks(PAGES[name])
    for library in {each for needed in page_blocks.oracles_of(blocks) for each in needed}:
        pytest.importorskip(library)
    found = page_blocks.failures(blocks, folder)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PROSE)
def test_a_page_is_short_and_its_blocks_are_of_a_kind_that_is_run(name: str) -> None:
    assert len(PAGES[name].splitlines()) <= 150
    blocks = page_blocks.blocks(PAGES[name])
    assert {block.kind for block in blocks} <= set(page_blocks.KINDS)
    assert not [each for block in blocks if block.kind == "sh" for each in page_blocks.known_commands(block)]


def test_a_workflow_on_a_page_parses_and_its_tests_pass() -> None:
    yaml = pytest.importorskip("yaml")
    blocks = [block for page in PAGES.values() for block in page_blocks.blocks(page) if block.kind == "yaml"]
    assert blocks
    for block in blocks:
        (job,) = yaml.safe_load(block.text)["jobs"].values()
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands == page_blocks.steps(block)
        assert all(step.keys() & {"run", "uses"} for step in job["steps"])


ONE = "```python\n# one.py\n1 / 0\n```\n"
BROKEN = {
    "a session": ("```python\n>>> 1 + 1\n3\n```\n", "Expected"),
    "a session's second line": ("```python\n>>> a = 1\n>>> a + 1\n3\n```\n", "line 3, in page"),
    "a session that raises": ("```python\n>>> 1 / 0\n```\n", "ZeroDivisionError"),
    "Python that is neither a session nor a file": ("```python\n1 / 0\n```\n", "neither a session nor a file"),
    "a command's output": ("```console\n$ echo right\nwrong\n```\n", "printed:\nright"),
    "a second command": ("```console\n$ true\n$ echo right; exit 3\n```\n", "printed:\nright"),
    "a console without a command": ("```console\nright\n```\n", "begins with a command"),
    "a file that a command runs": (f"{ONE}```console\n$ python one.py\n```\n", "division by zero"),
    "a change of what is not there": (f"{ONE}```diff\n--- one.py\n-b\n+c\n```\n", "found 0 times"),
    "a step of a workflow": ("```yaml\n# one.yml\n      - run: python -m pytest missing.py\n```\n", "missing.py"),
}


@pytest.mark.parametrize(("page", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_block_is_seen(page: str, said: str, folder: Path) -> None:
    found = page_blocks.failures(page_blocks.blocks(page), folder)
    assert len(found) > 0
    assert said in "\n".join(found)


RECIPES = {
    "complex": ("np.conj(2 * z)", "(2 * z)"),
    "sparse": ("np.add.at(dx, columns, values[:, None] * dy[rows])", "dx[columns] -= values[:, None] * dy[rows]"),
    "second_order": ("-2 * np.tanh(x) * slope, ddx * slope", "2 * np.tanh(x) * slope, ddx * slope"),
    "solver_in_the_loop": ("return np.outer(db, y), db", "return np.outer(y, db), db"),
    "index": ("return dy * mask, None", "return dy, None"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_wrong_gradient_in_a_recipe_is_found(recipe: str, folder: Path) -> None:
    right, wrong = RECIPES[recipe]
    page = PAGES[f"recipes/{recipe}.md"]
    assert page.count(right) == 1
    found = page_blocks.failures(page_blocks.without_oracles(page_blocks.blocks(page.replace(right, wrong))), folder)
    assert "GradientMismatch" in "\n".join(found)


def test_blocks_run_in_one_folder_and_one_session(folder: Path) -> None:
    page = (
        "```python\n# one.py\na = 1\n```\n"
        "```python\n>>> from one import a\n\n```\n"
        "```diff\n--- one.py\n-a = 1\n+a = 2\n```\n"
        "```python\n>>> a\n1\n\n```\n"
        '```console\n$ python -c "import one; print(one.a)"\n2\n```\n'
    )
    assert not page_blocks.failures(page_blocks.blocks(page), folder)


def test_a_block_that_runs_a_file_of_pytorch_needs_pytorch() -> None:
    page = "```python\n# one.py\nimport torch\n```\n```console\n$ python one.py\n```\n```python\n>>> 1\n1\n```\n"
    assert page_blocks.oracles_of(page_blocks.blocks(page)) == [["torch"], ["torch"], []]
    assert [block.kind for block in page_blocks.without_oracles(page_blocks.blocks(page))] == ["python"]


@pytest.mark.parametrize(
    "line", ['pip install ".[nothing]"', "tox -e nothing", "python -m verify.nothing"], ids=["extra", "tox", "module"]
)
def test_a_set_up_command_of_something_unknown_is_seen(line: str) -> None:
    assert page_blocks.known_commands(page_blocks.Block("sh", line, 1))


# Page -> the figures on it that a measured page has: the page, the beginning of a row or a line of it, and the figure.
FIGURES = {
    "start/from_gradcheck.md": [
        ("calibration.md", "| conv2d | 1000 | 1000 | 1000 of 1000 | 0 of 200 |", "all of 6,000 checks"),
        ("calibration.md", "| conv2d | 1000 | 1000 | 1000 of 1000 | 0 of 200 |", "none of 1,200"),
        ("museum.md", "| torch | 22 of 63 | 48 of 63 | 0 of 22 | 0 of 544 | 45 of 544 |", "accused 45 of 544"),
        ("museum.md", "| torch | 22 of 63 | 48 of 63 |", "PyTorch saw 48 of 63"),
        ("museum.md", "| gradcert | 21 of 63 | 48 of 63 |", "`gradcheck` here 48"),
        ("museum.md", "| gradcert, every check | - | 63 of 63 |", "All checks of gradcert see 63"),
    ],
    "start/from_check_grads.md": [
        ("museum.md", "| jax | 20 of 63 | 47 of 63 | 0 of 22 | 0 of 544 | 49 of 544 |", "accused 49 of 544"),
        ("museum.md", "| jax | 20 of 63 | 47 of 63 |", "JAX saw 47 of 63"),
        ("museum.md", "| 8 of 2058 | 6 | 217.4 |", "took JAX 217.4 ms"),
        ("museum.md", "| 0 of 2035 | 37 | 28.5 |", "gradcert 28.5 ms"),
    ],
    "start/from_eval_numerical_gradient.md": [
        ("museum.md", "| numeric | 18 of 63 | 47 of 63 |", "saw 47 of 63 bugs at 25 drawn cases, and 18"),
        ("museum.md", "| 1 of 22 | 0 of 544 | 45 of 544 |", "accused 45 of 544"),
    ],
    "how/ties.md": [
        ("museum.md", "| gradcert | 21 of 63 | 48 of 63 | 0 of 22 | 0 of 544 | 0 of 544 |", "none of 544"),
        ("museum.md", "| 0 of 22 | 0 of 544 | 49 of 544 |", "JAX's 49"),
        ("calibration.md", "| at ties: median | 264 | 94 | 0 | 0 |", "10,024 checks of 14 functions: no FAIL"),
    ],
    "how/differences.md": [
        ("calibration.md", "- covered: 30000", "30,000 of 30,000"),
        ("calibration.md", "- median relative tolerance: 1.111e-11", "1.1e-11"),
        ("calibration.md", "- checks: 9996\n- share of FAIL: 0\n- share caught above the floor: 0.9988", "0 of 9,996"),
        ("calibration.md", "- share caught above the floor: 0.9988", "99.88 %"),
    ],
    "how/objections.md": [
        ("calibration.md", "- checks: 110032\n- FAIL: 0", "0 FAIL in 110,032 checks"),
        ("calibration.md", "- checks: 9996\n- share of FAIL: 0", "0 FAIL in 9,996"),
    ],
    "how/what_a_pass_means.md": [
        ("calibration.md", "| conv2d | 1000 | 1000 | 1000 of 1000 |", "6,000 of 6,000"),
        ("calibration.md", "- share caught above the floor: 0.9988", "99.88 % of errors"),
        ("calibration.md", "- covered: 30000", "30,000 of 30,000"),
        ("museum.md", "178 of 178 planted bugs seen", "178 of 178"),
        ("operators.md", "| 1e-06 | 487 | 486 | 486 | 1 | 0 |", "486 of 487 planted, 1 below"),
        ("calibration.md", "- checks: 110032\n- FAIL: 0", "0 FAIL in 110,032"),
        ("calibration.md", "- entry right: 0.9983", "99.83 %"),
        ("calibration.md", "- share right: 0.9988", "in 99.88 %, and 0 wrong"),
        ("calibration.md", "- share confidently wrong: 0\n", "and 0 wrong ones"),
        ("museum.md", "| gradcert | 21 of 63 | 48 of 63 |", "48 of 63 bugs were seen at 25 drawn cases, 21 at one"),
        ("museum.md", "| `bn-large-N` | gradient | - |", "`bn-large-N` were not seen"),
        ("museum.md", "| `pool-int32` | gradient | - |", "`pool-int32`"),
    ],
    "faq.md": [("calibration.md", "PyTorch's fast mode | 0.9179 | 1.2 |", "0.92 times as long")],
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_of_a_page_are_those_of_the_measured_pages(name: str) -> None:
    page = " ".join(PAGES[name].split())
    for source, row, figure in FIGURES[name]:
        assert figure in page
        assert row in PAGES[source], f"{name}: {figure} was measured anew"


def test_a_page_counts_the_bugs_of_the_museum_as_its_table_does() -> None:
    table = re.findall(r"^\| `[\w-]+` \| (forward|state) \| ([\w -]+) \|", PAGES["museum.md"], re.MULTILINE)
    seen = {kind: [each == kind and by != "-" for each, by in table if each == kind] for kind in ("forward", "state")}
    page = PAGES["how/what_a_pass_means.md"]
    assert f"saw {sum(seen['forward'])} of {len(seen['forward'])} such bugs of the museum" in page
    assert f"saw {sum(seen['state'])} of {len(seen['state'])} such bugs." in page


def test_a_page_counts_the_checks_at_ties_as_the_calibration_does() -> None:
    rows = re.findall(r"^\| at ties: .* \| (\d+) \| (\d+) \| (\d+) \| 0 \|$", PAGES["calibration.md"], re.MULTILINE)
    assert f"{sum(int(count) for row in rows for count in row):,} checks of {len(rows) // 2}" in PAGES["how/ties.md"]


def test_the_v_curve_is_what_its_script_measures() -> None:
    script = runpy.run_path(str(DOCS / "pictures" / "v_curve.py"))
    curves = script["measured"]()
    assert not any(curves[-1].errors.values())
    page = PAGES["how/integers.md"]
    for curve in curves[:-1]:
        # Another BLAS or NumPy rounds otherwise: the order of magnitude stays.
        said = re.search(rf"\| {re.escape(curve.name)} \| (\S+) \|", page)
        assert said
        assert float(said.group(1)) / 10 <= curve.best[1] <= float(said.group(1)) * 10
    drawn = ElementTree.fromstring((DOCS / "pictures" / "v_curve.svg").read_text(encoding="utf-8"))
    texts = {each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {curve.name for curve in curves} <= texts


@pytest.mark.parametrize("path", sorted((DOCS / "pictures").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_has_a_text_and_asks_for_nothing(path: Path) -> None:
    drawn = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert drawn.get("aria-label") or drawn.find("{http://www.w3.org/2000/svg}title") is not None
    assert not re.search(r'(?:href|src)="(?!#)|url\((?!["\']?#)|@import', path.read_text(encoding="utf-8"))


def test_the_files_and_functions_that_a_page_names_are_there() -> None:
    page = PAGES["how/how_a_check_runs.md"]
    files = {name for name in re.findall(r"`([\w/]+\.py)`", page) if "/" in name}
    assert len(files) > 10
    missing = [name for name in files if not any((VERIFY / root / name).exists() for root in ("", "checker"))]
    assert not missing
    named = re.findall(r"`(\w[\w/]*\.py)`: ((?:`\w+`(?:, )?)+)", page)
    assert len(named) > 8
    for path, functions in named:
        module = importlib.import_module(f"verify.{path.removesuffix('.py').replace('/', '.')}")
        for function in re.findall(r"`(\w+)`", functions):
            assert hasattr(module, function), f"{path}: {function}"


def test_a_page_lists_every_objection_that_is_asked() -> None:
    asked = {
        f"{objection.__module__.rpartition('.')[2]}.{objection.__name__}"
        for candidate in CANDIDATES
        for reference in candidate.references(1e-9)
        for objection in reference.objections
    }
    rows = re.findall(r"^\| (`.*`) \| .* \| .* \|$", PAGES["how/objections.md"], re.MULTILINE)
    assert set(re.findall(r"`(\w+\.\w+)`", " ".join(rows))) == asked
