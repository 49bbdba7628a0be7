// The hot loops of prunecell in portable C++17: compiler vector extensions, no Python, no exceptions.
//
// This is the one translation unit. It is compiled once for each instruction-set level; load.py loads the best level
// that the CPU runs and calls it through ctypes. Exported functions start with `pc_` and stand at the end of the header
// of their subject; structs.py lists them all. Every function is reentrant and keeps no state. Threads that share a call
// come from a Team, which the caller passes (team.h). A product returns an Outcome, which says what was wrong with its
// matrix (matrix.h).
//
// The words that the headers use, each for one thing:
//
//   entry     a stored element of a sparse matrix: its row, its column and its value
//   band      the rows whose entries are decoded at once
//   position  a column of the dense input and output: a sample of a linear layer, an output pixel of a convolution
//   vector    LANES numbers, as many as a register holds; a lane is one of them
//   block     the neighbouring positions that are computed at once, up to BLOCK of them, with sums in registers
//   chunk     the neighbouring positions whose inputs are copied at once, one or many blocks of them
//   panel     the inputs of a chunk as the product reads them: [column][position]
//   slice     a range of columns so small that what a block reads of it stays in the cache
//   tile      the sums of a band and a block, [row][position], where they cannot go to the output directly; in packed/
//             the positions that a packed matrix computes at once
//   segment   up to LANES neighbouring positions of one row of a picture, copied into a panel at once
//   span      the neighbouring positions of one row of a picture that a block computes and that are real outputs
//   cell      a vector of a packed convolution's panel, where vectors of the tile read it (packed/forms.h)
//   chain     layers one after the other; a link is one of them, or a pooling, with the activation behind it
//   strip     cells at equal distances that are copied in the same way (packed/strips.h)
//   group     channels of a grouped convolution, as in torch
//   run       64 neighbouring weights, whose mask is one 64-bit word

#include "contexts.h"
#include "cpu.h"
#include "convolution/convolution.h"
#include "formats/formats.h"
#include "kept.h"
#include "latents.h"
#include "linear.h"
#include "literals.h"
#include "packed/pictures.h"
#include "packed/quad_linear.h"
#include "masks/pruned.h"
#include "masks/selection.h"
#include "words.h"
