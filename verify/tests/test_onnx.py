"""ONNX as an oracle: the test cases of the operators that our layers have, forward in every version.

The package `onnx` brings the cases, each with its inputs, outputs and tolerances. `onnx_calls` translates them. A case
that no layer can take is listed by its name, and must fail in the words of its reason.

Cases named `_expanded` are no others: they hold the arrays of the case without this ending, in other operators.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

from onnx_calls import TRANSLATORS, Absent, Call
from verify.layers import LAYERS

onnx = pytest.importorskip("onnx")


def _collected() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases of other operators divides by 0
        return {case.name.removeprefix("test_"): case for case in collect_testcases(None)}


EVERY = _collected()
EXPANDED = [name for name in EVERY if "_expanded" in name]
CASES = {
    name: case
    for name, case in EVERY.items()
    if name not in EXPANDED and len(nodes := case.model.graph.node) == 1 and nodes[0].op_type in TRANSLATORS
}

# The cases that no layer takes, by reason: the words in which they fail, and their names.
LISTED = {
    "images of three dimensions": (
        "must have 4 axes|must be an integer or a pair",
        "averagepool_3d_default col2im_5d convtranspose_3d maxpool_3d_default maxpool_3d_dilations "
        "maxpool_3d_dilations_use_ref_impl maxpool_3d_dilations_use_ref_impl_large",
    ),
    "whole numbers, whose sums wrap around": (
        "must be a floating or complex array",
        "add_int8 add_int16 add_uint8 add_uint16 add_uint32 add_uint64",
    ),
    "float16": (
        "no layer is specified for float16",
        "causal_conv_with_state_fp16 causal_conv_with_state_silu_fp16",
    ),
    "average pooling with a dilation, which PyTorch has not either": (
        "has no dilation=",
        "averagepool_2d_dilations averagepool_3d_dilations_small "
        "averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False "
        "averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True "
        "averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False "
        "averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
    ),
    "padding of more than half the window, which PyTorch refuses too": (
        "more than half the window 3",
        "averagepool_2d_pads averagepool_2d_pads_count_include_pad maxpool_2d_pads",
    ),
    "indices counted in the size that the windows give (here 4x4); ours, as PyTorch's, in output_size": (
        "Not equal to tolerance",
        "maxunpool_export_with_output_shape",
    ),
    "dropout in evaluation, where y is x": (
        "in evaluation the layer is left out|unexpected keyword argument 'ratio'",
        "dropout_default dropout_default_mask dropout_default_mask_ratio dropout_default_old dropout_default_ratio "
        "dropout_random_old",
    ),
    "a mask that is drawn and not given; the same cases with a mask are compared": (
        "the mask is drawn",
        "training_dropout training_dropout_default training_dropout_zero_ratio",
    ),
    "several axes before the flattened ones": (
        "flatten keeps the first axis alone",
        "flatten_axis0 flatten_axis2 flatten_axis3 flatten_negative_axis1 flatten_negative_axis2 "
        "flatten_negative_axis4",
    ),
    "gelu by the error function": (
        "gelu is the tanh form",
        "gelu_default_1 gelu_default_2",
    ),
    "a bias that differs from row to row": (
        "could not be broadcast",
        "gemm_default_matrix_bias",
    ),
    "several matrices": (
        "linear has one matrix",
        "matmul_1d_3d matmul_3d matmul_4d matmul_bcast",
    ),
    "a sum of one array or of three": (
        "add takes x, z",
        "sum_example sum_one_input",
    ),
    "depth to space with the channel as the fastest part of the axis": (
        "pixel_shuffle has the channel in front",
        "depthtospace_example",
    ),
    "bicubic interpolation": (
        "no layer is bicubic",
        "resize_downsample_scales_cubic resize_downsample_scales_cubic_align_corners resize_downsample_sizes_cubic "
        "resize_upsample_scales_cubic resize_upsample_scales_cubic_align_corners "
        "resize_upsample_scales_cubic_asymmetric resize_upsample_sizes_cubic",
    ),
    "antialiasing, or bicubic weights of another kind than those of PyTorch": (
        "unexpected keyword argument '(antialias|cubic_coeff_a|exclude_outside)'",
        "resize_downsample_scales_cubic_A_n0p5_exclude_outside resize_downsample_scales_cubic_antialias "
        "resize_downsample_scales_linear_antialias resize_downsample_sizes_cubic_antialias "
        "resize_downsample_sizes_linear_antialias resize_upsample_scales_cubic_A_n0p5_exclude_outside",
    ),
    "a size made of a size and the shape of the image": (
        "unexpected keyword argument 'keep_aspect_ratio_policy'",
        "resize_downsample_sizes_nearest_not_larger resize_downsample_sizes_nearest_not_smaller "
        "resize_upsample_sizes_nearest_not_larger resize_upsample_sizes_nearest_not_smaller",
    ),
    "coordinates that PyTorch has not either": (
        "no layer has the coordinates|unexpected keyword argument 'extrapolation_value'",
        "resize_downsample_scales_linear_half_pixel_symmetric resize_tf_crop_and_resize "
        "resize_tf_crop_and_resize_axes_2_3 resize_tf_crop_and_resize_axes_3_2 "
        "resize_tf_crop_and_resize_extrapolation_value resize_upsample_scales_linear_half_pixel_symmetric",
    ),
    "the nearest entry by another rule than floor(i * step)": (
        "Not equal to tolerance",
        "resize_downsample_scales_nearest resize_downsample_sizes_nearest "
        "resize_upsample_sizes_nearest_ceil_half_pixel resize_upsample_sizes_nearest_floor_align_corners "
        "resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric",
    ),
    "corners aligned in 2.4 columns, 4 * 0.6; ours, as PyTorch's, in the 2 that there are": (
        "Not equal to tolerance",
        "resize_downsample_scales_linear_align_corners",
    ),
    "one output at the first entry; ours, as PyTorch's, in the middle": (
        "Not equal to tolerance",
        "resize_downsample_sizes_linear_pytorch_half_pixel",
    ),
}
REASONS = {name: words for words, names in LISTED.values() for name in names.split()}


def operator(case: Any) -> str:
    """Return the operator of a case."""
    return str(case.model.graph.node[0].op_type)


def call_of(case: Any) -> Call:
    """Translate a case. An empty name stands for an input that is not given."""
    node, (inputs, outputs) = case.model.graph.node[0], case.data_sets[0]
    for dtype in {array.dtype.name for array in inputs} & {"bfloat16", "float16"}:
        raise Absent(f"no layer is specified for {dtype}")
    given = dict(zip(filter(None, node.input), inputs, strict=True))
    values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
    if operator(case) == "Dropout" and len(outputs) > 1:
        attributes["mask"] = outputs[1]  # ONNX draws the mask, our layer is given one
    return TRANSLATORS[operator(case)](*map(given.get, node.input), **attributes)


def compare(case: Any) -> None:
    """Compare every version with the outputs of the case."""
    call = call_of(case)
    for version in LAYERS[call.layer].implementations:
        results = call.results(*version.forward(*call.arrays, **call.options))
        assert results
        for got, expected in zip(results, case.data_sets[0][1], strict=False):
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype), version.name
            np.testing.assert_allclose(got, expected, case.rtol, case.atol, err_msg=version.name)


@pytest.mark.parametrize("name", [name for name in CASES if name not in REASONS])
def test_every_version_gives_the_outputs_of_the_case(name: str) -> None:
    compare(CASES[name])


@pytest.mark.parametrize("name", REASONS)
def test_a_listed_case_fails_in_the_words_of_its_reason(name: str) -> None:
    with pytest.raises((Absent, AssertionError, TypeError, ValueError), match=REASONS[name]):
        compare(CASES[name])


def test_no_case_is_listed_twice() -> None:
    assert len(REASONS) == sum(len(names.split()) for _, names in LISTED.values())


def test_each_layer_has_a_case_of_each_operator_it_declares() -> None:
    compared = {(call_of(case).layer, operator(case)) for name, case in CASES.items() if name not in REASONS}
    assert compared == {(layer.name, each) for layer in LAYERS.values() for each in layer.onnx}
    assert {each for _, each in compared} == set(TRANSLATORS)


def test_an_expanded_case_holds_the_arrays_of_the_case_it_expands() -> None:
    assert EXPANDED
    assert {name.split("_expanded")[0] for name in EXPANDED} <= set(EVERY)
    for name in (name for name in EXPANDED if name.split("_expanded")[0] in CASES):
        pairs = zip(EVERY[name].data_sets[0], EVERY[name.split("_expanded")[0]].data_sets[0], strict=True)
        for got, expected in itertools.chain.from_iterable(zip(*pair, strict=True) for pair in pairs):
            np.testing.assert_array_equal(got, expected, err_msg=name)
