"""Enforcement: pruned weights stay +0.0 while a model is trained.

gradients   zeros written into gradients, and which gradient was seen when
copies      something is done when a copy is whole
levels      the optimizers that an optimizer, or what wraps some, holds
holds       who rewrites a parameter around steps
keeping     what those who keep weights ask alike
steps       how many the optimizers made, and how many of them were told
stepping    something is done around every step of an optimizer, wrappers and failures included
"""
