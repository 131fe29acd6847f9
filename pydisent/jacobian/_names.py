"""Names of torch functions that the tracer treats specially."""

from __future__ import annotations

import operator

# Functions whose results carry no tangent, whatever the arguments: their calls are ignored.
QUERIES = frozenset(
    "detach detach_ item tolist numpy size stride dim numel nelement ndimension element_size "
    "storage_offset untyped_storage storage data_ptr get_device is_floating_point is_complex "
    "is_contiguous is_nonzero is_same_size is_inference is_pinned is_set_to is_shared is_signed "
    "register_hook register_post_accumulate_grad_hook requires_grad_ retain_grad share_memory_ "
    "rename_ backward grad zeros_like ones_like empty_like full_like rand_like randn_like "
    "randint_like new new_zeros new_ones new_full new_empty new_tensor".split()
)
# Functions with boolean or integer results, unless these are written into ``out``.
PREDICATES = frozenset(
    "lt gt le ge eq ne __lt__ __gt__ __le__ __ge__ __eq__ __ne__ __bool__ less greater less_equal "
    "greater_equal not_equal equal allclose isclose isnan isinf isfinite isposinf isneginf isreal "
    "signbit any all logical_and logical_or logical_xor logical_not argmax argmin argsort "
    "count_nonzero nonzero searchsorted bucketize".split()
)
# Piecewise constant functions; autograd gives them a derivative of zero.
STEPWISE = frozenset("round floor ceil trunc fix sign heaviside floor_divide __floordiv__".split())
# Piecewise constant functions, or the identity, for which torch adds no node to the graph.
NO_SLOPE = frozenset(
    "to type_as expand_as view_as reshape_as nextafter histc histogram bincount frexp bernoulli "
    "multinomial".split()
)
# Random functions that have a rule; for those without one, draws are detected.
RANDOM = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout "
    "rrelu native_dropout".split()
)
# Attributes that are views of their tensor.
READERS = {name: operator.attrgetter(name) for name in "T mT H mH real imag".split()}
