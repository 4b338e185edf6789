"""Warnings of our own code are errors to these tests; those of other packages are not."""

import warnings

import pytest


def raised_from(module: str, category: type[Warning] = UserWarning, message: str = "old") -> None:
    """A warning that points at a line of this module."""
    warnings.warn_explicit(message, category, f"{module.replace('.', '/')}.py", 1, module)


@pytest.mark.parametrize("module", ["ssl_mi", "ssl_mi.data.sets", "tests.test_module", "standins"])
@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, FutureWarning, ResourceWarning])
def test_a_warning_that_points_at_our_code_is_an_error(module, category):
    with pytest.raises(category, match="old"):
        raised_from(module, category)


@pytest.mark.parametrize("module", ["matplotlib._fontconfig_pattern", "pyparsing.util", "torch", "ssl_mi_extras"])
@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning])
def test_a_warning_within_another_package_is_none(module, category):
    with warnings.catch_warnings(record=True) as seen:
        raised_from(module, category)
    assert [str(warning.message) for warning in seen] == ["old"]


def test_a_deprecated_name_of_another_package_that_we_use_is_our_error():
    namespace: dict = {"__name__": "torch.functional"}
    exec("import warnings\ndef old(): warnings.warn('old', DeprecationWarning, stacklevel=2)", namespace)
    with pytest.raises(DeprecationWarning, match="old"):
        namespace["old"]()


def test_a_number_that_numpy_can_not_compute_is_an_error_wherever_it_is_noticed():
    with pytest.raises(RuntimeWarning, match="empty slice"):
        raised_from("numpy._core.fromnumeric", RuntimeWarning, "Mean of empty slice.")
