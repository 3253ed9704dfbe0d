"""The one place where matrices are multiplied: every multiply-add of a sweep happens here."""

from .compiler import njit


@njit
def multiply_add(A, B, C):
    """``C += A @ B``; A (M, K) with any strides, B (K, N) and C (M, N) C-contiguous.

    Each element of C is one chain of additions over k in order, so its bits depend on its own
    row of A and column of B, and not on M, N or its place.
    """
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            factor = A[i, k]
            for j in range(B.shape[1]):
                C[i, j] += factor * B[k, j]
