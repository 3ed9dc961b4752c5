"""A score as a short program: a few operations on the columns of a block of rows, run by one kernel.

What is worked on lies column by column, ROWS numbers each, in one array, so that every loop is over rows and becomes
vector instructions. A row is never mixed with another one, sums have one order and there is no fastmath: a score has
the same bits in whatever batch, on every processor, and in the plain Python behind the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import direct, kernel, part
from anomaly.engine.layout import F4

ROWS = 32
"""Rows in a block."""
MATMUL, TRIANGLE, SUM, TREES, ADD, SUB, MUL, DIV, MAX, MIN, SQRT, TANH, EXP, CHOOSE = range(14)
"""Operations; CHOOSE is `c` where `a` > `b`, else `d`; TRIANGLE is a MATMUL whose weights are 0 where the column of `a`
is behind that of the result; TREES is the sum of the leaves that the features come to, `a` being the first tree."""
STEP = 8
"""Numbers of a step: operation, place of the result, of `a`, `b`, `c`, `d`, and two counts.

Counts are columns of the result, and of SUM those of `a`, of TREES the trees; of a MATMUL also those of `a` that it
looks at, and both are a multiple of 4. `b` of a MATMUL is where its weights begin, as `packed` has them.
"""
Four = tuple[np.float32, np.float32, np.float32, np.float32]


class Trees(NamedTuple):
    """Decision trees one after the other: `root` and `depth` int64[trees]; of each node the column `feature` int32[m],
    `cut` float32[m], two of `child` int32[2 m], the first for rows whose column is at most the cut, and `leaf`
    float64[m], the value of what is its own child. `node` int32[ROWS] and `total` float64[ROWS] are scratch."""

    root: NDArray[np.int64]
    depth: NDArray[np.int64]
    feature: NDArray[np.int32]
    cut: NDArray[np.float32]
    child: NDArray[np.int32]
    leaf: NDArray[np.float64]
    node: NDArray[np.int32]
    total: NDArray[np.float64]


NO_TREES = Trees(
    root=np.zeros(0, np.int64),
    depth=np.zeros(0, np.int64),
    feature=np.zeros(0, np.int32),
    cut=np.zeros(0, np.float32),
    child=np.zeros(0, np.int32),
    leaf=np.zeros(0),
    node=np.zeros(ROWS, np.int32),
    total=np.zeros(ROWS),
)


class Program(NamedTuple):
    """`steps` int64[m, STEP]; `room` float32 has the block's `width` columns first, constants and weights in their
    places; `result` is the place of the scores."""

    steps: NDArray[np.int64]
    room: NDArray[np.float32]
    trees: Trees
    width: int
    result: int


def packed(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights [columns of `a`, columns of the result], both a multiple of 4, in the order in which a MATMUL uses them:
    of four columns of the result after the other, squares of 4 x 4, in which those of one column are together.

    >>> packed(np.arange(32, dtype=np.float32).reshape(8, 4)).astype(int).tolist()[:8]
    [0, 4, 8, 12, 1, 5, 9, 13]
    """
    rows, columns = weights.shape
    return weights.reshape(rows // 4, 4, columns // 4, 4).transpose(2, 0, 3, 1).ravel()


def run(program: Program, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of `features` float32[n, width], rows one after the other in memory that may be written, float32[n]."""
    out = np.empty(len(features), np.float32)
    _execute(features, program.steps, program.room, program.trees, (ROWS, program.result), out)
    return out


@part
def four(room: NDArray[np.float32], place: int, apart: int) -> Four:
    """Numbers that lie `apart`."""
    return room[place], room[place + apart], room[place + 2 * apart], room[place + 3 * apart]


@part
def dot(x: Four, w: Four) -> np.float32:
    """The sum of four products, in pairs."""
    return (x[0] * w[0] + x[1] * w[1]) + (x[2] * w[2] + x[3] * w[3])


@part
def multiply(step: NDArray[np.int64], s: int, lanes: int, room: NDArray[np.float32]) -> None:
    """The MATMUL or TRIANGLE of step s: four columns of the result together, so that what is loaded of `a` is used four
    times."""
    to, a, b, inner = step[s, 1], step[s, 2], step[s, 3], step[s, 7]
    for m in range(0, step[s, 6], 4):
        place = to + m * lanes
        for r in range(4 * lanes):
            room[place + r] = F4(0.0)
        end = min(inner, m + 4) if step[s, 0] == TRIANGLE else inner
        for k in range(0, end, 4):
            w, x = b + m * inner + 4 * k, a + k * lanes
            w0, w1, w2, w3 = four(room, w, 1), four(room, w + 4, 1), four(room, w + 8, 1), four(room, w + 12, 1)
            for r in range(lanes):
                each = four(room, x + r, lanes)
                room[place + r] += dot(each, w0)
                room[place + lanes + r] += dot(each, w1)
                room[place + 2 * lanes + r] += dot(each, w2)
                room[place + 3 * lanes + r] += dot(each, w3)


@part
def add_up(step: NDArray[np.int64], s: int, lanes: int, room: NDArray[np.float32]) -> None:
    """The SUM of step s."""
    to, a = step[s, 1], step[s, 2]
    for r in range(lanes):
        room[to + r] = room[a + r]
    for k in range(1, step[s, 7]):
        x = a + k * lanes
        for r in range(lanes):
            room[to + r] += room[x + r]


@part
def descend(
    step: NDArray[np.int64],
    s: int,
    features: NDArray[np.float32],
    rows: tuple[int, int],
    trees: Trees,
    room: NDArray[np.float32],
) -> None:
    """The TREES of step s for the rows [first, end), summed in float64 in the order of the trees.

    All rows go down a tree together, as many steps as it is deep, also those that came to a leaf before: then there is
    no branch, and the steps become vector instructions.
    """
    to, begin, many = step[s, 1], step[s, 2], step[s, 7]
    first, end = rows
    count = end - first
    for r in range(count):
        trees.total[r] = 0.0
    for t in range(begin, begin + many):
        for r in range(count):
            trees.node[r] = np.int32(trees.root[t])
        for _ in range(trees.depth[t]):
            for r in range(count):
                node = trees.node[r]
                below = features[first + r, trees.feature[node]] <= trees.cut[node]
                trees.node[r] = trees.child[2 * node + (0 if below else 1)]
        for r in range(count):
            trees.total[r] += trees.leaf[trees.node[r]]
    for r in range(count):
        room[to + r] = F4(trees.total[r])


@part
def exp(x: np.float32) -> np.float32:
    """e to the power of x, as the 1,024th power of a Taylor polynomial in float64; within the finite float32."""
    y = np.float64(min(max(x, F4(-104.0)), F4(88.72))) / 1024.0
    power = 1.0 + y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y * (1.0 / 24.0 + y * (1.0 / 120.0 + y / 720.0)))))
    for _ in range(10):
        power *= power
    return F4(power)


@part
def tanh(x: np.float32) -> np.float32:
    """The hyperbolic tangent to some units in the last place, as a quotient of polynomials in x^2 (Eigen's `ptanh`)."""
    x = min(max(x, F4(-7.9)), F4(7.9))
    y = x * x
    over = y * F4(-2.76076847742355e-16) + F4(2.00018790482477e-13)
    over = y * (y * over + F4(-8.60467152213735e-11)) + F4(5.12229709037114e-08)
    over = y * (y * over + F4(1.48572235717979e-05)) + F4(6.37261928875436e-04)
    under = y * (y * F4(1.19825839466702e-06) + F4(1.18534705686654e-04)) + F4(2.26843463243900e-03)
    return x * (y * over + F4(4.89352455891786e-03)) / (y * under + F4(4.89352518554385e-03))


@part
def calculate(step: NDArray[np.int64], s: int, lanes: int, room: NDArray[np.float32]) -> None:
    """Any other operation of step s."""
    operation, to, a, b = step[s, 0], step[s, 1], step[s, 2], step[s, 3]
    size = step[s, 6] * lanes
    if operation == ADD:
        for k in range(size):
            room[to + k] = room[a + k] + room[b + k]
    elif operation == SUB:
        for k in range(size):
            room[to + k] = room[a + k] - room[b + k]
    elif operation == MUL:
        for k in range(size):
            room[to + k] = room[a + k] * room[b + k]
    elif operation == DIV:
        for k in range(size):
            room[to + k] = room[a + k] / room[b + k]
    elif operation == MAX:
        for k in range(size):
            room[to + k] = room[a + k] if room[a + k] > room[b + k] else room[b + k]
    elif operation == MIN:
        for k in range(size):
            room[to + k] = room[a + k] if room[a + k] < room[b + k] else room[b + k]
    elif operation == SQRT:
        for k in range(size):
            room[to + k] = np.sqrt(room[a + k])
    elif operation == TANH:
        for k in range(size):
            room[to + k] = tanh(room[a + k])
    elif operation == EXP:
        for k in range(size):
            room[to + k] = exp(room[a + k])
    else:
        c, d = step[s, 4], step[s, 5]
        for k in range(size):
            room[to + k] = room[c + k] if room[a + k] > room[b + k] else room[d + k]


@kernel
def execute(
    features: NDArray[np.float32],
    steps: NDArray[np.int64],
    room: NDArray[np.float32],
    trees: Trees,
    sizes: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """See `run`; `sizes` are ROWS, which as a constant would keep the loops from becoming vector instructions, and the
    place of the result."""
    lanes, result = sizes
    count, width = features.shape
    for first in range(0, count, lanes):
        rows = min(lanes, count - first)
        for r in range(rows):
            for j in range(width):
                room[j * lanes + r] = features[first + r, j]
        for s in range(steps.shape[0]):
            if steps[s, 0] <= TRIANGLE:
                multiply(steps, s, lanes, room)
            elif steps[s, 0] == SUM:
                add_up(steps, s, lanes, room)
            elif steps[s, 0] == TREES:
                descend(steps, s, features, (first, first + rows), trees, room)
            else:
                calculate(steps, s, lanes, room)
        for r in range(rows):
            out[first + r] = room[result + r]


_execute = direct(execute)
