"""Weight sharing: the weights of a tensor take few values, and training goes on with them.

Han et al. 2016, Deep Compression, https://arxiv.org/abs/1510.00149. An archive finds the few values by itself and
stores a codebook and entropy-coded indices, without loss.

weight    one parameter whose weights take few values
sharing   Sharing, which keeps them while a model trains
share     share_: which parameters share, and the first values
"""

from prunecell.sharing.share import share_
from prunecell.sharing.sharing import Sharing

__all__ = ["Sharing", "share_"]
