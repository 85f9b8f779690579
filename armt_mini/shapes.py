"""`Float[Tensor, "batch tokens d_key"]`: a tensor's shape, written where the tensor is declared.

The tests check these annotations. Without jaxtyping they are for the reader alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:
        Bool = Float = Int = None

__all__ = ["Bool", "Float", "Int"]
