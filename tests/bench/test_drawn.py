"""The campaign of drawn shapes: its draws can be computed, and it reports what it measured."""

import importlib.util
import json
from pathlib import Path

import pytest

from minigrad.bench.shapes import parse_conv

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "drawn.py"
TINY = [
    "conv2d_forward:1x2x4x5,3x1x2,p0x1",
    "conv2d_grad_input:2x3x5x4,6x3x2,s2x1,p1,g3 float64",
    "conv2d_grad_weight:1x1x7x6,2x3x3,p2,d2",
    "backward:avg_pool,2x3x5x4",
    "update:adam,3x2x1x1+5",
]
ROWS = [
    {"name": "conv2d_forward:1x2x4x5,3x1x2", "wrong": {}, "ours": 2.0, "theirs": 1.0, "ratio": 0.5},
    {"name": "relu_forward:2x3x4x5", "wrong": {}, "ours": 5.0, "theirs": 1.0, "ratio": 0.2},
    {"name": "relu_forward:2x3x4x7", "wrong": {}, "ours": 1.0, "theirs": 5.0, "ratio": 5.0},
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("drawn", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_draw_is_always_the_same_and_another_seed_draws_others(script):
    draws = [script.drawn(0, i) for i in range(40)]
    assert draws == [script.drawn(0, i) for i in range(40)]
    assert draws != [script.drawn(1, i) for i in range(40)]


def test_draws_reach_the_corners_of_the_space(script):
    names = [name for i in range(800) for name in script.drawn(0, i)]
    convs = [parse_conv(n.split()[0].split(":")[1]) for n in names if n.startswith("conv2d_f")]
    assert {1, 2, 3, 17} <= {conv.C for conv in convs} & {conv.F for conv in convs}
    assert {1, 2, 3} <= {conv.stride[0] for conv in convs} & {conv.dilation[1] for conv in convs}
    for setting in ("stride", "padding", "dilation"):
        assert any(len(set(getattr(conv, setting))) == 2 for conv in convs), setting
    assert any(conv.groups == conv.C > 1 for conv in convs)
    assert any(1 < conv.groups < conv.C for conv in convs)
    assert any(name.endswith(" float64") for name in names)
    for kind in script.OTHERS:
        assert any(name.startswith(kind) for name in names), kind


def test_every_drawn_name_makes_a_case_of_that_name(script):
    for i in range(200):
        for name in script.drawn(2, i):
            assert script.make(name, None).name == name.split()[0]


@pytest.mark.parametrize("name", TINY)
def test_a_drawn_case_is_right(script, name):
    assert script.measure(name, None, rounds=0) == {"name": name, "wrong": {}}


def test_torch_takes_turns_and_is_right(script):
    pytest.importorskip("torch")
    for name in TINY:
        row = script.measure(name, script.Torch(1), rounds=1)
        assert row["wrong"] == {}
        assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"])


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ("2x3x9x8,4x1x1,s2", "torch"),
        ("2x30x9x8,4x1x1,s1x2,g2", "torch"),
        ("2x16x9x8,4x1x1,s2", "torch channels_last"),
        ("2x3x9x8,4x1x1", "torch channels_last"),
        ("2x3x9x8,4x1x2,s2", "torch channels_last"),
    ],
)
def test_torch_is_not_led_to_write_past_its_memory(script, shape, layout):
    pytest.importorskip("torch")
    for product in ("conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight"):
        found = script.make(f"{product}:{shape}", script.Torch(1)).work(script.normal).contenders
        wanted = layout if product == "conv2d_grad_weight" else "torch channels_last"
        assert list(found) == ["minigrad", wanted]


def test_the_report_lists_what_is_slow_or_wrong_with_how_to_repeat_it(script):
    wrong = {"name": "relu_backward:1x1x1x1", "wrong": {"minigrad": "WRONG RESULT"}}
    assert "\n".join(script.report([*ROWS, wrong], 0.5)).split("\n") == [
        "torch's time over minigrad's: geometric mean, 5 % quantile, least",
        "  0.50   0.50   0.50  conv2d_forward, 1 cases",
        "  1.00   0.44   0.20  relu_forward, 2 cases",
        "  0.79   0.23   0.20  all, 3 cases",
        "1 of 3 below 0.5",
        "  0.20    5.00 s  against   1.00 s   relu_forward:2x3x4x5",
        '        python benchmarks/drawn.py --only "relu_forward:2x3x4x5"',
        "1 of 4 wrong",
        "relu_backward:1x1x1x1  minigrad: WRONG RESULT",
        '        python benchmarks/drawn.py --only "relu_backward:1x1x1x1"',
    ]


def test_rows_that_are_kept_are_summed_up(script, tmp_path, capsys):
    pytest.importorskip("torch")
    kept = tmp_path / "rows.jsonl"
    kept.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    script.main(["--only", TINY[0], "--rounds", "0", "--keep", str(kept)])
    assert len(kept.read_text().splitlines()) == len(ROWS) + 1
    assert "0 of 4 wrong" in capsys.readouterr().out
    script.main(["--count", "0", "--keep", str(kept)])
    assert "3 cases" in capsys.readouterr().out
