"""dctkd_zoo._moved: code that names modules and functions as version 0.1 did still runs."""

import subprocess
import sys
from importlib import import_module

import pytest

from dctkd_zoo import _moved

EARLIER = """
from dctkd_zoo import knowledge, publishing, ranks
from dctkd_zoo.features import Tapped
from dctkd_zoo.spec import Cosine, MultiStep, Step
from eval import card, cards, compare, run
from eval.run import Where, evaluate
from train.teacher import check_knowledge
import train.where
import dctkd_zoo.data.store

assert callable(evaluate) and callable(cards.render) and callable(compare.compare) and callable(publishing.card)
assert run.Where is Where and Where.__name__ == "EvalConfig" and train.where.Where.__name__ == "TrainConfig"
assert Tapped.__name__ == "FeatureExtractor" and knowledge.Knowledge.__name__ == "TeacherCache" and ranks.leads()
assert Step.__module__ == Cosine.__module__ == MultiStep.__module__ == "dctkd_zoo.schedules" and check_knowledge
"""


@pytest.mark.parametrize("module", _moved.MODULES)
def test_an_earlier_module_gives_what_the_new_one_has(module):
    new = import_module(_moved.MODULES[module])
    public = [name for name, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__]
    renamed = {name.rpartition(".")[2] for name in _moved.NAMES}
    for name in public:
        if name.startswith("_") or name in renamed or hasattr(sys.modules.get(module), "__path__"):
            continue
        assert getattr(import_module(module), name) is getattr(new, name)


@pytest.mark.parametrize("name", _moved.NAMES)
def test_an_earlier_name_gives_what_is_now_called_otherwise(name):
    module, _, earlier = name.rpartition(".")
    target, _, attribute = _moved.NAMES[name].rpartition(".")
    assert getattr(import_module(module), earlier) is getattr(import_module(target), attribute)


def test_imports_of_before_run_in_a_new_process():
    done = subprocess.run([sys.executable, "-c", EARLIER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_never_was_is_an_error():
    with pytest.raises(ImportError, match="never"):
        exec("from dctkd_zoo.knowledge import never")
    with pytest.raises(ImportError):
        import_module("eval.never")
