"""Files that hold tensors by name: read, written, and turned into one another, tensor by tensor.

contents                 what a file holds, as it is read or written
torch_file, safetensors_file, shards_file, archive_file, csr_file   one kind each
nested                   a state_dict within a checkpoint, and what stands around it
minus_zeros              -0.0, which packs badly
formats                  the table of them all; pack, unpack, read
"""

from prunecell.files.formats import FILE_FORMATS, pack, read, unpack

__all__ = ["FILE_FORMATS", "pack", "read", "unpack"]
