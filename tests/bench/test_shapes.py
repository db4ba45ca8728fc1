"""Shapes as text: what is printed can be read again, and wrong text is explained."""

import pytest

from minigrad.bench.shapes import (
    NETWORKS,
    ODD,
    PIXELS,
    POOLS,
    Conv,
    parse_conv,
    parse_pool,
    parse_shape,
)
from minigrad.core.errors import ArgumentError

TABLES = [text for table in (*NETWORKS.values(), ODD) for text in table]


@pytest.mark.parametrize("text", TABLES)
def test_a_shape_prints_as_it_is_read(text):
    assert str(parse_conv(text)) == text


def test_no_shape_stands_in_the_tables_twice():
    assert len(set(TABLES)) == len(TABLES)


def test_settings_reach_their_places():
    conv = parse_conv("2x6x9x11,4x3x5,s2,p1,d3,g2")
    assert conv == Conv(2, 6, 9, 11, 4, 3, 5, (2, 2), (1, 1), (3, 3), groups=2)
    assert conv.weight == (4, 3, 3, 5)
    assert conv.out == (2, 4, 3, 1)
    assert conv.flops == 2 * (2 * 4 * 3 * 1) * (3 * 3 * 5)
    assert conv.bytes == 4 * (2 * 6 * 9 * 11 + 4 * 3 * 3 * 5 + 2 * 4 * 3 * 1)


def test_rows_and_columns_may_have_settings_of_their_own():
    conv = parse_conv("2x6x9x11,4x3x5,s2x1,p0x2,d1x2")
    assert (conv.stride, conv.padding, conv.dilation) == ((2, 1), (0, 2), (1, 2))
    assert conv.out == (2, 4, 4, 7)
    assert str(conv) == "2x6x9x11,4x3x5,s2x1,p0x2,d1x2"


def test_groups_of_the_report():
    assert parse_conv("128x16x32x32,16x3x3,p1").group == "conv 3x3 stride 1"
    assert parse_conv("16x64x56x56,128x1x1,s2").group == "conv 1x1 stride 2"
    assert parse_conv("16x3x224x224,64x7x7,s2,p3").group == "conv 7x7 stride 2"
    assert {parse_conv(text).group for text in ODD} == {
        "conv, odd sizes",
        "conv, groups or dilation",
    }


def test_other_shapes():
    for text in PIXELS:
        assert len(parse_shape(text)) == 4
    assert parse_pool(POOLS[0]) == ((16, 64, 112, 112), (3, 3), (2, 2), (1, 1))


EXAMPLE = "Write it like 128x16x32x32,32x3x3,s2,p1."


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (
            parse_shape,
            "12by5",
            "bench: a shape is numbers with x between them, got '12by5'. "
            "Write it like 128x16x32x32.",
        ),
        (
            parse_conv,
            "2x3x5x7",
            f"bench: a convolution is NxCxHxW,FxKHxKW and its settings, got '2x3x5x7'. {EXAMPLE}",
        ),
        (
            parse_conv,
            "2x3x5x7,4x9x9",
            "bench: groups that divide C and F and a filter that fits are needed, got "
            f"'2x3x5x7,4x9x9', whose output is (2, 4, -3, -1). {EXAMPLE}",
        ),
        (
            parse_conv,
            "2x3x5x7,4x3x3,q1",
            "bench: a setting is one of s, p, d, g and a number, got 'q1' in '2x3x5x7,4x3x3,q1'. "
            "Write it like s2.",
        ),
        (
            parse_conv,
            "2x3x5x7,4x3x3,s2x0",
            "bench: a setting is one of s, p, d, g and a number, got 's2x0' in "
            "'2x3x5x7,4x3x3,s2x0'. Write it like s2.",
        ),
        (
            parse_pool,
            "2x3x5x7",
            "bench: a pooling is NxCxHxW,KHxKW and its settings, got '2x3x5x7'. "
            "Write it like 16x64x112x112,3x3,s2,p1.",
        ),
    ],
)
def test_wrong_text_is_explained(read, text, message):
    with pytest.raises(ArgumentError) as caught:
        read(text)
    assert str(caught.value) == message
