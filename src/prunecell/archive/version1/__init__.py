"""Files of version 1, which are read and no more written; docs/format_v1.md specifies them.

container   a safetensors file, its header checked
records     what it says about each encoded tensor
manifest    the list of tensors in it, checked against the file
"""

from prunecell.archive.version1.manifest import read_version1

__all__ = ["read_version1"]
