"""``minigrad train``: train a residual network on real images."""

import argparse
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigrad import data, kernels, models
from minigrad import train as loop
from minigrad.check.catalog import check_model
from minigrad.cli.console import Progress, checked, summary
from minigrad.cli.outputs import write_metrics, write_outputs
from minigrad.core.errors import ArgumentError, StateError
from minigrad.core.rng import manual_seed
from minigrad.data.loader import DataLoader
from minigrad.data.transforms import standard
from minigrad.io.checkpoint import load_checkpoint
from minigrad.ops.threads import set_num_threads
from minigrad.optim import adam, rmsprop, schedule, sgd

__all__ = ["add_parser", "run"]

_OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
_SCHEDULES = ("constant", "linear", "multistep", "cosine", "warmup-cosine")
_CHECK_IMAGES = 4

# What holds where nothing is said; for the data sets named, their own.
_DEFAULTS: dict[str, Any] = {
    "data": "digits",
    "root": None,
    "model": "resnet20",
    "epochs": 10,
    "batch_size": 128,
    "lr": None,
    "optimizer": "sgd",
    "schedule": "warmup-cosine",
    "clip_norm": None,
    "augment": True,
    "limit": None,
    "seed": 0,
    "save_every": 0,
    "check_gradients": False,
}
_DEFAULTS_FOR = {"digits": {"epochs": 15, "batch_size": 32}}
_LEARNING_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}

# These may differ when a run goes on: they change no bit of it.
_FREE = ("threads", "resume", "out", "command", "run", "check_gradients", "root", "save_every")

_EPILOG = """\
examples:
  minigrad train                                     digits, a minute on two cores
  minigrad train --check-gradients --seed 7          first prove the gradients right
  minigrad train --data cifar10 --root DIR --model resnet56 --epochs 20
  minigrad train --data folder --root PICTURES       PICTURES/<class>/*.png
  minigrad train --resume runs/digits-resnet20       go on where a run stopped, bit for bit

A run writes into its folder metrics.jsonl (a record an epoch), curves.png, paths.json and paths.png
(gradient shares of the convolution path and the identity path at each unit), and its checkpoint:
last.safetensors (all of it) and state.json (a copy to read).
"""


def add_parser(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "train",
        help="train a residual network on real images",
        description="Train a network on real images, with checkpoints that continue bit for bit.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # so that --resume can tell what was really asked
    )
    add = parser.add_argument
    add("--data", choices=data.NAMES, help="data set (default digits, which needs no files)")
    add("--root", metavar="DIR", help="folder with the data set's files; else they are fetched")
    add("--model", metavar="NAME", help="network, e.g. resnet20, plain56 (default resnet20)")
    add("--epochs", type=int, metavar="N", help="passes over the data (default 10; digits 15)")
    add("--batch-size", type=int, metavar="N", help="images a step (default 128; digits 32)")
    add("--lr", type=float, metavar="X", help="peak learning rate (default 0.1 sgd, else 0.001)")
    add("--optimizer", choices=_OPTIMIZERS, help="default sgd: momentum 0.9, weight decay 1e-4")
    add("--schedule", choices=_SCHEDULES, help="of the learning rate (default warmup-cosine)")
    add("--clip-norm", type=float, metavar="X", help="largest norm of the whole gradient")
    add("--augment", action=argparse.BooleanOptionalAction, help="random crops and flips (default)")
    add("--limit", type=int, metavar="N", help="train on the first N images only")
    add("--seed", type=int, metavar="N", help="same seed, same bits (default 0)")
    add("--threads", type=int, metavar="N", help="threads of the kernels; changes no bit")
    add("--out", metavar="DIR", help="folder of the run (default runs/<data>-<model>)")
    add("--save-every", type=int, metavar="N", help="checkpoint every N steps too, not only epochs")
    add("--resume", metavar="DIR", help="go on with the run in DIR")
    add("--check-gradients", action="store_true", help="check the network's gradients first")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, and write the run's folder."""
    given = vars(options)
    if given.get("threads") is not None:
        set_num_threads(given["threads"])
    if "resume" in given:
        directory = Path(given["resume"])
        settings = _resumed_settings(directory, given)
    else:
        settings = _settings(given)
        directory = _new_directory(given.get("out"), settings)
    run_ = build(settings)
    if "resume" in given:
        loop.resume(run_, directory)
        print(f"resuming {directory} at epoch {run_.epoch + 1}, step {run_.step}")
    if settings["check_gradients"] and not _gradients_are_right(run_, settings):
        return 1
    return _train(run_, settings, directory)


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given arguments, completed with the defaults."""
    name = given.get("data", _DEFAULTS["data"])
    settings = {**_DEFAULTS, **_DEFAULTS_FOR.get(name, {})}
    settings.update((key, value) for key, value in given.items() if key in _DEFAULTS)
    if settings["lr"] is None:
        settings["lr"] = _LEARNING_RATES[settings["optimizer"]]
    for key, least in (("epochs", 1), ("batch_size", 1), ("limit", 1), ("seed", 0)):
        value = settings[key]
        if value is not None and value < least:
            flag = key.replace("_", "-")
            raise ArgumentError(
                f"--{flag} is at least {least}, got {value}. Pass --{flag} {least}."
            )
    return settings


def _resumed_settings(directory: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run in ``directory``; none that decides its bits may be changed."""
    settings = load_checkpoint(directory)[1].get("settings") or {}
    if settings.keys() != _DEFAULTS.keys():
        raise StateError(
            f"--resume: a run of 'minigrad train' was expected in {directory}, the checkpoint "
            f"there was written by something else. Resume it with minigrad.train.resume."
        )
    for key, value in given.items():
        if key in settings and key not in _FREE and value != settings[key]:
            flag = key.replace("_", "-")
            raise ArgumentError(
                f"--resume continues the run as it was, with --{flag} {settings[key]}; "
                f"--{flag} {value} would make it another run. Leave --{flag} out, or start anew."
            )
    settings["check_gradients"] = given.get("check_gradients", False)
    settings["root"] = given.get("root", settings["root"])
    settings["save_every"] = given.get("save_every", settings["save_every"])
    return settings


def _new_directory(out: str | None, settings: Mapping[str, Any]) -> Path:
    """The folder of a new run: as asked, or the first free runs/<data>-<model>[-k]."""
    if out is not None:
        if (Path(out) / "last.safetensors").exists():
            raise ArgumentError(
                f"--out {out}: a new folder is needed, this one holds a checkpoint. Continue it "
                f"with --resume {out}, or pass another folder."
            )
        return Path(out)
    stem = f"{settings['data']}-{settings['model']}"
    candidates = (Path("runs") / (stem if k == 1 else f"{stem}-{k}") for k in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def build(settings: Mapping[str, Any]) -> loop.Run:
    """Everything a run needs, made from its settings: same settings, same bits."""
    train_set = data.load(settings["data"], settings["root"], "train")
    test_set = data.load(settings["data"], settings["root"], "test")
    if settings["limit"] is not None:
        train_set = train_set.limit(settings["limit"])
    manual_seed(settings["seed"])
    model = models.build(
        settings["model"], num_classes=len(train_set.classes), in_channels=train_set.shape[0]
    )
    train_loader = DataLoader(
        train_set,
        settings["batch_size"],
        standard(train_set, augment=settings["augment"]),
        shuffle=True,
        seed=settings["seed"],
    )
    test_loader = DataLoader(test_set, 500, standard(train_set, augment=False))
    steps = settings["epochs"] * len(train_loader)
    return loop.Run(
        model=model,
        optimizer=_optimizer(settings, model),
        schedule=_schedule(settings, steps),
        train_loader=train_loader,
        test_loader=test_loader,
        clip_norm=settings["clip_norm"],
    )


def _optimizer(settings: Mapping[str, Any], model: Any) -> Any:
    parameters, lr = list(model.parameters()), settings["lr"]
    match settings["optimizer"]:
        case "sgd":
            return sgd.SGD(parameters, lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
        case "adam":
            return adam.Adam(parameters, lr)
        case "adamw":
            return adam.AdamW(parameters, lr)
        case _:
            return rmsprop.RMSprop(parameters, lr, momentum=0.9)


def _schedule(settings: Mapping[str, Any], steps: int) -> Any:
    lr = settings["lr"]
    match settings["schedule"]:
        case "constant":
            return schedule.Constant(lr)
        case "linear":
            return schedule.LinearDecay(lr, 0.01 * lr, steps)
        case "multistep":
            return schedule.MultiStep(lr, (steps // 2, 3 * steps // 4), 0.1)
        case "cosine":
            return schedule.Cosine(lr, 0.0, steps)
        case _:
            return schedule.WarmUp(schedule.Cosine(lr, 0.0, steps), max(1, steps // 20))


def _gradients_are_right(run_: loop.Run, settings: Mapping[str, Any]) -> bool:
    """What ``minigrad check --model`` finds, here for this network on its first images."""
    begin = time.perf_counter()
    x, y = run_.train_loader.batch(epoch=0, index=0)
    x, y = x[:_CHECK_IMAGES], y[:_CHECK_IMAGES]
    name = f"{settings['model']} on {len(x)} images of {settings['data']}"
    report = check_model(name, x, y, run_.model, settings["seed"])
    checked([report], time.perf_counter() - begin)
    return report.ok


class _CommandWatch(loop.Watch):
    """Shows progress, saves checkpoints, and turns Ctrl-C into a stop between two steps."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], progress: Progress) -> None:
        self.directory = directory
        self.settings = dict(settings)
        self.progress = progress
        self.stopped = False

    def after_step(self, run: loop.Run) -> None:
        self.progress.step(run)
        every = self.settings["save_every"]
        if self.stopped or (every and run.step % every == 0):
            loop.save(run, self.directory, self.settings)

    def after_epoch(self, run: loop.Run) -> None:
        loop.save(run, self.directory, self.settings)
        write_metrics(run, self.directory)
        self.progress.epoch(run)

    def wants_stop(self) -> bool:
        return self.stopped

    def stop(self, *_: Any) -> None:
        """Ctrl-C: finish the step first. A second Ctrl-C ends the process at once."""
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _train(run_: loop.Run, settings: Mapping[str, Any], directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    epochs = settings["epochs"]
    with Progress(run_, epochs) as progress:
        watch = _CommandWatch(directory, settings, progress)
        before = signal.signal(signal.SIGINT, watch.stop)
        try:
            loop.train(run_, epochs, watch)
        finally:
            signal.signal(signal.SIGINT, before)
    write_outputs(run_, directory, f"{settings['model']} on {settings['data']}")
    if run_.epoch < epochs:
        print(
            f"stopped after step {run_.step}, in epoch {run_.epoch + 1} of {epochs}; saved. Go on "
            f"with: minigrad train --resume {directory}",
            file=sys.stderr,
        )
        return 130
    summary(run_, directory, kernels.get_num_threads())
    return 0
