"""Integer weights: each weight is a whole number times a step, learned under the price of its bits or to few bits.

specs       RateSpec and IntSpec: what is wanted
prices      what a weight's integer costs in bits, and how that changes with it
images      which inputs are pixels, so that neighbouring columns are alike
sizes       how many bytes integers take
rules       how a weight and its latent belong together under each kind of spec
passes      what is done to a weight around a step, in one pass over its memory
beside      who else has a parameter
weight      one parameter whose latent takes its place during an optimizer step
whole       what the weights under one spec are part of
steering    the price that brings weights to a wanted size, and how they are cut to it
group       the weights under one spec as time goes by
state       what state_dict holds
targets     from a plan to weights, or why not
quantizer   the Quantizer
"""

from prunecell.quantization.quantizer import Quantizer
from prunecell.quantization.specs import IntSpec, RateSpec

__all__ = ["IntSpec", "Quantizer", "RateSpec"]
