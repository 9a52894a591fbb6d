"""The examples of docstrings give what they show."""

import doctest
import importlib
import pkgutil

import pytest

import infoatlas_rl

CORE = ["infoatlas_rl"] + [
    name
    for _, name, _ in pkgutil.walk_packages(infoatlas_rl.__path__, "infoatlas_rl.")
    if not name.startswith(("infoatlas_rl.maniskill", "infoatlas_rl.policies", "infoatlas_rl.tasks"))
]


def examples(name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(importlib.import_module(name)) if test.examples]


@pytest.mark.parametrize("test", [test for name in CORE for test in examples(name)], ids=lambda test: test.name)
def test_what_docstrings_show(test):
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in infoatlas_rl.__all__ if callable(getattr(infoatlas_rl, name))])
def test_what_people_call_has_an_example(name):
    it = getattr(infoatlas_rl, name)
    if isinstance(it, type) and name != "InfoAtlasLoss":  # results, configurations and errors are shown by what returns them
        return
    assert ">>> " in it.__doc__
