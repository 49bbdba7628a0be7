"""The sections `[database]` and `[sp]` with its transformations: where the stimuli come from. No data is touched."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from n2d2.database import DATABASES, Database
from n2d2.ini import Document, IniError, IniWarning, Section
from n2d2.ini.document import PROVIDERS
from n2d2.ini.errors import hint
from n2d2.network.parameters import GLOBAL_VALUE, chosen, configured, located, refuse, warn_of_idle
from n2d2.network.refused import (
    IDLE_DATABASE,
    IDLE_PROVIDER,
    IDLE_STIMULI_DATA,
    REFUSED_DATABASE_KEYS,
    REFUSED_DATABASES,
    REFUSED_PROVIDER_KEYS,
    REFUSED_TRANSFORMATIONS,
)
from n2d2.provider import DataProvider
from n2d2.transform import TRANSFORMATIONS, Channels, Transformation

CHANNEL = "ChannelTransformation"


@dataclass(eq=False)
class Environment:
    """A provider, and the automatic values that the file may ask for.

    Attributes:
        section: of the provider; cells take it as their `Input`.
        values: (section, key) -> what gives the value; may open the data.
    """

    section: Section
    provider: DataProvider
    values: dict[tuple[str, str], Callable[[], Any]] = field(default_factory=dict)


def read_environment(document: Document, *, data_path: str | Path | None = None) -> Environment:
    """Make the database and the provider of a file.

    Args:
        document: the file; its resolver is set to the values of the environment.
        data_path: the folder of the data, in place of the file's `DataPath`.

    Raises:
        IniError: a section is missing or refused, or a value is illegal.
    """
    database = _database(document, data_path)
    section = _provider_section(document)
    channels = _channels(document, section)
    size = [*_size(section)[:-1], len(channels)] if channels else _size(section)
    with located(section.place, section):
        provider = DataProvider(database, size, batch_size=section.get_int("BatchSize", 1, low=1), name=section.name)
    environment = Environment(section, provider)
    environment.values[section.name, "_EpochSize"] = cache(lambda: provider.epoch_size)
    document.resolver = lambda name, key: environment.values.get((name, key), lambda: None)()
    for part in document.starting_with(f"{section.name}."):
        if part not in document.configurations(section):
            _add(environment, part)
    if channels:
        provider.add_transformation(Channels(channels))
    return environment


def _provider_section(document: Document) -> Section:
    found = [section for name in PROVIDERS if (section := document.get(name))]
    if not found:
        known = hint(PROVIDERS[0], document.sections)
        what = "it gives the size of the stimuli, SizeX, SizeY and NbChannels, and BatchSize"
        raise IniError(f"{document.file}: section [{PROVIDERS[0]}] is missing: {what}{known}")
    return found[0]


def _database(document: Document, data_path: str | Path | None) -> Database:
    section = document.get("database")
    if section is not None:
        refuse(section, REFUSED_DATABASE_KEYS)
    for part in document.starting_with("database."):
        raise IniError(f"{part}is refused: stimuli are taken whole; cut them by a SliceExtraction", part.place)
    if section is None or "Type" not in section:
        warnings.warn(f"{document.file}: no [database] with a Type: there are no stimuli", IniWarning, stacklevel=2)
        if section is not None:
            warn_of_idle(section, (*IDLE_DATABASE, "LabelPath"))
        return Database()
    kind = chosen(section, "Type", DATABASES, REFUSED_DATABASES)
    warn_of_idle(section, IDLE_DATABASE)
    given = {} if data_path is None else {"data_path": data_path}
    return configured(section, kind, **given)


def _size(section: Section) -> list[int]:
    refuse(section, REFUSED_PROVIDER_KEYS)
    warn_of_idle(section, IDLE_PROVIDER)
    if "Size" in section:
        size = section.get_ints("Size", low=1)
        if len(size) != 3:  # noqa: PLR2004 (as the message says)
            raise section.error("Size", "it must be width, height, channels")
        return size
    return [
        section.get_int("SizeX", low=1),
        section.get_int("SizeY", low=1),
        section.get_int("NbChannels", 1, low=1),
    ]


def _add(environment: Environment, part: Section) -> None:
    """Add what a section `[sp.Something...]` describes."""
    provider = environment.provider
    what = part.name.removeprefix(f"{environment.section.name}.")
    if what.startswith("StimuliData"):
        _note_global_values(environment, part)
    elif what.startswith("Transformation"):
        provider.add_transformation(_transformation(part))
    elif what.startswith("OnTheFlyTransformation"):
        provider.add_on_the_fly_transformation(_transformation(part))
    elif what.startswith(("ChannelO", "Channels")):
        raise IniError(f"{part}is refused: [{environment.section.name}.ChannelTransformation...] is here", part.place)
    elif not what.startswith(CHANNEL):
        legal = "Transformation..., OnTheFlyTransformation... and StimuliData... are known"
        raise IniError(f"{part}is unknown: after {environment.section.name!r}., {legal}", part.place)


def _channels(document: Document, section: Section) -> list[list[Transformation]]:
    """What makes each channel: a section adds a channel, or with `Channel` one step more to the making of that."""
    channels: list[list[Transformation]] = []
    for part in document.starting_with(f"{section.name}.{CHANNEL}"):
        step, place = _transformation(part), part.get_int("Channel", len(channels))
        if place > len(channels):
            raise part.error("Channel", f"there are {len(channels)} channels so far")
        if step.apply_to != "All":
            raise part.refuse("ApplyTo", "channels are made alike in all partitions")
        if place == len(channels):
            channels.append([])
        channels[place].append(step)
    return channels


def _transformation(section: Section) -> Transformation:
    return configured(section, chosen(section, "Type", TRANSFORMATIONS, REFUSED_TRANSFORMATIONS))


def _note_global_values(environment: Environment, section: Section) -> None:
    """Mean and standard deviation after the transformations so far."""
    partition = section.get_choice("ApplyTo", ("LearnOnly", "TestOnly", "ValidationOnly"), "LearnOnly")
    for name in ("mean", "stdDev"):
        value = environment.provider.global_value(name, partition.removesuffix("Only"))
        environment.values[section.name, f"{GLOBAL_VALUE}.{name}"] = value
    warn_of_idle(section, IDLE_STIMULI_DATA)
