"""What can be asked of the world, as part of its name: ``scenes:mention=0.3,objects=50``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from crossgap.datasets.scenes.names import HELD_OUT_DESIGNER, MOST_OBJECTS, UNSEEN
from crossgap.errors import InputError, check_known

PREFIX = "scenes"
VERSION = 1
# what a caption may leave out; the object is always named
MENTIONED = ("size", "colour", "place", "second")
_SHARE = (0.0, 1.0)


def _option(default: Any, low: float, high: float, *, captions: bool = False) -> Any:
    """Declare an option; ``captions``: it changes captions or the amount of training, and no other scene."""
    return field(default=default, metadata={"range": (low, high), "captions": captions})


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """A world and what its captions say.

    Args:
        mention: probability with which a caption names the size, the ground's colour, the place, and the
            second object with its relation; each by itself. The object is always named.
        mention_size, mention_colour, mention_place, mention_second: the same of one factor, None: as mention.
            In a name they are written ``mention.size`` and so on.
        caption_noise: probability with which a named value of a training caption is a wrong one.
        num_captions: captions a training scene has.
        objects: kinds of things that are seen in training.
        second: share of scenes with a second object.
        pairs: training scenes; 0: without end, each drawn once.
        scenes: scenes of every other split.
        fit: scenes that training-free maps and probes are fitted on.
        world: seed of everything in it.
        version: of the world's rules; a name of another version is refused.

    Raises:
        InputError: a value out of range, or a world of another version.
    """

    mention: float = _option(0.3, *_SHARE, captions=True)
    mention_size: float | None = _option(None, *_SHARE, captions=True)
    mention_colour: float | None = _option(None, *_SHARE, captions=True)
    mention_place: float | None = _option(None, *_SHARE, captions=True)
    mention_second: float | None = _option(None, *_SHARE, captions=True)
    caption_noise: float = _option(0.0, *_SHARE, captions=True)
    num_captions: int = _option(2, 1, 16, captions=True)
    objects: int = _option(100, 2, MOST_OBJECTS - UNSEEN)
    second: float = _option(0.3, *_SHARE)
    pairs: int = _option(0, 0, 10_000_000, captions=True)
    scenes: int = _option(800, 20, 100_000)
    fit: int = _option(4000, 100, 1_000_000)
    world: int = _option(0, 0, 2**31 - 1)
    version: int = _option(VERSION, 0, 2**31 - 1)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            low, high = option.metadata["range"]
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise InputError(
                    f"{PREFIX}: {_written(option.name)}={value!r} must lie between {_number(low)} and "
                    f"{_number(high)}"
                )
            if isinstance(option.default, int) and value != int(value):
                raise InputError(f"{PREFIX}: {_written(option.name)}={value!r} must be a whole number")
        if self.version != VERSION:
            raise InputError(
                f"{PREFIX}: version={self.version} is another world than the one made here (version "
                f"{VERSION}); use the release of crossgap that made it, or leave the version out"
            )
        if 0 < self.pairs < 2:
            raise InputError(f"{PREFIX}: pairs={self.pairs}: at least 2, or 0 for pairs without end")

    def mentions(self, factor: str) -> float:
        """Return the probability with which captions name a factor of :data:`MENTIONED`."""
        own: float | None = getattr(self, f"mention_{factor}")
        return self.mention if own is None else own

    @classmethod
    def parse(cls, name: str) -> SceneOptions:
        """Read the options from a dataset's name.

        Raises:
            InputError: an unknown option, one that stands twice, a value of another kind or out of range.
        """
        head, _, rest = name.partition(":")
        assert head == PREFIX, "is_scenes is asked first"
        kinds = {_written(option.name): option for option in fields(cls)}
        values: dict[str, Any] = {}
        for part in rest.split(",") if rest else ():
            written, sign, text = part.partition("=")
            written, text = written.strip(), text.strip()
            check_known(written, kinds, f"option of {PREFIX}")
            option = kinds[written]
            if option.name in values:
                raise InputError(f"dataset {name!r}: option {written} stands twice")
            values[option.name] = _read(option, text, f"dataset {name!r}: option {written}{sign}{text}")
        return cls(**values)

    def changed(self, given: Mapping[str, float | str]) -> SceneOptions:
        """Return the world with options changed, by the names that they have in a dataset's name.

        Raises:
            InputError: an unknown option, a value of another kind or out of range.
        """
        kinds = {_written(option.name): option for option in fields(self)}
        values: dict[str, Any] = {}
        for written, value in given.items():
            check_known(written, kinds, f"option of {PREFIX}")
            option = kinds[written]
            values[option.name] = _read(option, str(value), f"{PREFIX}: option {written}={value!r}")
        return replace(self, **values)

    def as_written(self) -> dict[str, float | None]:
        """Give all options by the names that they have in a dataset's name."""
        return {_written(option.name): getattr(self, option.name) for option in fields(self)}

    def same_scenes(self, other: SceneOptions) -> bool:
        """Tell whether two worlds show the same scenes outside training, whatever captions say of them."""
        of_scenes = [option.name for option in fields(self) if not option.metadata["captions"]]
        return all(getattr(self, name) == getattr(other, name) for name in of_scenes)

    @property
    def name(self) -> str:
        """The name that gives these options again: version, then what differs from the defaults."""
        changed = [option for option in fields(self) if getattr(self, option.name) != option.default]
        told = [f"version={self.version}"]
        told += [f"{_written(option.name)}={_number(getattr(self, option.name))}" for option in changed]
        return f"{PREFIX}:{','.join(told)}"


def option_lines() -> tuple[str, ...]:
    """Describe each option in a line: how it is written, its range and its default."""
    lines = []
    for option in fields(SceneOptions):
        low, high = option.metadata["range"]
        value: Any = option.default
        default = "as mention" if value is None else _number(value)
        lines.append(f"{_written(option.name)}: {_number(low)} to {_number(high)}, default {default}")
    return tuple(lines)


def is_scenes(name: str) -> bool:
    """Tell whether a dataset's name asks for this world."""
    return name == PREFIX or name.startswith(f"{PREFIX}:")


def _read(option: Field[Any], text: str, where: str) -> float:
    """Read the value of an option."""
    whole = isinstance(option.default, int)
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        low, high = option.metadata["range"]
        kind = "a whole number" if whole else "a number"
        example = 0.3 if option.default is None else option.default
        raise InputError(
            f"{where}: expected {kind} between {_number(low)} and {_number(high)}, as "
            f"{_written(option.name)}={example}"
        ) from error


def _number(value: float) -> str:
    """Write a number in full, so that it reads back as itself; whole ones without a point."""
    return repr(float(value)).removesuffix(".0")


def _written(field_name: str) -> str:
    """Write the name of a field as it stands in the name of a dataset."""
    prefix = "mention_"
    return f"mention.{field_name.removeprefix(prefix)}" if field_name.startswith(prefix) else field_name


# What each evaluation split asks. Objects, designers and pairs of object and colour that are held out are in
# no other split.
SPLITS: dict[str, str] = {
    "train": "scenes that models are trained on",
    "fit": "further scenes like those of training, that maps and probes are fitted on",
    "val": "new scenes of seen objects, on which settings are chosen",
    "test": "new scenes of seen objects",
    "test-designer": f"scenes drawn by {HELD_OUT_DESIGNER}, whom training never shows",
    "test-pairs": "pairs of object and colour that training never shows",
    "test-objects": "objects that training never shows and captions never name",
    "sealed": "new scenes of seen objects, for a study that was fixed beforehand",
}


def split_size(options: SceneOptions, split: str) -> int:
    """Count the scenes of a split; of training those that can be measured, its first ones.

    Raises:
        InputError: an unknown split.
    """
    check_known(split, SPLITS, "split of scenes")
    if split == "fit":
        return options.fit
    limited = split == "train" and options.pairs > 0
    return min(options.pairs, options.scenes) if limited else options.scenes
