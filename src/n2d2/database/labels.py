"""The labels of stimuli out of a file: a line for each folder, or each file, with its name and its number."""

from collections.abc import Sequence
from pathlib import Path

from n2d2.error_handler import WrongValue
from prunecell.errors import DataError, FormatError, some


def labels_by_file(path: Path, root: Path, files: Sequence[Path]) -> tuple[list[int], list[str]]:
    """Label files by the lines `name number` of the file `path`.

    A name is the path of a folder or of a file below `root`; of several that fit a file, the longest counts.

    Returns:
        The label of each file, and the names by label; where several names have one label, the first.

    Raises:
        DataError: there is no such file.
        FormatError: a line is not a name and a number, a name has two labels, or a file has none.
    """
    if not path.is_file():
        raise DataError(f"there is no file label_path={str(path)!r}: it must have a line 'name number' for each folder")
    of_name: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        name = name.strip().strip("/")
        if not line.strip():
            continue
        if not name or not label.isdecimal() or of_name.get(name, int(label)) != int(label):
            raise FormatError(f"{path}:{number}: {line.strip()!r} must be a name and its label, one for each name")
        of_name[name] = int(label)
    labels = [_label(file.relative_to(root), of_name, path) for file in files]
    names = [str(label) for label in range(max(of_name.values()) + 1)]
    for name, its in reversed(of_name.items()):
        names[its] = name
    return labels, names


def _label(file: Path, of_name: dict[str, int], path: Path) -> int:
    for place in (file, *file.parents):
        if place.as_posix() in of_name:
            return of_name[place.as_posix()]
    raise FormatError(f"{path}: no label is given for {file}; there are labels for {some(of_name) or 'nothing'}")


def merged(
    old: Sequence[str], labels: Sequence[int], names: Sequence[str], *, fixed: bool
) -> tuple[list[int], list[str]]:
    """Number labels so that those of the same name as in `old` have its number, and new ones the next.

    Raises:
        WrongValue: `fixed`, the numbers may not change, but would.
    """
    both = list(dict.fromkeys([*old, *names]))
    numbers = [both.index(name) for name in names]
    if fixed and numbers != list(range(len(names))):
        raise WrongValue(f"the labels of label_path do not go with those that are there: {some(old)}")
    return [numbers[label] for label in labels], both
