"""From the nodes of a circuit to a program: which steps, in which order, in which rows.

A circuit as it was traced is a list of nodes, each an input, a constant, or an operation on nodes
before it: ``v[k] = op[k](v[x[k]], v[y[k]])``, an operation of one operand having y = x.

The caller owns all arrays.
"""

from typing import NamedTuple

from ..abi import Flags, Indices, Triples, Word
from ..compiler import inlined, kernel

# Codes of nodes that are no operations.
INPUT, CONSTANT = -1, -2


@kernel
def mark_needed(codes: Indices, x: Indices, y: Indices, needed: Flags):
    """Mark what marked nodes are computed from; only outputs are marked before."""
    for k in range(codes.size - 1, -1, -1):
        if needed[k] and codes[k] >= 0:
            needed[x[k]] = needed[y[k]] = True


@kernel
def depth_first(
    codes: Indices, x: Indices, y: Indices, outputs: Indices, path: Indices, placed: Flags,
    order: Indices,
) -> Word:  # fmt: skip
    """Order operations so that each stands soon before its first use: depth first from the outputs.

    Of two operands the later one comes first, which more is likely to lead to.
    path : (K,) scratch memory. placed : (K,) for K nodes, true for those that are no operations;
    overwritten. order : (n,) is overwritten. Returns n, the number of operations.
    """
    count = 0
    for output in outputs:
        path[0], length = output, 1
        while length > 0:
            k = path[length - 1]
            if placed[k]:
                length -= 1
                continue
            late, early = max(x[k], y[k]), min(x[k], y[k])
            if not placed[late]:
                path[length] = late
                length += 1
            elif not placed[early]:
                path[length] = early
                length += 1
            else:
                order[count], placed[k] = k, True
                count += 1
    return count


class Lists(NamedTuple):
    """Scratch memory of `arrange` for K nodes, int32; everything is -1 but counts, which are 0."""

    users: Indices  # (K,) the first use of each node: 2 k is its use as x of k, 2 k + 1 as y
    next_use: Indices  # (2 K,) and the one after each use
    waits: Indices  # (K,) operands that are not there yet; then the next node that is ready
    ready: Indices  # (N_OPERATIONS,) the first node that is ready, of each operation
    counts: Indices  # (N_OPERATIONS,) and how many


@kernel
def arrange(
    codes: Indices, x: Indices, y: Indices, nodes: Indices, lists: Lists, order: Indices,
    runs: Triples,
) -> Word:  # fmt: skip
    """Order the operations of a segment so that there are few runs of equal ones.

    Greedy: of the operations whose operands are there, those that most are ready of go next, with
    all that become ready meanwhile, until none is left.

    nodes : (n,) operations as they were traced. order : (n,) is overwritten. runs : (n, 3) too, by
    operation, first place in `order`, and the one behind the last, of each run.
    Returns the number of runs.
    """
    for i in range(nodes.size):
        enlist(nodes[i], x[nodes[i]], y[nodes[i]], nodes[0], codes, lists)
    for i in range(nodes.size - 1, -1, -1):
        if lists.waits[nodes[i]] == 0:
            push(nodes[i], codes, lists)
    done = count = 0
    while done < nodes.size:
        code = most_ready(lists.counts)
        runs[count, 0], runs[count, 1] = code, done
        while lists.ready[code] >= 0:
            order[done] = pop(code, lists)
            release(order[done], codes, lists)
            done += 1
        runs[count, 2] = done
        count += 1
    return count


@inlined
def enlist(k, x, y, first, codes, lists):
    """Let node k wait for its operands in this segment, which begins at node `first`."""
    lists.waits[k] = 0
    if x >= first and codes[x] >= 0:
        lists.next_use[2 * k], lists.users[x] = lists.users[x], 2 * k
        lists.waits[k] += 1
    if y != x and y >= first and codes[y] >= 0:
        lists.next_use[2 * k + 1], lists.users[y] = lists.users[y], 2 * k + 1
        lists.waits[k] += 1


@inlined
def push(k, codes, lists):
    """Add node k to those that are ready."""
    lists.waits[k], lists.ready[codes[k]] = lists.ready[codes[k]], k
    lists.counts[codes[k]] += 1


@inlined
def pop(code, lists):
    """Remove a ready node, and return it."""
    k = lists.ready[code]
    lists.ready[code] = lists.waits[k]
    lists.counts[code] -= 1
    return k


@inlined
def release(k, codes, lists):
    """Release the nodes that waited for node k."""
    use = lists.users[k]
    lists.users[k] = -1
    while use >= 0:
        user = use // 2
        lists.waits[user] -= 1
        if lists.waits[user] == 0:
            push(user, codes, lists)
        use = lists.next_use[use]


@inlined
def most_ready(counts):
    """Return the operation that most are ready of."""
    best = 0
    for code in range(1, counts.size):
        if counts[code] > counts[best]:
            best = code
    return best
