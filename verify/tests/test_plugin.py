"""The pytest plugin, run by pytester: fixture, seeds, summary, JUnit's properties, xdist; silence when unused."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import verify.checker.check  # before pytester's runs in this process, which unload what they load

# The entry point has the name of the module, so an installed gradcert loads it once.
# Without the plugin of Hypothesis a process starts in a third of the time.
PLUGIN = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest", "-p", "verify.plugin")

CHECKS = """
    import numpy as np
    import pytest

    def matmul(x, w):
        return x @ w, (x, w)

    def right(dy, cache):
        x, w = cache
        return dy @ w.T, x.T @ dy

    def wrong(dy, cache):
        dx, dw = right(dy, cache)
        return dx, 2 * dw

    ARRAYS = np.ones((2, 3)), np.ones((3, 4))

    def test_right(gradcheck):
        certificate = gradcheck(matmul, right, ARRAYS)
        assert certificate.structure == "multilinear"

    def test_wrong(gradcheck):
        gradcheck(matmul, wrong, ARRAYS)

    def test_twice(gradcheck):
        for _ in range(2):
            gradcheck(lambda x: (np.tanh(x), x), lambda dy, x: (dy / np.cosh(x) ** 2,), (np.array([0.3]),))

    def test_undecided(gradcheck):
        with np.errstate(over="ignore"):
            certificate = gradcheck(
                lambda x: (np.exp(x), x), lambda dy, x: (dy * np.exp(x),), (np.array([0.5, 1e3]),),
                structure="smooth", raise_on_failure=False,
            )
        assert certificate.verdict == "INCONCLUSIVE"

    def test_without():
        pass
"""

SUMMARY = [
    "*= gradients checked =*",
    "*::test_right* *matmul * dx *PASS *exact integers * miss *e-* 1 check *seed *",
    "*::test_right* *matmul * dw *PASS *exact integers * miss *e-* 1 check *seed *",
    "*::test_wrong *matmul * dx *PASS *exact integers * - *1 check *seed *",
    "*::test_wrong *matmul * dw *FAIL *exact integers * - *1 check *seed *",
    "*::test_twice *lambda *dx *PASS *complex step * miss <*e-* 2 checks *seed *",
    "*::test_undecided *lambda *dx *INCONCLUSIVE *extrapolated differences * - *1 check *seed *",
    "miss: the probability that a wrong gradient passes; with <, the largest relative error that may pass",
]


PROPERTIES = {
    ("test_right", "gradcheck matmul dx", "PASS, exact integers"),
    ("test_right", "gradcheck matmul dw", "PASS, exact integers"),
    ("test_wrong", "gradcheck matmul dx", "PASS, exact integers"),
    ("test_wrong", "gradcheck matmul dw", "FAIL, exact integers"),
    ("test_twice", "gradcheck lambda dx", "PASS, complex step"),
    ("test_undecided", "gradcheck lambda dx", "INCONCLUSIVE, extrapolated differences"),
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subprocesses find a checkout that is not installed."""
    root = str(Path(verify.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def _seeds(result: pytest.RunResult) -> dict[str, str]:
    """Test and gradient -> the seed in the summary."""
    found = re.findall(r"^\S+::(\w+)\S* +\S+ +(\w+) .* seed (\d+)$", result.stdout.str(), re.MULTILINE)
    assert found
    return {f"{test} {gradient}": seed for test, gradient, seed in found}


def _properties(pytester: pytest.Pytester) -> set[tuple[str | None, str | None, str]]:
    """Test, name, and value up to the oracle."""
    cases = ElementTree.parse(pytester.path / "report.xml").iter("testcase")
    found = [
        (case.get("name"), each.get("name"), each.get("value")) for case in cases for each in case.iter("property")
    ]
    return {(test, name, ", ".join(str(value).split(", ")[:2])) for test, name, value in found}


def test_the_fixture_checks_and_the_summary_says_what(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECKS)
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["*GradientMismatch: FAIL: dw is wrong in * of 12 entries; dw[[]*] is * and should be *", *SUMMARY]
    )
    assert "test_without " not in result.stdout.str()
    assert "in recorded" not in result.stdout.str()
    assert "raise_on_failure and" not in result.stdout.str()  # the traceback ends in the test


WAYS = """
    import numpy as np
    import pytest
    from verify import adapters, check_layer, parametrize_with_checks

    class Linear:
        def __init__(self):
            self.W = np.ones((4, 3))
        def forward(self, x):
            self.x = x
            return x @ self.W
        def backward(self, dy):
            self.dW = 2 * self.x.T @ dy
            return dy @ self.W.T

    X = np.ones((5, 4))

    def test_fixture(gradcheck):
        gradcheck.plain(Linear(), (X,), wrt=["x"])

    def test_fixture_wrong(gradcheck):
        gradcheck.plain(Linear(), (X,))

    def test_direct():
        adapters.gradcheck(Linear(), (X,), raise_on_failure=False)

    def test_battery():
        check_layer(Linear(), [((X,), {})])

    @parametrize_with_checks([Linear], [((X,), {})])
    def test_checks(layer, check):
        check(layer)
"""


def test_all_ways_are_listed_and_the_message_is_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WAYS)
    result = pytester.runpytest_inprocess(*PLUGIN, "--junitxml=report.xml")
    result.assert_outcomes(passed=2 + 8, failed=2 + 6, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "E *verify.GradientMismatch: FAIL: *",
            "E *verify.LayerError: Linear: 15 checks in *",
            "*::test_fixture *Linear  dx *PASS *exact integers * miss *",
            "*::test_fixture_wrong *Linear  dW *FAIL *",
            "*::test_direct *Linear  dW *FAIL *",
            "*::test_battery *Linear  all-gradients-together *FAIL * 1 case *",
            "*::test_battery *Linear  gradients-of-an-empty-batch *NOT APPLICABLE *",
            "*::test_checks?Linear-gradients-at-ties? *Linear  gradients-at-ties *FAIL *",
        ]
    )
    assert "in check\n" not in result.stdout.str()  # the tracebacks end in the tests
    assert "def check_layer(" not in result.stdout.str()
    cases = ElementTree.parse(pytester.path / "report.xml").iter("testcase")
    messages = {case.get("name"): failure.get("message") for case in cases for failure in case.iter("failure")}
    assert all(message and "\n" not in message and message.startswith("FAIL: ") for message in messages.values())
    assert str(messages["test_battery"]).startswith("FAIL: Linear, all-gradients-together, each-gradient-alone, ")
    assert messages["test_checks[Linear-gradients-at-ties]"] == (
        "FAIL: Linear, gradients-at-ties: as above: all-gradients-together"
    )


@pytest.mark.long
def test_of_very_many_rows_those_that_passed_are_counted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        @pytest.mark.parametrize("k", range(201))
        def test_it(gradcheck, k):
            backward = lambda dy, _: ((3 if k == 7 else 2) * dy,)
            gradcheck(lambda x: (2 * x, None), backward, (np.ones(2),), raise_on_failure=False)
        """
    )
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.stdout.fnmatch_lines(["*::test_it?7? *FAIL *", "and 200 that passed, listed by -v"])
    assert "test_it[8]" not in result.stdout.str()
    assert "test_it[8]" in pytester.runpytest_inprocess(*PLUGIN, "-v").stdout.str()


def test_other_exceptions_keep_their_message(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        class Other(Exception):
            certificate = "one"

        def test_other():
            raise Other("two\\nlines")
        """
    )
    pytester.runpytest_inprocess(*PLUGIN, "--junitxml=report.xml")
    (failure,) = ElementTree.parse(pytester.path / "report.xml").iter("failure")
    assert "Other: two" in str(failure.get("message"))


def test_seeds_follow_from_the_tests_names_and_calls(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np
        SEEDS = []

        def test_one(gradcheck):
            for _ in range(2):
                SEEDS.append(gradcheck(lambda x: (2 * x, None), lambda dy, _: (2 * dy,), (np.ones(3),)).seed)

        def test_another(gradcheck):
            SEEDS.append(gradcheck(lambda x: (2 * x, None), lambda dy, _: (2 * dy,), (np.ones(3),)).seed)

        def test_own_seed(gradcheck):
            arguments = lambda x: (2 * x, None), lambda dy, _: (2 * dy,), (np.ones(3),)
            assert gradcheck(*arguments, seed=7).seed == 7

        def test_seeds():
            print("SEEDS", *SEEDS)
        """
    )
    results = [pytester.runpytest_inprocess(*PLUGIN, "-s") for _ in range(2)]
    first, second = (re.findall(r"SEEDS (.*)", result.stdout.str())[0].split()[:3] for result in results)
    assert first == second
    assert len(set(first)) == 3
    given = pytester.runpytest_inprocess(*PLUGIN, "-s", "--gradcert-seed", "5")
    given.assert_outcomes(passed=4)
    assert "SEEDS 5 5 5" in given.stdout.str()


@pytest.mark.parametrize("family", ["xunit2", "xunit1"])
def test_junit_gets_properties_unless_told_not_to(pytester: pytest.Pytester, family: str) -> None:
    pytester.makepyfile(CHECKS)
    junit = ("--junitxml=report.xml", "-o", f"junit_family={family}", "-W", "error::pytest.PytestWarning")
    pytester.runpytest_inprocess(*PLUGIN, *junit).assert_outcomes(passed=4, failed=1)
    assert _properties(pytester) == PROPERTIES
    silenced = pytester.runpytest_inprocess(*PLUGIN, *junit, "-o", "gradcert_junit=false")
    silenced.assert_outcomes(passed=4, failed=1)
    assert _properties(pytester) == set()
    silenced.stdout.fnmatch_lines(SUMMARY)


def test_xdist_changes_neither_summary_nor_properties_nor_seeds(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECKS.replace("def test_right", '@pytest.mark.xdist_group("one")\n    def test_right'))
    alone = pytester.runpytest_inprocess(*PLUGIN)
    workers = ("-n", "2", "--dist", "loadgroup")
    spread = pytester.runpytest_subprocess(*PLUGIN, *workers, "--junitxml=report.xml")
    spread.assert_outcomes(passed=4, failed=1)
    for line in SUMMARY:  # in any order
        spread.stdout.fnmatch_lines([line])
    assert _seeds(spread) == _seeds(alone)
    assert {(str(test).split("@")[0], *rest) for test, *rest in _properties(pytester)} == PROPERTIES


def test_unused_it_is_silent_and_imports_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "verify.plugin" in sys.modules
            heavy = {"numpy", "hypothesis", "verify.checker.check", "verify.battery.checks", "cnn_core"}
            assert not heavy & set(sys.modules)
        """
    )
    for workers in ((), ("-n", "1")):
        result = pytester.runpytest_subprocess(*PLUGIN, "--junitxml=report.xml", *workers)
        result.assert_outcomes(passed=1)
        assert "gradients checked" not in result.stdout.str()
        assert "gradcheck" not in (pytester.path / "report.xml").read_text(encoding="utf-8")


def test_a_fixture_asked_for_and_not_called_is_silent(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(gradcheck): pass")
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1)
    assert "gradients checked" not in result.stdout.str()


def test_its_assertions_are_rewritten(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import verify.plugin

        def test_loader():
            assert type(verify.plugin.__loader__).__name__ == "AssertionRewritingHook"
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(gradcheck): pass")
    out = ("-p", "no:verify.plugin", *PLUGIN[:6])
    pytester.runpytest_inprocess(*out).assert_outcomes(errors=1)


def test_a_seed_that_cannot_be_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECKS)
    result = pytester.runpytest_subprocess(*PLUGIN, "--gradcert-seed=-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*must be a whole number from 0 up, got '-1'*"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_folder_gets_a_page_for_each_check_that_did_not_pass_and_an_index(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    pytester.makepyfile(CHECKS + HOSTILE)
    pytester.runpytest_subprocess(*PLUGIN, *workers, "--gradcert-html", "pages/new")
    pages = {path.name: path.read_text(encoding="utf-8") for path in (pytester.path / "pages" / "new").iterdir()}
    index = pages.pop("index.html")
    assert sorted(re.findall(r'href="([^"#]+\.html)"', index)) == sorted([*pages, *_twice(pages)])
    assert len(pages) == 4
    assert index.count('<td class="verdict PASS">PASS</td>') >= 4
    assert sum("dw, difference" in page for page in pages.values()) == 2
    for text in (index, *pages.values()):
        assert "<script" not in text


HOSTILE = """
    @pytest.mark.parametrize("name", ["<script>alert(1)</script>"])
    def test_hostile(gradcheck, name):
        gradcheck(matmul, wrong, ARRAYS)

    def test_battery():
        from verify import check_layer
        check_layer((matmul, wrong), [(ARRAYS, {})], checks=["all-gradients-together"])
"""


def _twice(pages: dict[str, str]) -> list[str]:
    """The pages of checks that have two gradients, and so two rows."""
    return [name for name in pages if "test-wrong" in name or "test-hostile" in name]


def test_without_a_check_the_index_says_so(pytester: pytest.Pytester) -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    pytester.makepyfile("def test_nothing(): pass")
    pytester.runpytest_subprocess(*PLUGIN, "--gradcert-html", "pages").assert_outcomes(passed=1)
    assert "no test checked a gradient" in (pytester.path / "pages" / "index.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytest.importorskip("jinja2", reason="pages are an extra: gradcert[report]")
    pytester.makepyfile("def test_nothing(): pass")
    (pytester.path / "taken").write_text("a file", encoding="utf-8")
    result = pytester.runpytest_subprocess(*PLUGIN, "--gradcert-html", "taken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--gradcert-html 'taken': *"])
