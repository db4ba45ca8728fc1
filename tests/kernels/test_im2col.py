"""Lowering and its adjoint."""

import numpy as np

from minigrad.kernels.conv_geometry import geometry
from minigrad.kernels.im2col import col2im, im2col

SETTINGS = ((2, 1), (1, 0, 2, 1), (1, 2), 2)  # stride, padding, dilation, groups
G = geometry((2, 4, 5, 7), (6, 2, 3, 2), *SETTINGS)


def _columns_by_definition(x, group):
    """Look up every tap of every output pixel; outside the image are zeros."""
    columns = np.zeros((G.N, G.OH, G.OW, G.KH, G.KW, G.channels))
    for n, oh, ow, kh, kw in np.ndindex(columns.shape[:-1]):
        h = oh * G.stride_h - G.top + kh * G.dilation_h
        w = ow * G.stride_w - G.left + kw * G.dilation_w
        if 0 <= h < G.H and 0 <= w < G.W:
            channels = slice(group * G.channels, (group + 1) * G.channels)
            columns[n, oh, ow, kh, kw] = x[n, h, w, channels]
    return columns.reshape(G.pixels, G.depth)


def test_each_row_is_what_one_output_pixel_sees():
    x = np.random.default_rng(0).standard_normal((G.N, G.H, G.W, G.C))
    for group in range(G.groups):
        want = _columns_by_definition(x, group)
        for first, last in (0, G.pixels), (3, G.pixels - 2):
            row = G.depth + 3
            columns = np.full((last - first, row), np.nan)
            im2col(x.reshape(-1), G, group, first, last, columns.reshape(-1), row)
            np.testing.assert_array_equal(columns[:, : G.depth], want[first:last])
            assert np.isnan(columns[:, G.depth :]).all()


def test_col2im_is_the_adjoint_of_im2col_and_bands_of_rows_add_up_to_it():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((G.N, G.H, G.W, G.C))
    columns = rng.standard_normal((G.pixels, G.depth))
    for group in range(G.groups):
        back = np.zeros_like(x)
        for band in (0, 2), (2, 3), (3, G.H):
            col2im(columns.reshape(-1), G.depth, G, group, 0, G.pixels, back.reshape(-1), *band)
        np.testing.assert_allclose(
            np.vdot(_columns_by_definition(x, group), columns), np.vdot(x, back), rtol=1e-12
        )
