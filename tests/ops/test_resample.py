"""upsample against its definition at single points."""

import numpy as np
import pytest

import minigrad as mg


def test_nearest_by_a_whole_factor_repeats():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    got = mg.upsample(x, (3, 2)).data
    np.testing.assert_array_equal(got, x.repeat(3, axis=2).repeat(2, axis=3))


def test_the_size_x_has_already_changes_nothing():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for options in {"size": (4, 5)}, {"scale_factor": 1}, {"scale_factor": 1.1}:
        for mode in "nearest", "bilinear":
            np.testing.assert_array_equal(mg.upsample(x, mode=mode, **options).data, x)


@pytest.mark.parametrize("size", [(2, 9), (1, 1), (13, 3)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_reproduces_a_plane_away_from_the_border(size, align_corners):
    H, W = 4, 5
    h, w = np.mgrid[:H, :W]
    x = (2.0 * h - 3 * w + 1)[None, None]

    def positions(n, out):
        i = np.arange(out)
        if align_corners:
            return i * ((n - 1) / max(1, out - 1))
        return np.clip((i + 0.5) * n / out - 0.5, 0, n - 1)

    rows, columns = positions(H, size[0]), positions(W, size[1])
    want = 2 * rows[:, None] - 3 * columns + 1
    got = mg.upsample(x, size=size, mode="bilinear", align_corners=align_corners).data
    np.testing.assert_allclose(got[0, 0], want, atol=1e-13)


def test_the_gradient_of_nearest_is_the_sum_over_the_copies():
    x = mg.tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
    w = np.random.default_rng(0).standard_normal((1, 1, 6, 4))
    mg.upsample(x, (3, 2)).backward(w)
    np.testing.assert_allclose(x.grad[0, 0], w[0, 0].reshape(2, 3, 2, 2).sum((1, 3)), rtol=1e-13)
