"""A score as a short program: a few operations on the columns of a block of rows, run by one kernel.

What is worked on lies column by column, ROWS numbers each, in one array, so that every loop is over rows and becomes
vector instructions. A row is never mixed with another one, sums have one order and there is no fastmath: a score has
the same bits in whatever batch, on every processor, and in the plain Python behind the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part
from anomaly.engine.layout import F4

ROWS = 32
"""Rows in a block."""
MATMUL, TRIANGLE, SUM, ADD, SUB, MUL, DIV, MAX, MIN, SQRT, TANH, CHOOSE = range(12)
"""Operations; CHOOSE is `c` where `a` > `b`, else `d`; TRIANGLE is a MATMUL whose weights are 0 where the column of `a`
is behind that of the result."""
STEP = 8
"""Numbers of a step: operation, place of the result, of `a`, `b`, `c`, `d`, and two counts.

Counts are columns of the result, and of a MATMUL the columns of `a` that it looks at, a multiple of 4, of SUM those of
`a`. `b` of a MATMUL is where its weights begin, column after column of the result, each as long as `a` is looked at.
"""


class Program(NamedTuple):
    """`steps` int64[m, STEP]; `room` float32 has the block's `width` columns first, constants and weights in their
    places; `result` is the place of the scores."""

    steps: NDArray[np.int64]
    room: NDArray[np.float32]
    width: int
    result: int


def run(program: Program, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of `features` float32[n, width], float32[n]."""
    out = np.empty(len(features), np.float32)
    execute(features, program.steps, program.room, (ROWS, program.result), out)
    return out


@part
def multiply(step: NDArray[np.int64], s: int, lanes: int, room: NDArray[np.float32]) -> None:
    """The MATMUL or TRIANGLE of step s."""
    to, a, b, inner = step[s, 1], step[s, 2], step[s, 3], step[s, 7]
    for m in range(step[s, 6]):
        place = to + m * lanes
        for r in range(lanes):
            room[place + r] = F4(0.0)
        end = min(inner, m + 4) if step[s, 0] == TRIANGLE else inner
        for k in range(0, end, 4):
            w = b + m * inner + k
            w0, w1, w2, w3 = room[w], room[w + 1], room[w + 2], room[w + 3]
            x = a + k * lanes
            for r in range(lanes):
                pair = room[x + r] * w0 + room[x + lanes + r] * w1
                room[place + r] += pair + (room[x + 2 * lanes + r] * w2 + room[x + 3 * lanes + r] * w3)


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
    else:
        c, d = step[s, 4], step[s, 5]
        for k in range(size):
            room[to + k] = room[c + k] if room[a + k] > room[b + k] else room[d + k]


@kernel
def execute(
    features: NDArray[np.float32],
    steps: NDArray[np.int64],
    room: NDArray[np.float32],
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
            else:
                calculate(steps, s, lanes, room)
        for r in range(rows):
            out[first + r] = room[result + r]
