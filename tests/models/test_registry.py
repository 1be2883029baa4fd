"""Names, arguments and errors of the table of networks."""

from __future__ import annotations

import pytest

from kseg.errors import UsageError
from kseg.models import create, describe, names, resolve


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("fcn8s", "FCN8s"),
        ("FCN-8s", "FCN8s"),
        ("fcn 8s at once", "FCN8sAtOnce"),
        ("lraspp", "LRASPP"),
        ("LR-ASPP", "LRASPP"),
        ("u_net", "UNet"),
        ("ResUNet", "ResUNet"),
    ],
)
def test_names_are_blind_to_case_and_separators(written: str, meant: str) -> None:
    assert resolve(written) == meant
    assert describe(written).name == meant
    assert meant in names()


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"no model 'resunt'\. Did you mean 'ResUNet'\? Known models: CRFRNN"
    ):
        create("resunt")


def test_an_unknown_argument_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"has no argument `widht`\. Did you mean .width.\?.*dropout"):
        create("resunet", widht=0.5)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"width": -1}, "width"),
        ({"width": "thin"}, "width"),
        ({"dropout": 1.0}, "dropout"),
        ({"input_shape": (64, 64)}, "input_shape"),
        ({"input_shape": (64, 64, None)}, "input_shape"),
        ({"input_shape": (0, 64, 3)}, "input_shape"),
    ],
)
def test_values_out_of_range_are_named(wrong: dict, named: str) -> None:
    with pytest.raises(UsageError, match=f"ResUNet: argument `{named}` must .* Received: {named}="):
        create("resunet", **wrong)


def test_info_holds_every_argument_but_size_and_weights() -> None:
    info = create("resunet", input_shape=(64, 64, 3), num_classes=2, width=0.25, name="mine").info
    assert info.architecture == "ResUNet"
    assert info.arch_args == {"num_classes": 2, "width": 0.25, "dropout": 0.1, "name": "mine"}
    assert info.stride == 32
