"""Names, arguments and errors of the table of networks."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from kseg.errors import UsageError
from kseg.models import create, describe, names, resolve
from kseg.models.registry import altered, unions, untrained


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
    expected = {"num_classes": 2, "width": 0.25, "dropout": 0.1, "encoder": None, "name": "mine"}
    assert info.arch_args == expected
    assert info.stride == 32


@pytest.mark.parametrize(
    ("network", "wrong", "said"),
    [
        ("unet", {"depth": "two"}, "UNet: argument `depth`"),
        ("unet", {"depth": 2.5}, "UNet: argument `depth`"),
        ("unet", {"encoder": ["plain"]}, "encoder"),
        ("farabet", {"hidden": None, "scales": {}}, "FarabetNet: argument `scales`"),
        ("rcnn", {"features": [4, "x"]}, "RecurrentCNN: argument `features`"),
        ("farabet", {"hidden": 10**9, "classifier": "mlp"}, "`hidden` must be at most 1,048,576"),
        ("unet", {"depth": 10**6}, "UNet: argument `depth` must be at most 16"),
        ("rcnn", {"instances": 10**6}, "RecurrentCNN: argument `instances` must be at most 64"),
        ("unet", {"width": 16}, "has more than 1,073,741,824 weights"),
    ],
)
def test_foreign_arguments_are_refused_before_they_take_memory(
    network: str, wrong: dict[str, Any], said: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match=said):
        create(network, num_classes=3, **wrong)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000


def test_what_only_chooses_a_view_is_known_of_the_network_below_too() -> None:
    head = {"geometric_classes": 2, "geometric_labels": [0, 1, 1], "output_head": "geometric"}
    over = {"base": "FCN32s", "base_args": head}
    for name, arguments in (("fcn-8s", head), ("crfrnn", {"base_args": head}), ("crfrnn", over)):
        assert untrained(name, arguments) == {"output_head": ("geometric", "semantic")}
        assert unions(name, arguments) == ([0, 1, 1], 2)
    for name in (*names(), "no such network"):
        assert (untrained(name, {}), unions(name, {})) == ({}, None)


@pytest.mark.parametrize(
    ("name", "given", "kept", "found"),
    [
        ("UNet", {"width": 0.5}, {"width": 0.5}, []),
        ("UNet", {"width": "a"}, {"width": 0.5}, ["width"]),
        ("UNet", {}, {"width": 0.5}, ["width"]),
        ("UNet", {"depth": 4, "width": 1}, {"width": 1.0}, []),
        # What an old file means, what a network is told: open, until it is given.
        ("LRASPP", {}, {"variant": "late"}, []),
        ("LRASPP", {"variant": "early"}, {"variant": "late"}, ["variant"]),
        ("LRASPP", {"std": None}, {"std": [1, 2, 3]}, []),
        ("LRASPP", {"std": [1, 2, 4]}, {"std": [1, 2, 3]}, ["std"]),
        ("CRFRNN", {"base": "lraspp"}, {"base": "lraspp", "base_args": {"variant": "late"}}, []),
        (
            "CRFRNN",
            {"base": "lraspp", "base_args": {"width": 2}},
            {"base": "lraspp", "base_args": {"variant": "late", "width": 1}},
            ["base_args"],
        ),
        ("CRFRNN", {"base_args": 5}, {"base_args": {"width": 1}}, ["base_args"]),
    ],
)
def test_arguments_that_did_not_become_what_a_record_keeps(
    name: str, given: dict[str, Any], kept: dict[str, Any], found: list[str]
) -> None:
    assert list(altered(name, given, kept, ("std",))) == found
