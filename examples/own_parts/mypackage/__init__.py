"""Parts of one's own for `ssl-mi train`; my_conf/ names them."""

from mypackage.data import Stripes
from mypackage.encoder import StripeNet
from mypackage.evaluation import ActiveUnits
from mypackage.objective import AlignAndSpread

__all__ = ["ActiveUnits", "AlignAndSpread", "StripeNet", "Stripes"]
