"""N2D2's INI dialect: text to sections with typed getters, every line with its file and number.

    document = ini.read("net.ini")
    section = document.section("conv1")
    kernel = section.get_ints("KernelDims", low=1)
    document.check_all_read()       # a misspelt key is an error here

The stages, one file each:

    lines        files to lines: limits, continuation, comments
    templates    N2D2's template statements through jinja2's sandbox
    folders      which files they may read
    parser       lines to sections, inheritance
    values       variables, references
    expressions  arithmetic
    section      typed getters
    document     where names lead; what nobody read
    errors       what is wrong, and where
    effort       how much work one file may make
"""

from pathlib import Path

from n2d2.ini.document import Document, Resolver
from n2d2.ini.errors import IniError, IniWarning, Place
from n2d2.ini.folders import Folders
from n2d2.ini.lines import check_text, physical_lines, read_text
from n2d2.ini.parser import Parser
from n2d2.ini.section import Section

__all__ = ["Document", "IniError", "IniWarning", "Place", "Resolver", "Section", "parse", "read"]


def read(path: str | Path, *, lenient: bool = False, root: str | Path | None = None) -> Document:
    """Read an INI file and the templates that it names.

    Args:
        path: The file.
        lenient: `Document.check_all_read` only warns of keys that nobody read.
        root: The folder that templates may come from, with all below it; by default that of the file.

    Raises:
        IniError: the file, or a template, cannot be read or breaks the dialect. No code of theirs is ever run.
    """
    path = Path(path)
    return _parsed(read_text(path), str(path), path.parent, Path(root) if root else path.parent, lenient=lenient)


def parse(text: str, *, file: str = "<text>", folder: str | Path | None = None, lenient: bool = False) -> Document:
    r"""Parse the text of an INI file.

    Args:
        text: The whole text.
        file: Its name, for messages.
        folder: Where its templates are; without one it can use none.
        lenient: `Document.check_all_read` only warns of keys that nobody read.

    Raises:
        IniError: the text, or a template, breaks the dialect.

    >>> document = parse("$N=3\n[base]\nType=Conv\n[conv1] base\nKernelDims=${N} $(2 * ${N} - 1)")
    >>> conv = document.section("conv1")
    >>> conv.get_str("Type"), conv.get_ints("KernelDims"), conv.get_int("Stride", 1)
    ('Conv', [3, 5], 1)
    """
    folder = Path(folder) if folder is not None else None
    return _parsed(check_text(text, file), file, folder, folder, lenient=lenient)


def _parsed(text: str, file: str, folder: Path | None, root: Path | None, *, lenient: bool) -> Document:
    document = Document(file, Folders(root), lenient=lenient)
    Parser(document, folder).parse(physical_lines(text, file))
    return document
