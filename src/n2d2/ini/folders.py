"""Which files an INI file may pull in: those in its own folder and below, and in $N2D2_MODELS."""

import os
from dataclasses import dataclass
from pathlib import Path

from n2d2.ini.errors import IniError, Place

MODELS = "N2D2_MODELS"


@dataclass(frozen=True)
class Folders:
    """The folders that templates may come from.

    N2D2's own INI files name their templates `${N2D2_MODELS}/block.ini.tpl`, and have them beside them. Where that
    environment variable is not set, the folder of the INI file therefore stands in for it.

    Args:
        root: The folder of the INI file, or None when the text came from no file: then no template can be used.
    """

    root: Path | None

    @property
    def models(self) -> Path | None:
        """The folder that `${N2D2_MODELS}` stands for."""
        named = os.environ.get(MODELS)
        return Path(named) if named else self.root

    def find(self, name: str, beside: Path | None, place: Place) -> Path:
        """Return the path of template `name`, which is relative to the folder `beside`.

        Raises:
            IniError: the path leads, by `..`, by a link or as it stands, out of the folders that may be read.
        """
        if self.root is None or beside is None or self.models is None:
            raise IniError(f"template {name!r}: a text that came from no file has no folder for templates", place)
        for variable in (f"${{{MODELS}}}", f"${MODELS}"):
            name = name.replace(variable, str(self.models))
        try:
            path = (beside / name).resolve()
        except (OSError, RuntimeError) as error:  # links in a circle
            raise IniError(f"template {name!r}: {error}", place) from None
        allowed = [self.root.resolve(), self.models.resolve()]
        if not any(path.is_relative_to(folder) for folder in allowed):
            raise IniError(
                f"template {name!r} is refused: it is neither in {allowed[0]} (the folder of the INI file), "
                f"nor below it, nor in $N2D2_MODELS",
                place,
            )
        return path
