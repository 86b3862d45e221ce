"""What a network shows of itself: the parameters that were set, as scikit-learn does."""

import re

import pytest
from nets_for_tests import KINDS, Rates, make

from sklearn_patchcert import CertifiedPatchClassifier, PatchVocabulary


def rows(html):
    """Names in the tables of parameters of an HTML representation, and how they came about."""
    found = re.findall(r'<tr class="(default|user-set)">.*?copyToClipboard\(\'(.*?)\'', html, re.S)
    return [(name, how) for how, name in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_the_parameters_and_those_set_first(kind, few):
    net = kind(lr=0.1, module__width=8, max_epochs=1, random_state=0)
    names = set(net.get_params(deep=False))
    for fitted in (False, True):
        shown = rows((net.fit(*few) if fitted else net)._repr_html_())
        assert {name for name, _ in shown} == names
        own = [name for name, how in shown if how == "user-set"]
        assert sorted(own) == ["lr", "max_epochs", "module__width", "random_state"]
        assert [name for name, _ in shown[:4]] == own
    assert "history_" in net._repr_html_()
    assert "cuda_dependent_attributes_" not in net._repr_html_()
    inside = CertifiedPatchClassifier([("vocab", PatchVocabulary()), ("clf", kind())])
    assert not [name for name, how in rows(inside._repr_html_()) if "callbacks__" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_the_call_that_makes_it(kind, few):
    assert repr(kind()) == f"{kind.__name__}()"
    text = f"{kind.__name__}(lr=0.1, max_epochs=1, module__width=8)"
    net = kind(lr=0.1, module__width=8, max_epochs=1)
    assert repr(net) == str(net) == text
    assert repr(net.fit(*few)) == text


def test_callbacks_of_the_user_are_shown():
    net = make(callbacks=[Rates()], callbacks__print_log=None)
    assert "callbacks__print_log=None" in repr(net)
    shown = dict(rows(net._repr_html_()))
    assert shown["callbacks"] == shown["callbacks__print_log"] == "user-set"
