"""Build lighter tiers of a model: quantize, prune, distil, search. Needs torch: the extra ``tiers``."""
