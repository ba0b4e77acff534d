"""The certificate: it holds everything, survives JSON and pickle, and follows from the seed."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from cnn_core import conv2d, relu
from helpers import conv_arrays, sabotaged
from verify import Certificate, GradientMismatch, gradcheck


def test_a_certificate_says_everything_in_json_and_survives_pickling() -> None:
    arrays = conv_arrays()
    certificate = gradcheck(*conv2d.im2col[1:], arrays, {"padding": 1}, seed=5)
    assert certificate.verdict == "PASS"
    assert certificate.seed == 5
    assert certificate.worst is None
    assert certificate.miss_probability is not None
    assert certificate.miss_probability <= 1e-9
    assert [result.name for result in certificate.arguments] == ["x", "w", "b"]
    plain = json.loads(certificate.to_json())
    assert plain["arguments"][1]["shape"] == [4, 3, 3, 2]
    assert plain["forward_calls"] == certificate.forward_calls > 0
    wrong = sabotaged(conv2d.im2col, 1, lambda gradient: gradient * math.nan)
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(*wrong[1:], arrays)
    assert not caught.value.certificate
    assert json.loads(caught.value.certificate.to_json())["worst"]["analytic"] == "nan"
    assert isinstance(pickle.loads(pickle.dumps(caught.value)).certificate, Certificate)


def test_the_same_seed_gives_the_same_certificate() -> None:
    one, two = (gradcheck(*conv2d.im2col[1:], conv_arrays(), seed=3).to_dict() for _ in range(2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.parametrize("asked", [1e-3, 1e-9, 1e-30])
def test_the_miss_probability_asked_for_is_kept(asked: float) -> None:
    certificate = gradcheck(*relu.vectorized[1:], (np.zeros(3),), miss_probability=asked)
    assert certificate.miss_probability is not None
    assert certificate.miss_probability <= asked
